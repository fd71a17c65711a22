//! Rules of where pods may run: tolerations and affinity.

use super::check::{formed, one_of_if_set};
use super::names;
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

/// What a taint may do to pods.
pub(super) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const NODE_OPERATORS: &[&str] = &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"];

/// Checks tolerations.
pub(super) fn tolerations(tolerations: &[Value], path: Path<'_>, faults: &mut Vec<FieldError>) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let here = path.index(index);
        let text = |field| object::text(toleration, field);
        let (key, operator, value, effect) = (text("key"), text("operator"), text("value"), text("effect"));
        formed(key, names::qualified_name, here.child("key"), faults);
        if key.is_empty() && operator != "Exists" {
            let words = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            faults.push(FieldError::invalid(here.child("operator"), operator, words));
        }
        if object::get(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let words = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            faults.push(FieldError::invalid(here.child("effect"), effect, words));
        }
        match operator {
            "" | "Equal" => formed(value, names::label_value, here.child("value"), faults),
            "Exists" if !value.is_empty() => {
                let words = "value must be empty when `operator` is 'Exists'";
                faults.push(FieldError::invalid(here.child("operator"), value, words));
            }
            "Exists" => {}
            other => faults.push(FieldError::not_supported(
                here.child("operator"),
                other,
                &["Equal", "Exists"],
            )),
        }
        one_of_if_set(effect, EFFECTS, here.child("effect"), faults);
    }
}

/// Checks the node affinity of a pod spec: its terms, weights and operators.
pub(super) fn affinity(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let node = path.child("nodeAffinity");
    let field = "requiredDuringSchedulingIgnoredDuringExecution";
    let required = node.child(field);
    let found = object::get(spec, "affinity.nodeAffinity").and_then(|affinity| affinity.get(field));
    if let Some(selector) = found.filter(|found| !found.is_null()) {
        let terms = object::list(selector, "nodeSelectorTerms");
        let list = required.child("nodeSelectorTerms");
        if terms.is_empty() {
            faults.push(FieldError::required(list, "must have at least one node selector term"));
        }
        for (index, term) in terms.iter().enumerate() {
            expressions(term, list.index(index), faults);
        }
    }
    let field = "preferredDuringSchedulingIgnoredDuringExecution";
    let preferred = node.child(field);
    let found = object::get(spec, "affinity.nodeAffinity").map_or(&[][..], |affinity| object::list(affinity, field));
    for (index, choice) in found.iter().enumerate() {
        let here = preferred.index(index);
        let weight = object::integer(choice, "weight").unwrap_or_default();
        if !(1..=100).contains(&weight) {
            faults.push(FieldError::invalid(
                here.child("weight"),
                weight,
                "must be in the range 1-100",
            ));
        }
        expressions(
            choice.get("preference").unwrap_or(&Value::Null),
            here.child("preference"),
            faults,
        );
    }
}

fn expressions(term: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let list = path.child("matchExpressions");
    for (index, expression) in object::list(term, "matchExpressions").iter().enumerate() {
        let here = list.index(index);
        let operator = object::text(expression, "operator");
        let values = object::list(expression, "values").len();
        let words = match operator {
            "In" | "NotIn" if values == 0 => Some("must be specified when `operator` is 'In' or 'NotIn'"),
            "Gt" | "Lt" if values != 1 => Some("must be specified single value when `operator` is 'Lt' or 'Gt'"),
            _ => None,
        };
        if let Some(words) = words {
            faults.push(FieldError::required(here.child("values"), words));
        }
        if matches!(operator, "Exists" | "DoesNotExist") && values > 0 {
            let words = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            faults.push(FieldError::forbidden(here.child("values"), words));
        }
        if !NODE_OPERATORS.contains(&operator) {
            faults.push(FieldError::invalid(
                here.child("operator"),
                operator,
                "not a valid selector operator",
            ));
        }
        formed(
            object::text(expression, "key"),
            names::qualified_name,
            here.child("key"),
            faults,
        );
    }
}
