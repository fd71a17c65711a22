//! Signs what the cluster tells to everybody, with each bootstrap token: who joins by a token knows by it that the
//! authority that he is told is the cluster's own.
//!
//! Wants to be true: the ConfigMap `cluster-info`, where somebody has made it, has a signature of its `kubeconfig` for each
//! token that may sign, and no others. A signature is a JSON Web Signature without its payload.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use ring::hmac;
use serde_json::{Map, Value, json};

use super::{entry, expiration};
use crate::{
    ask::Ask,
    clock::after_seconds,
    driver::{Controller, Turn},
    key::Key,
    plan::{Action, Plan, Target},
    resource::CONFIG_MAPS,
    store::Change,
    world::{Watch, World},
};

/// The controller. Its only key is the ConfigMap.
pub static CONTROLLER: Controller = Controller {
    name: "bootstrap-signer",
    resource: CONFIG_MAPS,
    watches: &[Watch::Secret(of_token)],
    reconcile,
};

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const PREFIX: &str = "jws-kubeconfig-";
/// The ConfigMap is written by people, and rarely; while there are tokens it is looked at so often.
const LOOK_SECONDS: i64 = 60;

fn of_token(_: &Change<Secret>, _: &World, keys: &mut Vec<Key>) {
    keys.push(Key::new(NAMESPACE, NAME));
}

/// Decides on the signatures.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let ask = Ask::get(format!("{}/{NAME}", CONFIG_MAPS.path(NAMESPACE)));
    let Some(answer) = turn.ask(ask, &mut plan) else {
        return plan;
    };
    let tokens: Vec<_> = world
        .secrets
        .all()
        .into_iter()
        .filter(|secret| signs(secret, turn.now))
        .collect();
    if !tokens.is_empty() {
        plan.requeue(after_seconds(turn.now, LOOK_SECONDS));
    }
    let Ok(map) = answer else { return plan };
    let data = map.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
    let text = data.get("kubeconfig").and_then(Value::as_str).unwrap_or_default();
    let wanted: BTreeMap<String, String> = tokens
        .iter()
        .filter(|_| !text.is_empty())
        .map(|token| (format!("{PREFIX}{}", entry(token, "token-id")), sign(token, text)))
        .collect();
    let mut change = Map::new();
    for name in data
        .keys()
        .filter(|name| name.starts_with(PREFIX) && !wanted.contains_key(*name))
    {
        change.insert(name.clone(), Value::Null);
    }
    for (name, signature) in wanted {
        if data.get(&name).and_then(Value::as_str) != Some(&signature) {
            change.insert(name, signature.into());
        }
    }
    if !change.is_empty() {
        let version = map.pointer("/metadata/resourceVersion");
        let target = Target {
            resource: CONFIG_MAPS,
            key: key.clone(),
        };
        let patch = json!({"metadata": {"resourceVersion": version}, "data": change});
        plan.change(Action::merge(target, patch));
    }
    plan
}

fn signs(secret: &Secret, now: Timestamp) -> bool {
    let ends = expiration(secret).is_some_and(|end| end <= now);
    let named = entry(secret, "token-id");
    !ends
        && !named.is_empty()
        && !entry(secret, "token-secret").is_empty()
        && entry(secret, "usage-bootstrap-signing") == "true"
}

fn sign(token: &Secret, payload: &str) -> String {
    let header = format!("{{\"alg\":\"HS256\",\"kid\":\"{}\"}}", entry(token, "token-id"));
    let header = URL_SAFE_NO_PAD.encode(header);
    let key = hmac::Key::new(hmac::HMAC_SHA256, entry(token, "token-secret").as_bytes());
    let signed = hmac::sign(&key, format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload)).as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signed.as_ref()))
}
