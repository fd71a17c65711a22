//! The parts of a pod that are written through doors of their own: containers for debugging, and resources.

use super::keep_in;
use crate::object;
use serde_json::Value;

/// Makes a write to a pod's `ephemeralcontainers` change nothing but that list.
pub fn ephemeral_containers(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    match object::get(new, "spec.ephemeralContainers") {
        Some(list) => object::set(&mut kept, "spec.ephemeralContainers", list.clone()),
        None => drop(object::remove(&mut kept, "spec.ephemeralContainers")),
    }
    settle(new, kept, old);
}

/// Makes a write to a pod's `resize` change nothing but the resources of its containers, and its own.
pub fn resize(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    for field in ["containers", "initContainers"] {
        let list = kept
            .pointer_mut(&format!("/spec/{field}"))
            .and_then(Value::as_array_mut);
        for container in list.into_iter().flatten() {
            let name = object::name_of(container).to_owned();
            let mut wanted = object::list(new, &format!("spec.{field}")).iter();
            if let Some(wanted) = wanted.find(|wanted| object::name_of(wanted) == name) {
                take(container, wanted);
            }
        }
    }
    let spec = new.get("spec").cloned().unwrap_or_default();
    take(object::child(&mut kept, "spec"), &spec);
    settle(new, kept, old);
}

fn take(target: &mut Value, source: &Value) {
    match source.get("resources") {
        Some(resources) => object::fields(target).insert("resources".to_owned(), resources.clone()),
        None => object::fields(target).shift_remove("resources"),
    };
}

fn settle(new: &mut Value, mut kept: Value, old: &Value) {
    for field in ["managedFields", "resourceVersion"] {
        keep_in(&mut kept, new, "metadata", field);
    }
    if kept.get("spec") != old.get("spec") {
        object::set_generation(&mut kept, object::generation(old) + 1);
    }
    *new = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_door_leads_to_its_part_only() {
        let old = json!({"metadata": {"generation": 1}, "spec": {"nodeName": "n", "containers": [{"name": "a", "image": "x"}]}});
        let wanted = json!({"metadata": {}, "spec": {
            "nodeName": "m", "containers": [{"name": "a", "image": "y", "resources": {"limits": {"cpu": "1"}}}, {"name": "b"}],
            "ephemeralContainers": [{"name": "d"}],
        }});
        let mut new = wanted.clone();
        ephemeral_containers(&mut new, &old);
        let spec = json!({"nodeName": "n", "containers": [{"name": "a", "image": "x"}], "ephemeralContainers": [{"name": "d"}]});
        assert_eq!(new, json!({"metadata": {"generation": 2}, "spec": spec}));
        let mut new = wanted;
        resize(&mut new, &old);
        let containers = json!([{"name": "a", "image": "x", "resources": {"limits": {"cpu": "1"}}}]);
        assert_eq!(new["spec"], json!({"nodeName": "n", "containers": containers}));
        let mut same = old.clone();
        resize(&mut same, &old);
        assert_eq!(same, old);
    }
}
