//! Which objects a quota is about.

use crate::kinds::Kind;
use crate::object;
use serde_json::Value;

use super::is;

/// Whether a quota counts an object. Scopes are about pods; a quota with scopes counts nothing else, but for claims of a
/// class of volume attributes.
pub fn matches(quota: &Value, kind: &Kind, object: &Value) -> bool {
    let scopes = object::list(quota, "spec.scopes").iter().filter_map(Value::as_str);
    let selected = object::list(quota, "spec.scopeSelector.matchExpressions");
    let mut simple = scopes.map(|scope| matches_scope(kind, object, scope, "Exists", &[]));
    let mut detailed = selected.iter().map(|expression| {
        let values: Vec<&str> = object::list(expression, "values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let (scope, operator) = (
            object::text(expression, "scopeName"),
            object::text(expression, "operator"),
        );
        matches_scope(kind, object, scope, operator, &values)
    });
    simple.all(|matches| matches) && detailed.all(|matches| matches)
}

fn matches_scope(kind: &Kind, object: &Value, scope: &str, operator: &str, values: &[&str]) -> bool {
    let class = |name: &str| match operator {
        "In" => values.contains(&name),
        "NotIn" => !values.contains(&name),
        "DoesNotExist" => name.is_empty(),
        _ => !name.is_empty(),
    };
    if scope == "VolumeAttributesClass" {
        let claim = is(kind, "", "PersistentVolumeClaim");
        return claim && class(object::text(object, "spec.volumeAttributesClassName"));
    }
    if !is(kind, "", "Pod") {
        return false;
    }
    let ending = object::integer(object, "spec.activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => ending,
        "NotTerminating" => !ending,
        "BestEffort" => best_effort(object),
        "NotBestEffort" => !best_effort(object),
        "PriorityClass" => class(object::text(object, "spec.priorityClassName")),
        "CrossNamespacePodAffinity" => crosses(object),
        _ => false,
    }
}

/// A pod that asks for nothing and is limited in nothing.
fn best_effort(pod: &Value) -> bool {
    let lists = ["spec.containers", "spec.initContainers"].into_iter();
    let mut containers = lists.flat_map(|list| object::list(pod, list));
    !containers.any(|container| {
        ["requests", "limits"].iter().any(|which| {
            let amounts = object::map(container, &format!("resources.{which}"));
            amounts.is_some_and(|amounts| amounts.contains_key("cpu") || amounts.contains_key("memory"))
        })
    })
}

fn crosses(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let base = format!("spec.affinity.{kind}");
        let required = object::list(pod, &format!("{base}.requiredDuringSchedulingIgnoredDuringExecution")).iter();
        let preferred = object::list(pod, &format!("{base}.preferredDuringSchedulingIgnoredDuringExecution")).iter();
        let preferred = preferred.filter_map(|term| object::get(term, "podAffinityTerm"));
        required.chain(preferred).any(|term| {
            !object::list(term, "namespaces").is_empty()
                || object::get(term, "namespaceSelector").is_some_and(|selector| !selector.is_null())
        })
    })
}
