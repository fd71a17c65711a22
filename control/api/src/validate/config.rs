//! Rules of ConfigMaps and Secrets: keys, size, and staying as they are once immutable.

use super::{immutable, names};
use crate::field_error::{FieldError, Path};
use crate::object;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::HashSet;

/// All values of a ConfigMap or Secret together, in bytes. Kubernetes' limit, a little below what its store takes.
pub const DATA_LIMIT_BYTES: usize = 1024 * 1024;

/// The annotation of a token's Secret that names the account.
const ACCOUNT: &str = "kubernetes.io/service-account.name";

/// Checks a ConfigMap.
pub fn config_map(map: &Value, faults: &mut Vec<FieldError>) {
    let mut size = 0;
    let mut seen = HashSet::new();
    for field in ["data", "binaryData"] {
        let path = Path::root(field);
        for (key, value) in object::map(map, field).into_iter().flatten() {
            key_faults(key, path, faults);
            if !seen.insert(key) {
                let words = "duplicate of key present in data";
                faults.push(FieldError::invalid(path.key(key), key.as_str(), words));
            }
            let text = value.as_str().unwrap_or_default();
            size += if field == "data" {
                text.len()
            } else {
                decoded_length(text)
            };
        }
    }
    if size > DATA_LIMIT_BYTES {
        faults.push(FieldError::too_long("", DATA_LIMIT_BYTES));
    }
}

/// Checks a Secret.
pub fn secret(secret: &Value, faults: &mut Vec<FieldError>) {
    let data = Path::root("data");
    let mut size = 0;
    for (key, value) in object::map(secret, "data").into_iter().flatten() {
        key_faults(key, data, faults);
        size += decoded_length(value.as_str().unwrap_or_default());
    }
    if size > DATA_LIMIT_BYTES {
        faults.push(FieldError::too_long(data, DATA_LIMIT_BYTES));
    }
    secret_type(secret, faults);
}

/// What secrets of the known types must hold.
fn secret_type(secret: &Value, faults: &mut Vec<FieldError>) {
    let data = Path::root("data");
    let value = |key: &str| {
        object::map(secret, "data")
            .and_then(|data| data.get(key))
            .and_then(Value::as_str)
    };
    let mut need = |key: &str| {
        if value(key).is_none() {
            faults.push(FieldError::required(data.key(key), ""));
        }
    };
    match object::text(secret, "type") {
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().for_each(need),
        "kubernetes.io/ssh-auth" => need("ssh-privatekey"),
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            ["username", "password"].into_iter().for_each(need);
        }
        "kubernetes.io/dockerconfigjson" => {
            json_value(value(".dockerconfigjson"), data.key(".dockerconfigjson"), faults)
        }
        "kubernetes.io/dockercfg" => json_value(value(".dockercfg"), data.key(".dockercfg"), faults),
        "kubernetes.io/service-account-token" if object::annotation(secret, ACCOUNT).is_none_or(str::is_empty) => {
            let metadata = Path::root("metadata");
            let annotations = metadata.child("annotations");
            faults.push(FieldError::required(annotations.key(ACCOUNT), ""));
        }
        _ => {}
    }
}

fn json_value(value: Option<&str>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let Some(value) = value else {
        faults.push(FieldError::required(path, ""));
        return;
    };
    let read = STANDARD
        .decode(value)
        .ok()
        .filter(|bytes| serde_json::from_slice::<Value>(bytes).is_ok());
    if read.is_none() {
        faults.push(FieldError::invalid(
            path,
            "<secret contents redacted>",
            "must be valid JSON",
        ));
    }
}

fn key_faults(key: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for fault in names::config_key(key) {
        faults.push(FieldError::invalid(path.key(key), key, fault));
    }
}

fn decoded_length(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

/// Checks a change of a ConfigMap.
pub fn config_map_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    frozen(new, old, &["data", "binaryData"], faults);
}

/// Checks a change of a Secret.
pub fn secret_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    immutable(new.get("type"), old.get("type"), Path::root("type"), faults);
    frozen(new, old, &["data"], faults);
}

fn frozen(new: &Value, old: &Value, fields: &[&str], faults: &mut Vec<FieldError>) {
    if !object::truth(old, "immutable") {
        return;
    }
    let words = "field is immutable when `immutable` is set";
    if !object::truth(new, "immutable") {
        faults.push(FieldError::forbidden(Path::root("immutable"), words));
    }
    for field in fields {
        if object::get(new, field) != object::get(old, field) {
            faults.push(FieldError::forbidden(Path::root(field), words));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(check: impl FnOnce(&mut Vec<FieldError>)) -> Vec<String> {
        let mut faults = Vec::new();
        check(&mut faults);
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn keys_and_size_are_checked() {
        assert!(paths(|f| config_map(&json!({"data": {"a.b": "x"}, "binaryData": {"c": "AA=="}}), f)).is_empty());
        assert_eq!(paths(|f| config_map(&json!({"data": {"a/b": "x"}}), f)), ["data[a/b]"]);
        assert_eq!(
            paths(|f| config_map(&json!({"data": {"a": "x"}, "binaryData": {"a": ""}}), f)),
            ["binaryData[a]"]
        );
        let large = "x".repeat(DATA_LIMIT_BYTES + 1);
        assert_eq!(paths(|f| config_map(&json!({"data": {"a": large}}), f)).len(), 1);
        assert_eq!(paths(|f| secret(&json!({"data": {"..a": ""}}), f)), ["data[..a]"]);
    }

    #[test]
    fn typed_secrets_hold_what_their_type_needs() {
        assert_eq!(
            paths(|f| secret(&json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}), f)),
            ["data[tls.key]"]
        );
        assert!(
            paths(|f| secret(
                &json!({"type": "kubernetes.io/basic-auth", "data": {"username": ""}}),
                f
            ))
            .is_empty()
        );
        assert_eq!(
            paths(|f| secret(
                &json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eA=="}}),
                f
            ))
            .len(),
            1
        );
        assert!(paths(|f| secret(&json!({"type": "helm.sh/release.v1", "data": {"release": "eA=="}}), f)).is_empty());
    }

    #[test]
    fn what_is_immutable_stays() {
        let old = json!({"type": "Opaque", "immutable": true, "data": {"a": "AA=="}});
        assert!(paths(|f| secret_update(&old, &old, f)).is_empty());
        let new = json!({"type": "Other", "data": {"a": "AAA="}});
        assert_eq!(paths(|f| secret_update(&new, &old, f)), ["type", "immutable", "data"]);
        assert_eq!(paths(|f| config_map_update(&new, &json!({"data": {}}), f)).len(), 0);
    }
}
