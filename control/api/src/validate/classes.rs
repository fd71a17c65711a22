//! Rules of the classes that pods name: priority and runtime.

use super::check::{named, one_of};
use super::{immutable, names};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

/// The highest priority that users may give out; what is above is the system's.
pub const PRIORITY_LIMIT: i64 = 1_000_000_000;

/// The system's own classes with their values.
const SYSTEM: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

/// Checks a priority class.
pub fn priority_class(class: &Value, faults: &mut Vec<FieldError>) {
    let name = object::name(class);
    let value = object::integer(class, "value").unwrap_or_default();
    let own = SYSTEM.contains(&(name, value));
    if name.starts_with("system-") && !own {
        let words = "priority class names with 'system-' prefix are reserved for system use only. error: the name is not one of the system's";
        let metadata = Path::root("metadata");
        faults.push(FieldError::forbidden(metadata.child("name"), words));
    } else if value > PRIORITY_LIMIT && !own {
        let words = format!("maximum allowed value of a user defined priority is {PRIORITY_LIMIT}");
        faults.push(FieldError::forbidden(Path::root("value"), words));
    }
    one_of(
        object::text(class, "preemptionPolicy"),
        &["Never", "PreemptLowerPriority"],
        Path::root("preemptionPolicy"),
        faults,
    );
}

/// What a class is worth never changes: pods have it already.
pub fn priority_class_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    for field in ["value", "preemptionPolicy"] {
        if new.get(field) != old.get(field) {
            faults.push(FieldError::forbidden(
                Path::root(field),
                "may not be changed in an update.",
            ));
        }
    }
}

/// Checks a runtime class.
pub fn runtime_class(class: &Value, faults: &mut Vec<FieldError>) {
    named(
        object::text(class, "handler"),
        names::dns_label,
        Path::root("handler"),
        faults,
    );
    let scheduling = Path::root("scheduling");
    super::metadata::labels(
        object::map(class, "scheduling.nodeSelector"),
        scheduling.child("nodeSelector"),
        faults,
    );
    super::place::tolerations(
        object::list(class, "scheduling.tolerations"),
        scheduling.child("tolerations"),
        faults,
    );
}

/// What runs the pods of a class never changes.
pub fn runtime_class_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    immutable(new.get("handler"), old.get("handler"), Path::root("handler"), faults);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn priorities_above_the_limit_are_the_systems() {
        let paths = |name: &str, value: i64| {
            let mut faults = Vec::new();
            let class = json!({"metadata": {"name": name}, "value": value, "preemptionPolicy": "Never"});
            priority_class(&class, &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        assert!(paths("high", PRIORITY_LIMIT).is_empty());
        assert!(paths("system-node-critical", 2_000_001_000).is_empty());
        assert_eq!(paths("high", PRIORITY_LIMIT + 1), ["value"]);
        assert_eq!(paths("system-mine", 1), ["metadata.name"]);
    }
}
