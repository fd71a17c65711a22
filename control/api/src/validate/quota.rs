//! Rules of what limits a namespace: quotas and ranges.

use super::check::{NOT_NEGATIVE, unique};
use super::{immutable, names};
use crate::field_error::{FieldError, Path};
use crate::object;
use crate::quantity::Quantity;
use serde_json::{Map, Value};
use std::collections::HashSet;

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// What a quota may count besides names under a domain.
const COUNTED: [&str; 22] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
    "hugepages",
    "serviceaccounts",
];

/// Checks a quota.
pub fn resource_quota(quota: &Value, faults: &mut Vec<FieldError>) {
    let spec = Path::root("spec");
    let hard = spec.child("hard");
    for (name, amount) in object::map(quota, "spec.hard").into_iter().flatten() {
        counted_name(name, hard.key(name), faults);
        amount_of(name, amount, hard.key(name), faults);
    }
    let list = spec.child("scopes");
    let scopes = object::list(quota, "spec.scopes");
    let has = |scope: &str| scopes.iter().any(|one| one == scope);
    for scope in scopes.iter().filter_map(Value::as_str) {
        if !SCOPES.contains(&scope) {
            faults.push(FieldError::invalid(list, Value::from(scopes), "unsupported scope"));
        }
    }
    let conflict = |one, other| has(one) && has(other);
    if conflict("BestEffort", "NotBestEffort") || conflict("Terminating", "NotTerminating") {
        faults.push(FieldError::invalid(list, Value::from(scopes), "conflicting scopes"));
    }
}

fn counted_name(name: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let wrong = names::qualified_name(name);
    let standard = COUNTED.contains(&name) || name.starts_with("requests.hugepages-") || name.starts_with("hugepages-");
    if wrong.is_empty() && !name.contains('/') && !standard {
        faults.push(FieldError::invalid(
            path,
            name,
            "must be a standard resource type or fully qualified",
        ));
    }
    faults.extend(wrong.into_iter().map(|fault| FieldError::invalid(path, name, fault)));
}

fn amount_of(name: &str, amount: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let Some(read) = read(amount) else { return };
    let whole =
        name.contains("count/") || (COUNTED.contains(&name) && name.ends_with('s') && !name.contains("requests."));
    if read.is_negative() {
        faults.push(FieldError::invalid(path, read.to_string(), NOT_NEGATIVE));
    } else if whole && !read.is_whole() {
        faults.push(FieldError::invalid(path, read.to_string(), "must be an integer"));
    }
}

fn read(amount: &Value) -> Option<Quantity> {
    Quantity::parse(amount.as_str()?).ok()
}

/// A quota's scopes never change: what was counted would be another thing.
pub fn resource_quota_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let spec = Path::root("spec");
    let [after, before] = [new, old].map(|quota| object::get(quota, "spec.scopes"));
    immutable(after, before, spec.child("scopes"), faults);
}

/// Checks a range.
pub fn limit_range(range: &Value, faults: &mut Vec<FieldError>) {
    let spec = Path::root("spec");
    let list = spec.child("limits");
    let mut seen = HashSet::new();
    for (index, item) in object::list(range, "spec.limits").iter().enumerate() {
        let here = list.index(index);
        let kind = object::text(item, "type");
        unique(&mut seen, kind, here.child("type"), faults);
        for fault in names::qualified_name(kind) {
            faults.push(FieldError::invalid(here.child("type"), kind, fault));
        }
        if kind == "Pod" {
            for field in ["default", "defaultRequest"] {
                if object::map(item, field).is_some_and(|amounts| !amounts.is_empty()) {
                    let words = "may not be specified when `type` is 'Pod'";
                    faults.push(FieldError::forbidden(here.child(field), words));
                }
            }
        }
        order(item, here, faults);
    }
}

/// In each resource, the least is not more than the default request, that not more than the default, that not more than
/// the most.
fn order(item: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    const ORDER: [(&str, &str); 4] = [
        ("min", "min"),
        ("defaultRequest", "default request"),
        ("default", "default"),
        ("max", "max"),
    ];
    let amounts: [Option<&Map<String, Value>>; 4] = ORDER.map(|(field, _)| object::map(item, field));
    for (low, (field, name)) in ORDER.iter().enumerate() {
        for (resource, amount) in amounts.get(low).copied().flatten().into_iter().flatten() {
            let Some(least) = read(amount) else { continue };
            for (high, (_, other)) in ORDER.iter().enumerate().skip(low + 1) {
                let limit = amounts
                    .get(high)
                    .copied()
                    .flatten()
                    .and_then(|amounts| read(amounts.get(resource)?));
                if let Some(limit) = limit.filter(|limit| least > *limit) {
                    let words = format!("{name} value {least} is greater than {other} value {limit}");
                    let at = path.child(field);
                    faults.push(FieldError::invalid(at.key(resource), least.to_string(), words));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(check: fn(&Value, &mut Vec<FieldError>), object: Value) -> Vec<String> {
        let mut faults = Vec::new();
        check(&object, &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn quotas_count_what_there_is_to_count() {
        let quota = |spec: Value| texts(resource_quota, json!({"spec": spec}));
        let fine =
            json!({"hard": {"pods": "3", "requests.cpu": "500m", "count/jobs.batch": "4", "coracle.dev/fuel": "1k"}});
        assert!(quota(fine).is_empty());
        assert_eq!(
            quota(json!({"hard": {"pods": "500m"}})),
            ["spec.hard[pods]: Invalid value: \"500m\": must be an integer"]
        );
        assert_eq!(
            quota(json!({"hard": {"boats": "1"}})),
            ["spec.hard[boats]: Invalid value: \"boats\": must be a standard resource type or fully qualified"]
        );
        assert_eq!(quota(json!({"scopes": ["BestEffort", "NotBestEffort"]})).len(), 1);
    }

    #[test]
    fn ranges_are_in_order() {
        let range = |item: Value| texts(limit_range, json!({"spec": {"limits": [item]}}));
        assert!(range(json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}})).is_empty());
        assert_eq!(
            range(json!({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}})),
            ["spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"]
        );
        assert_eq!(
            range(json!({"type": "Pod", "default": {"cpu": "2"}})),
            ["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"]
        );
    }
}
