//! Bootstrap tokens: short secrets, kept as Secrets, with which something that has no identity yet asks for one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_api::{object, time};
use coracle_store::Snapshot;
use serde_json::Value;

use crate::document;
use crate::identity::Identity;

/// The type of these Secrets.
const TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group of everyone who comes with such a token.
const GROUP: &str = "system:bootstrappers";

/// Whose token `id.secret` is.
pub(super) fn verify(snapshot: &Snapshot, id: &str, secret: &str, now_micros: i64) -> Option<Identity> {
    let alphabet = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if id.len() != 6 || secret.len() != 16 || !alphabet(id) || !alphabet(secret) {
        return None;
    }
    let record = snapshot.get(&format!("secrets/kube-system/bootstrap-token-{id}"))?;
    let stored = document::tree(record).ok()?;
    identity(&stored, id, secret, now_micros)
}

fn identity(stored: &Value, id: &str, secret: &str, now_micros: i64) -> Option<Identity> {
    if object::text(stored, "type") != TYPE || object::deletion_timestamp(stored).is_some() {
        return None;
    }
    let data = |name: &str| -> Option<String> {
        let text = object::map(stored, "data")?.get(name)?.as_str()?;
        String::from_utf8(STANDARD.decode(text).ok()?).ok()
    };
    let same = equal(data("token-secret")?.as_bytes(), secret.as_bytes());
    if !same || data("token-id")? != id || data("usage-bootstrap-authentication")? != "true" {
        return None;
    }
    if let Some(end) = data("expiration")
        && time::parse(&end).is_none_or(|end| end <= now_micros)
    {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    if let Some(more) = data("auth-extra-groups") {
        let more = more.split(',').map(str::trim).filter(|group| !group.is_empty());
        for group in more {
            // Groups outside of this family would make the token more than a bootstrap token.
            if !group.starts_with("system:bootstrappers:") {
                return None;
            }
            groups.push(group.to_owned());
        }
    }
    Some(Identity::proven(&format!("system:bootstrap:{id}"), groups))
}

/// Compares without telling by the time it takes where two texts differ.
fn equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(extra: Value) -> Value {
        let mut data =
            json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"});
        for (name, value) in extra.as_object().unwrap() {
            data[name] = value.clone();
        }
        for value in data.as_object_mut().unwrap().values_mut() {
            *value = json!(STANDARD.encode(value.as_str().unwrap()));
        }
        json!({"type": TYPE, "data": data})
    }

    #[test]
    fn a_token_is_good_while_its_secret_says_so() {
        let check = |secret: &Value, text: &str| identity(secret, "abcdef", text, 1_000_000 * time::SECOND);
        let good = check(
            &secret(json!({"auth-extra-groups": "system:bootstrappers:w"})),
            "0123456789abcdef",
        )
        .unwrap();
        assert_eq!(&*good.user, "system:bootstrap:abcdef");
        assert_eq!(
            *good.groups,
            ["system:bootstrappers", "system:bootstrappers:w", "system:authenticated"]
        );
        for (extra, text) in [
            (json!({}), "0123456789abcdeg"),
            (json!({"usage-bootstrap-authentication": "false"}), "0123456789abcdef"),
            (json!({"expiration": "1970-01-02T00:00:00Z"}), "0123456789abcdef"),
            (json!({"expiration": "soon"}), "0123456789abcdef"),
            (json!({"auth-extra-groups": "system:masters"}), "0123456789abcdef"),
            (json!({"token-id": "other0"}), "0123456789abcdef"),
        ] {
            assert_eq!(check(&secret(extra.clone()), text), None, "{extra}");
        }
        assert!(
            check(
                &secret(json!({"expiration": "2100-01-01T00:00:00Z"})),
                "0123456789abcdef"
            )
            .is_some()
        );
    }
}
