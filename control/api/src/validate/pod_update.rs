//! What of a pod may change once it exists: images, a shorter deadline, more tolerations, fewer scheduling gates.

use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

const ALLOWED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks a change of a pod's main object. Binding a pod to a node is not such a change.
pub fn update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let spec = Path::root("spec");
    for field in ["containers", "initContainers"] {
        let [after, before] =
            [new, old].map(|pod| object::get(pod, "spec").map_or(0, |spec| object::list(spec, field).len()));
        if after != before {
            faults.push(FieldError::forbidden(
                spec.child(field),
                "pod updates may not add or remove containers",
            ));
            return;
        }
    }
    deadline(new, old, spec.child("activeDeadlineSeconds"), faults);
    tolerations(new, old, spec.child("tolerations"), faults);
    gates(new, old, spec.child("schedulingGates"), faults);
    let mut allowed = new.get("spec").cloned().unwrap_or_default();
    let before = old.get("spec").cloned().unwrap_or_default();
    take_over(&mut allowed, &before);
    if allowed != before {
        faults.push(FieldError::forbidden(spec, ALLOWED));
    }
}

/// Gives a spec the old values of all that may change, so that what still differs may not.
fn take_over(spec: &mut Value, old: &Value) {
    for field in ["containers", "initContainers"] {
        let images: Vec<Option<Value>> = object::list(old, field)
            .iter()
            .map(|found| found.get("image").cloned())
            .collect();
        let containers = spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, image) in containers.zip(images) {
            let fields = object::fields(container);
            match image {
                Some(image) => fields.insert("image".to_owned(), image),
                None => fields.shift_remove("image"),
            };
        }
    }
    let mut fields = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    let negative = object::integer(old, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0);
    if negative && object::integer(spec, "terminationGracePeriodSeconds") == Some(1) {
        fields.push("terminationGracePeriodSeconds");
    }
    for field in fields {
        match old.get(field) {
            Some(value) => object::fields(spec).insert(field.to_owned(), value.clone()),
            None => object::fields(spec).shift_remove(field),
        };
    }
}

fn deadline(new: &Value, old: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let [after, before] = [new, old].map(|pod| object::integer(pod, "spec.activeDeadlineSeconds"));
    match (after, before) {
        (Some(after), Some(before)) if after > before => {
            faults.push(FieldError::invalid(
                path,
                after,
                format!("must be less than or equal to previous value {before}"),
            ));
        }
        (None, Some(_)) => {
            faults.push(FieldError::invalid(
                path,
                Value::Null,
                "must not update from a positive integer to nil value",
            ));
        }
        _ => {}
    }
}

fn tolerations(new: &Value, old: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let bare = |toleration: &Value| {
        let mut toleration = toleration.clone();
        object::fields(&mut toleration).shift_remove("tolerationSeconds");
        toleration
    };
    let after: Vec<Value> = object::list(new, "spec.tolerations").iter().map(bare).collect();
    if !object::list(old, "spec.tolerations")
        .iter()
        .all(|toleration| after.contains(&bare(toleration)))
    {
        let words = "existing toleration can not be modified except its tolerationSeconds";
        faults.push(FieldError::forbidden(path, words));
    }
}

fn gates(new: &Value, old: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let before = object::list(old, "spec.schedulingGates");
    for gate in object::list(new, "spec.schedulingGates") {
        if !before.contains(gate) {
            let words = "only deletion is allowed, but found new scheduling gate";
            faults.push(FieldError::forbidden(
                path,
                format!("{words} '{}'", object::name_of(gate)),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(change: Value) -> Vec<String> {
        let toleration = json!({"key": "a", "operator": "Exists"});
        let old = json!({"spec": {
            "containers": [{"name": "a", "image": "x", "env": []}], "nodeName": "n", "activeDeadlineSeconds": 10,
            "tolerations": [toleration], "schedulingGates": [{"name": "g"}],
        }});
        let mut new = old.clone();
        crate::patch::merge(&mut new, &json!({"spec": change}));
        let mut faults = Vec::new();
        update(&new, &old, &mut faults);
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn only_the_listed_fields_may_change() {
        let toleration = |key: &str| json!({"key": key, "operator": "Exists"});
        let cases = [
            (json!({}), vec![]),
            (json!({"containers": [{"name": "a", "image": "y", "env": []}]}), vec![]),
            (json!({"activeDeadlineSeconds": 5}), vec![]),
            (json!({"tolerations": [toleration("a"), toleration("b")]}), vec![]),
            (json!({"schedulingGates": null}), vec![]),
            (json!({"nodeName": "m"}), vec!["spec"]),
            (
                json!({"containers": [{"name": "b", "image": "x", "env": []}]}),
                vec!["spec"],
            ),
            (json!({"containers": []}), vec!["spec.containers"]),
            (json!({"activeDeadlineSeconds": 20}), vec!["spec.activeDeadlineSeconds"]),
            (
                json!({"activeDeadlineSeconds": null}),
                vec!["spec.activeDeadlineSeconds"],
            ),
            (json!({"tolerations": [toleration("b")]}), vec!["spec.tolerations"]),
            (
                json!({"schedulingGates": [{"name": "h"}]}),
                vec!["spec.schedulingGates"],
            ),
        ];
        for (change, wanted) in cases {
            assert_eq!(paths(change.clone()), wanted, "{change}");
        }
    }
}
