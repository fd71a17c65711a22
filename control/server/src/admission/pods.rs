//! What every new pod gets unless it says otherwise.

use coracle_api::object;
use serde_json::{Value, json};

/// How long a pod stays on a node that is not ready or cannot be reached, in seconds.
const TOLERATION_SECONDS: i64 = 300;

/// Names the service account that the pod runs as.
pub(crate) fn service_account(pod: &mut Value) {
    if object::text(pod, "spec.serviceAccountName").is_empty() {
        object::set(pod, "spec.serviceAccountName", json!("default"));
    }
    let name = object::text(pod, "spec.serviceAccountName").to_owned();
    object::set(pod, "spec.serviceAccount", json!(name));
}

/// Says how important the pod is: not at all, while there are no priority classes.
pub(crate) fn priority(pod: &mut Value) {
    if object::text(pod, "spec.priorityClassName").is_empty() {
        object::set(pod, "spec.priority", json!(0));
        if object::text(pod, "spec.preemptionPolicy").is_empty() {
            object::set(pod, "spec.preemptionPolicy", json!("PreemptLowerPriority"));
        }
    }
}

/// Lets the pod stay for a while on a node that stops answering.
pub(crate) fn tolerations(pod: &mut Value) {
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
        let mut pod = json!({"spec": {"serviceAccountName": "own", "tolerations": [{"operator": "Exists"}]}});
        service_account(&mut pod);
        tolerations(&mut pod);
        assert_eq!(pod["spec"]["serviceAccount"], "own");
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_silent_pod_gets_the_usual() {
        let mut pod = json!({"spec": {}});
        service_account(&mut pod);
        priority(&mut pod);
        tolerations(&mut pod);
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
        assert_eq!(pod["spec"]["priority"], 0);
        assert_eq!(pod["spec"]["tolerations"][1]["key"], "node.kubernetes.io/unreachable");
    }
}
