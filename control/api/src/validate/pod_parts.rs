//! What may change of a pod through the doors `ephemeralcontainers` and `resize`.

use crate::field_error::{FieldError, Path};
use crate::object;
use crate::quality;
use serde_json::Value;

/// Containers for debugging are added and stay as they are.
pub fn ephemeral_containers(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let path = path.child("ephemeralContainers");
    let after = object::list(new, "spec.ephemeralContainers");
    for known in object::list(old, "spec.ephemeralContainers") {
        let name = object::name_of(known);
        let words = match after.iter().find(|one| object::name_of(one) == name) {
            None => format!("existing ephemeral containers {name:?} may not be removed\n"),
            Some(one) if one != known => format!("existing ephemeral containers {name:?} may not be changed\n"),
            Some(_) => continue,
        };
        faults.push(FieldError::forbidden(path, words));
    }
}

/// A resize changes amounts of processor and memory, and neither takes a bound away nor makes the pod one of another class.
pub fn resize(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let spec = Path::root("spec");
    for field in ["containers", "initContainers"] {
        let list = spec.child(field);
        let before = object::list(old, &format!("spec.{field}"));
        let after = object::list(new, &format!("spec.{field}"));
        for (index, (before, after)) in before.iter().zip(after).enumerate() {
            amounts(after, before, list.index(index).child("resources"), faults);
        }
    }
    let class = quality::class(new);
    if class != quality::class(old) {
        let words = "Pod QOS Class may not change as a result of resizing";
        faults.push(FieldError::invalid(Path::root("metadata"), class, words));
    }
}

fn amounts(after: &Value, before: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for field in ["limits", "requests"] {
        let of = |container: &Value| {
            object::map(container, &format!("resources.{field}"))
                .cloned()
                .unwrap_or_default()
        };
        let (before, after) = (of(before), of(after));
        for name in ["cpu", "memory"] {
            if before.contains_key(name) && !after.contains_key(name) {
                let words = format!("resource {field} cannot be removed");
                faults.push(FieldError::forbidden(path.child(field), words));
            }
        }
        let others = |map: &serde_json::Map<String, Value>| -> Vec<(String, Value)> {
            let others = map
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "cpu" | "memory"));
            others.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        if others(&before) != others(&after) {
            let words = "only cpu and memory resources are mutable";
            faults.push(FieldError::forbidden(path.child(field), words));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(rule: fn(&Value, &Value, &mut Vec<FieldError>), old: Value, new: Value) -> Vec<String> {
        let pod = |spec: Value| json!({"metadata": {}, "spec": spec});
        let mut faults = Vec::new();
        rule(&pod(new), &pod(old), &mut faults);
        faults.iter().map(|fault| fault.path.clone()).collect()
    }

    #[test]
    fn debugging_containers_only_grow() {
        let list = |names: &[&str]| {
            let list: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "x"})).collect();
            json!({"ephemeralContainers": list})
        };
        let check = |old: &[&str], new: &[&str]| texts(ephemeral_containers, list(old), list(new)).len();
        assert_eq!(
            (check(&[], &["a"]), check(&["a"], &["a", "b"]), check(&["a"], &[])),
            (0, 0, 1)
        );
        let changed = json!({"ephemeralContainers": [{"name": "a", "image": "y"}]});
        assert_eq!(
            texts(ephemeral_containers, list(&["a"]), changed),
            ["spec.ephemeralContainers"]
        );
    }

    #[test]
    fn a_resize_keeps_bounds_and_class() {
        let of = |resources: Value| json!({"containers": [{"name": "a", "resources": resources}]});
        let small = || of(json!({"requests": {"cpu": "1"}}));
        let none: [&str; 0] = [];
        assert_eq!(texts(resize, small(), of(json!({"requests": {"cpu": "2"}}))), none);
        let gone = texts(resize, small(), of(json!({})));
        assert_eq!(gone, ["spec.containers[0].resources.requests", "metadata"]);
        let disk = of(json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}}));
        assert_eq!(texts(resize, small(), disk), ["spec.containers[0].resources.requests"]);
    }
}
