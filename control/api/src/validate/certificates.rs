//! Rules of requests for certificates.

use super::check::one_of;
use super::names;
use crate::field_error::{FieldError, Path};
use crate::object;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The shortest life of a certificate that may be asked for, in seconds: ten minutes.
pub const EXPIRATION_LEAST_SECONDS: i64 = 600;

/// What certificates may be used for.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Checks a request.
pub fn request(request: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    body(object::text(request, "spec.request"), path.child("request"), faults);
    let usages = object::list(request, "spec.usages");
    let list = path.child("usages");
    if usages.is_empty() {
        faults.push(FieldError::required(list, "usages must be provided"));
    }
    for (index, usage) in usages.iter().filter_map(Value::as_str).enumerate() {
        one_of(usage, USAGES, list.index(index), faults);
        if usages.iter().take(index).any(|earlier| earlier == usage) {
            faults.push(FieldError::duplicate(list.index(index), usage));
        }
    }
    let here = path.child("signerName");
    match object::text(request, "spec.signerName") {
        "" => faults.push(FieldError::required(here, "")),
        "kubernetes.io/legacy-unknown" => {
            faults.push(FieldError::invalid(
                here,
                "kubernetes.io/legacy-unknown",
                "the legacy signerName is not allowed via this API version",
            ));
        }
        signer => signer_name(signer, here, faults),
    }
    let seconds = object::integer(request, "spec.expirationSeconds");
    if let Some(seconds) = seconds.filter(|seconds| *seconds < EXPIRATION_LEAST_SECONDS) {
        let words = "may not specify a duration less than 600 seconds (10 minutes)";
        faults.push(FieldError::invalid(path.child("expirationSeconds"), seconds, words));
    }
}

/// Checks a decision: there is one, and it is not taken back.
pub fn decided(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let [after, before] = [new, old].map(|request| object::list(request, "status.conditions"));
    conditions(after, faults);
    let status = Path::root("status");
    for kind in ["Approved", "Denied", "Failed"] {
        let has = |conditions: &[Value]| conditions.iter().any(|one| object::text(one, "type") == kind);
        if has(before) && !has(after) {
            let words = format!("updates may not remove a condition of type {kind:?}");
            faults.push(FieldError::forbidden(status.child("conditions"), words));
        }
    }
}

/// A request is a PEM text with one block of the right name.
fn body(base64: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let words = "PEM block type must be CERTIFICATE REQUEST";
    let text = STANDARD
        .decode(base64)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let framed = text.as_deref().map(str::trim).is_some_and(|text| {
        let names = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
        names.iter().any(|name| {
            text.strip_prefix(&format!("-----BEGIN {name}-----"))
                .and_then(|rest| rest.strip_suffix(&format!("-----END {name}-----")))
                .is_some_and(|inner| {
                    let inner: String = inner.split_whitespace().collect();
                    !inner.is_empty() && STANDARD.decode(inner).is_ok()
                })
        })
    });
    if !framed {
        faults.push(FieldError::invalid(path, base64, words));
    }
}

/// `example.com/name`.
fn signer_name(signer: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let Some((domain, name)) = signer.split_once('/').filter(|(_, name)| !name.contains('/')) else {
        let words = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        faults.push(FieldError::invalid(path, signer, words));
        return;
    };
    if !domain.contains('.') {
        let words = "should be a domain with at least two segments separated by dots";
        faults.push(FieldError::invalid(path, signer, words));
    }
    for part in [domain, name] {
        for fault in names::dns_subdomain(part) {
            faults.push(FieldError::invalid(path, signer, fault));
        }
    }
}

fn conditions(conditions: &[Value], faults: &mut Vec<FieldError>) {
    let status = Path::root("status");
    let list = status.child("conditions");
    let has = |kind: &str| conditions.iter().any(|one| object::text(one, "type") == kind);
    for (index, condition) in conditions.iter().enumerate() {
        let here = list.index(index);
        let kind = object::text(condition, "type");
        if kind.is_empty() {
            faults.push(FieldError::required(here.child("type"), ""));
        }
        if matches!(kind, "Approved" | "Denied" | "Failed") {
            one_of(
                object::text(condition, "status"),
                &["True"],
                here.child("status"),
                faults,
            );
        }
        if kind == "Denied" && has("Approved") {
            faults.push(FieldError::invalid(
                here.child("type"),
                kind,
                "Approved and Denied conditions are mutually exclusive",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_say_what_for_and_of_whom() {
        let pem = STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n");
        let paths = |change: Value| {
            let mut object =
                json!({"spec": {"request": pem, "usages": ["client auth"], "signerName": "example.com/mine"}});
            crate::patch::merge(&mut object, &change);
            let mut faults = Vec::new();
            request(&object, &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        assert!(paths(json!({})).is_empty());
        assert_eq!(paths(json!({"spec": {"request": "AAAA"}})), ["spec.request"]);
        assert_eq!(paths(json!({"spec": {"usages": ["flying"]}})), ["spec.usages[0]"]);
        assert_eq!(paths(json!({"spec": {"signerName": "mine"}})), ["spec.signerName"]);
        assert_eq!(
            paths(json!({"spec": {"expirationSeconds": 60}})),
            ["spec.expirationSeconds"]
        );
        let both = json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]);
        let mut faults = Vec::new();
        decided(&json!({"status": {"conditions": both}}), &Value::Null, &mut faults);
        assert_eq!(faults.len(), 1);
        decided(&Value::Null, &json!({"status": {"conditions": both}}), &mut faults);
        assert_eq!(faults.len(), 3);
    }
}
