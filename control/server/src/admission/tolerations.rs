//! A new pod stays for a while on a node that stops answering, unless it says otherwise.

use coracle_api::object;
use serde_json::{Value, json};

/// How long a pod stays on a node that is not ready or cannot be reached, in seconds.
const TOLERATION_SECONDS: i64 = 300;

/// Adds the tolerations that are missing.
pub(super) fn mutate(pod: &mut Value) {
    let mut tolerations = object::list(pod, "spec.tolerations").to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !tolerations.iter().any(|toleration| covers(toleration, key)) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
    object::set(pod, "spec.tolerations", Value::Array(tolerations));
}

fn covers(toleration: &Value, key: &str) -> bool {
    let own = object::text(toleration, "key");
    let effect = object::text(toleration, "effect");
    (own == key || own.is_empty()) && (effect == "NoExecute" || effect.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_says_is_kept() {
        let mut pod = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        mutate(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 1);
        let mut pod = json!({"spec": {}});
        mutate(&mut pod);
        assert_eq!(pod["spec"]["tolerations"][1]["key"], "node.kubernetes.io/unreachable");
    }
}
