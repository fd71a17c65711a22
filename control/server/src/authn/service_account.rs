//! Tokens of service accounts: good as long as they say, and only while everything that they name is still there.

use coracle_api::{object, time};
use coracle_store::{Record, Snapshot};

use super::Verified;
use super::bearer::AUDIENCE;
use crate::document;
use crate::identity::Identity;
use crate::tokens::{Bound, Claims, Legacy};

/// How long a token outlives the deletion mark of what it is bound to: a pod that is stopping still needs its token.
const LEEWAY: i64 = 60 * time::SECOND;
/// A clock that is behind by this much still accepts a fresh token, in seconds.
const SKEW_SECONDS: i64 = 10;

/// Whose token it is, judged by the objects of a snapshot. The signature has been checked.
pub(super) fn verify(
    snapshot: &Snapshot,
    claims: &Claims,
    token: &str,
    audiences: &[&str],
    now_micros: i64,
) -> Option<Verified> {
    match claims {
        Claims::Bound(bound) => verify_bound(snapshot, bound, audiences, now_micros),
        Claims::Legacy(legacy) => verify_legacy(snapshot, legacy, token, audiences),
    }
}

fn verify_bound(snapshot: &Snapshot, claims: &Bound, audiences: &[&str], now_micros: i64) -> Option<Verified> {
    let now = now_micros / time::SECOND;
    let matching = audiences
        .iter()
        .filter(|wanted| claims.aud.iter().any(|own| own == *wanted));
    let matching: Vec<String> = matching.map(|audience| (*audience).to_owned()).collect();
    if matching.is_empty() || claims.iss != AUDIENCE || now >= claims.exp || now + SKEW_SECONDS < claims.nbf {
        return None;
    }
    let home = &claims.kubernetes;
    let account = &home.serviceaccount;
    let namespace = home.namespace.as_str();
    let alive = |resource: &str, namespace: &str, name: &str, uid: &str| {
        let record = snapshot.get(&format!("{resource}/{namespace}/{name}"));
        record.is_some_and(|record| record.header.uid == uid && !is_over(record, now_micros))
    };
    let mut extra = crate::identity::Extra::new();
    let mut know = |name: &str, value: &str| {
        extra.insert(format!("authentication.kubernetes.io/{name}"), vec![value.to_owned()]);
    };
    if !alive("serviceaccounts", namespace, &account.name, &account.uid) {
        return None;
    }
    if let Some(pod) = &home.pod {
        if !alive("pods", namespace, &pod.name, &pod.uid) {
            return None;
        }
        know("pod-name", &pod.name);
        know("pod-uid", &pod.uid);
    }
    if let Some(secret) = &home.secret
        && !alive("secrets", namespace, &secret.name, &secret.uid)
    {
        return None;
    }
    if let Some(node) = &home.node {
        // A pod's token names the node for information; it is bound to the node only when it is bound to no pod.
        if home.pod.is_none() && !alive("nodes", "", &node.name, &node.uid) {
            return None;
        }
        know("node-name", &node.name);
        know("node-uid", &node.uid);
    }
    know("credential-id", &format!("JTI={}", claims.jti));
    let mut identity = Identity::service_account(namespace, &account.name);
    identity.uid = account.uid.as_str().into();
    identity.extra = extra.into();
    Some(Verified {
        identity,
        audiences: matching,
    })
}

/// Whether what a token is bound to was to be gone some time ago.
fn is_over(record: &Record, now_micros: i64) -> bool {
    if !record.header.deleting {
        return false;
    }
    let value = document::tree(record).unwrap_or_default();
    let end = object::deletion_timestamp(&value).and_then(time::parse);
    end.is_none_or(|end| end + LEEWAY < now_micros)
}

/// A token without an end, which is good while the Secret that holds it is there.
fn verify_legacy(snapshot: &Snapshot, claims: &Legacy, token: &str, audiences: &[&str]) -> Option<Verified> {
    if !audiences.contains(&AUDIENCE) {
        return None;
    }
    let record = snapshot.get(&format!("secrets/{}/{}", claims.namespace, claims.secret))?;
    let secret = document::tree(record).ok()?;
    let held = object::map(&secret, "data")?.get("token")?.as_str()?;
    let held = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, held).ok()?;
    let account = snapshot.get(&format!("serviceaccounts/{}/{}", claims.namespace, claims.name))?;
    if record.header.deleting || account.header.uid != claims.uid || held != token.as_bytes() {
        return None;
    }
    let mut identity = Identity::service_account(&claims.namespace, &claims.name);
    identity.uid = claims.uid.as_str().into();
    Some(Verified {
        identity,
        audiences: vec![AUDIENCE.to_owned()],
    })
}
