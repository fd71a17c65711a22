//! Rules of nodes: taints, amounts, and what a node is given once.

use super::check::{formed, named, one_of};
use super::place::EFFECTS;
use super::{names, resources};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;
use std::collections::HashSet;

/// Checks a node.
pub fn node(node: &Value, faults: &mut Vec<FieldError>) {
    let spec = Path::root("spec");
    let list = spec.child("taints");
    let mut seen = HashSet::new();
    for (index, taint) in object::list(node, "spec.taints").iter().enumerate() {
        let here = list.index(index);
        let text = |field| object::text(taint, field);
        named(text("key"), names::qualified_name, here.child("key"), faults);
        formed(text("value"), names::label_value, here.child("value"), faults);
        one_of(text("effect"), EFFECTS, here.child("effect"), faults);
        if !seen.insert((text("key"), text("effect"))) {
            faults.push(FieldError::duplicate(here, taint.clone()));
        }
    }
    let status = Path::root("status");
    for field in ["capacity", "allocatable"] {
        let amounts = node.get("status").and_then(|status| object::map(status, field));
        resources::amounts(amounts, status.child(field), faults);
    }
}

/// A node keeps the addresses of its pods and its identity with its provider.
pub fn update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let spec = Path::root("spec");
    let rules = [
        (
            "podCIDR",
            "podCIDRs",
            "node updates may not change podCIDR except from \"\" to valid",
        ),
        (
            "providerID",
            "providerID",
            "node updates may not change providerID except from \"\" to valid",
        ),
    ];
    for (field, named, words) in rules {
        let [after, before] =
            [new, old].map(|node| object::get(node, "spec").map_or("", |spec| object::text(spec, field)));
        if !before.is_empty() && after != before {
            faults.push(FieldError::forbidden(spec.child(named), words));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(object: Value) -> Vec<String> {
        let mut faults = Vec::new();
        node(&object, &mut faults);
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn taints_have_a_key_and_an_effect_and_differ() {
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        assert!(paths(json!({"spec": {"taints": [taint, {"key": "a", "effect": "NoExecute"}]}})).is_empty());
        assert_eq!(paths(json!({"spec": {"taints": [taint, taint]}})), ["spec.taints[1]"]);
        assert_eq!(
            paths(json!({"spec": {"taints": [{"effect": "Never"}]}})),
            ["spec.taints[0].key", "spec.taints[0].effect"]
        );
        assert_eq!(
            paths(json!({"status": {"capacity": {"cpu": "-1"}}})),
            ["status.capacity[cpu]"]
        );
    }

    #[test]
    fn a_pod_network_is_given_once() {
        let object = |cidr: &str| json!({"spec": {"podCIDR": cidr}});
        let count = |new: Value, old: Value| {
            let mut faults = Vec::new();
            update(&new, &old, &mut faults);
            faults.len()
        };
        assert_eq!(count(object("10.1.0.0/24"), json!({})), 0);
        assert_eq!(count(object("10.2.0.0/24"), object("10.1.0.0/24")), 1);
        assert_eq!(count(json!({}), object("10.1.0.0/24")), 1);
    }
}
