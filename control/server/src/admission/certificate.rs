//! Requests for certificates: who asks is written down, who may approve is checked, and what was approved is signed.
//!
//! The authority's key stays in the server, so the server signs: with the write that approves a request of one of the
//! signers of Kubernetes whose certificates this authority stands for. Nothing is signed that the signer does not allow,
//! whoever approved it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::status::ApiError;
use coracle_api::{object, time};
use serde_json::{Value, json};

use super::{Request, is};
use crate::authz::{self, Attributes};
use crate::pki::{Purpose, Signing};

const GROUP: &str = "certificates.k8s.io";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// What a request may want at the least: a shorter certificate could end before its holder has it.
const SHORTEST_SECONDS: u64 = 600;

fn concerns(request: &Request<'_>) -> bool {
    is(request.scope.kind, GROUP, "CertificateSigningRequest")
}

/// Writes into a new request who asks: not what the client says, but who it is.
pub(super) fn settle(request: &Request<'_>, object: &mut Value) {
    if !concerns(request) || request.old.is_some() {
        return;
    }
    let info = request.scope.identity.user_info();
    for (from, to) in [
        ("username", "username"),
        ("uid", "uid"),
        ("groups", "groups"),
        ("extra", "extra"),
    ] {
        let path = format!("spec.{to}");
        match info.get(from) {
            Some(value) => object::set(object, &path, value.clone()),
            None => {
                object::remove(object, &path);
            }
        }
    }
}

/// Refuses approvals and certificates by those who may not, and requests that nobody may approve.
pub(super) fn validate(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    if !concerns(request) {
        return Ok(());
    }
    let signer = object::text(object, "spec.signerName");
    let Some(old) = request.old else {
        return subject(request, object, signer);
    };
    let certificate = |object: &Value| object::text(object, "status.certificate").to_owned();
    if decisions(object) != decisions(old) && !may(request, "approve", signer) {
        return Err(request.forbidden(&format!(
            "user not permitted to approve requests with signerName {signer:?}"
        )));
    }
    if certificate(object) != certificate(old) && !may(request, "sign", signer) {
        return Err(request.forbidden(&format!(
            "user not permitted to sign requests with signerName {signer:?}"
        )));
    }
    Ok(())
}

/// Nobody becomes an administrator by asking for it.
fn subject(request: &Request<'_>, object: &Value, signer: &str) -> Result<(), ApiError> {
    if signer != CLIENT {
        return Ok(());
    }
    let groups = pem(object)
        .map(|pem| crate::pki::groups_of_request(&pem))
        .unwrap_or_default();
    if groups.iter().any(|group| group == crate::identity::MASTERS) {
        return Err(request.forbidden(&format!(
            "use of {CLIENT} signer with {} group is not allowed",
            crate::identity::MASTERS
        )));
    }
    Ok(())
}

/// The decisions that a request carries: their types and whether they hold.
fn decisions(object: &Value) -> Vec<(&str, &str)> {
    object::list(object, "status.conditions")
        .iter()
        .map(|condition| (object::text(condition, "type"), object::text(condition, "status")))
        .filter(|(kind, _)| matches!(*kind, "Approved" | "Denied"))
        .collect()
}

/// Whether a signer's name, or all names of its domain, are within the asker's rights.
fn may(request: &Request<'_>, verb: &str, signer: &str) -> bool {
    let right = |name: &str| {
        let attributes = Attributes {
            verb,
            group: GROUP,
            resource: "signers",
            name: Some(name),
            ..Attributes::default()
        };
        authz::allows(request.scope.core, request.scope.identity, &attributes)
    };
    let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
    right(signer) || domain.is_some_and(|domain| right(&domain))
}

/// Signs a request that has just been approved, or says why it cannot be.
pub(crate) fn sign(request: &Request<'_>, object: &mut Value) {
    if !concerns(request) || !object::text(object, "status.certificate").is_empty() {
        return;
    }
    let approved = decisions(object).contains(&("Approved", "True"));
    let denied = decisions(object).iter().any(|(kind, _)| *kind == "Denied");
    let before = request
        .old
        .is_some_and(|old| decisions(old).contains(&("Approved", "True")));
    if !approved || denied || before {
        return;
    }
    let Some(purpose) = purpose(object::text(object, "spec.signerName")) else {
        return;
    };
    let core = request.scope.core;
    let seconds = life_seconds(object::integer(object, "spec.expirationSeconds"), core.signing_seconds);
    let usages: Vec<&str> = object::list(object, "spec.usages")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let signed = match pem(object) {
        None => Err("the request is no PEM".to_owned()),
        Some(pem) => core
            .pki
            .sign_request(&Signing {
                request_pem: &pem,
                purpose,
                usages: &usages,
                seconds,
            })
            .map_err(|error| error.to_string()),
    };
    match signed {
        Ok(certificate) => object::set(object, "status.certificate", json!(STANDARD.encode(certificate))),
        Err(why) => {
            let now = time::format_seconds(core.now_micros());
            let mut conditions = object::list(object, "status.conditions").to_vec();
            conditions.push(json!({
                "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why,
                "lastUpdateTime": now, "lastTransitionTime": now,
            }));
            object::set(object, "status.conditions", Value::Array(conditions));
        }
    }
}

/// How long a certificate is to be good: as long as the request wants, and no longer than the server signs at all.
fn life_seconds(wanted: Option<i64>, most: u64) -> u64 {
    let wanted = wanted.map(|seconds| u64::try_from(seconds).unwrap_or(0).max(SHORTEST_SECONDS));
    wanted.map_or(most, |seconds| seconds.min(most))
}

fn purpose(signer: &str) -> Option<Purpose> {
    match signer {
        CLIENT => Some(Purpose::Client),
        KUBELET_CLIENT => Some(Purpose::NodeClient),
        KUBELET_SERVING => Some(Purpose::NodeServing),
        _ => None,
    }
}

fn pem(object: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(object::text(object, "spec.request")).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_as_long_as_wanted_within_what_is_signed() {
        let year = crate::config::SIGNING_SECONDS;
        assert_eq!(life_seconds(None, year), year);
        assert_eq!(life_seconds(Some(3600), year), 3600);
        assert_eq!(life_seconds(Some(2 * 365 * 86_400), year), year);
        assert_eq!(life_seconds(Some(-1), year), 600, "nobody wants less");
        assert_eq!(
            life_seconds(Some(3600), 20),
            20,
            "unless the cluster's own limit is less"
        );
    }
}
