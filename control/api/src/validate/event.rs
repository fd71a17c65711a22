//! Rules of events of `events.k8s.io`, in that group's own names. They are stricter than those of the core group.

use super::immutable;
use super::names;
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

/// Longest name of an instance, reason and action, and longest note, in bytes.
const LIMITS: [(&str, usize); 4] = [
    ("reportingInstance", 128),
    ("reason", 128),
    ("action", 128),
    ("note", 1024),
];
/// Fields that are there for clients of the core group only.
const OLD: [&str; 4] = [
    "deprecatedCount",
    "deprecatedFirstTimestamp",
    "deprecatedLastTimestamp",
    "deprecatedSource",
];

/// Checks an event. One without a time is as it was made in the core group, and follows its rules alone.
pub fn event(event: &Value, faults: &mut Vec<FieldError>) {
    let about = object::text(event, "regarding.namespace");
    let namespace = object::namespace(event);
    let system = about.is_empty() && matches!(namespace, "" | "default" | "kube-system");
    if !system && about != namespace {
        let path = Path::root("regarding");
        faults.push(FieldError::invalid(
            path.child("namespace"),
            about,
            "does not match event.namespace",
        ));
    }
    if object::text(event, "eventTime").is_empty() {
        faults.push(FieldError::required(Path::root("eventTime"), ""));
        return;
    }
    let controller = object::text(event, "reportingController");
    if controller.is_empty() {
        faults.push(FieldError::required(Path::root("reportingController"), ""));
    } else {
        let wrong = names::qualified_name(controller).into_iter();
        faults.extend(wrong.map(|fault| FieldError::invalid(Path::root("reportingController"), controller, fault)));
    }
    for field in ["reportingInstance", "action", "reason"] {
        if object::text(event, field).is_empty() {
            faults.push(FieldError::required(Path::root(field), ""));
        }
    }
    for (field, limit) in LIMITS {
        let text = object::text(event, field);
        if text.len() > limit {
            let words = format!("can have at most {limit} characters");
            faults.push(FieldError::invalid(Path::root(field), text, words));
        }
    }
    if !matches!(object::text(event, "type"), "Normal" | "Warning") {
        let value = object::text(event, "type");
        faults.push(FieldError::invalid(Path::root("type"), value, "has invalid value: "));
    }
    for field in OLD {
        let unset = object::get(event, field).is_none_or(|value| *value == serde_json::json!({}) || *value == 0);
        if !unset {
            let value = event.get(field).cloned().unwrap_or_default();
            faults.push(FieldError::invalid(Path::root(field), value, "needs to be unset"));
        }
    }
}

/// Only how often something was seen changes.
pub fn update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    for field in [
        "regarding",
        "reason",
        "action",
        "related",
        "reportingController",
        "reportingInstance",
        "note",
        "type",
        "eventTime",
    ] {
        immutable(
            object::get(new, field),
            object::get(old, field),
            Path::root(field),
            faults,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn newer_events_say_who_saw_what() {
        let paths = |change: Value| {
            let mut object = json!({
                "metadata": {"namespace": "a"}, "regarding": {"namespace": "a"}, "eventTime": "1970-01-01T00:00:00.000000Z",
                "reportingController": "coracle.dev/x", "reportingInstance": "x-1", "action": "Run", "reason": "Ran", "type": "Normal",
            });
            crate::patch::merge(&mut object, &change);
            let mut faults = Vec::new();
            event(&object, &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        assert!(paths(json!({})).is_empty());
        assert_eq!(paths(json!({"eventTime": null})), ["eventTime"]);
        assert_eq!(
            paths(json!({"action": null, "deprecatedCount": 1})),
            ["action", "deprecatedCount"]
        );
        assert_eq!(paths(json!({"regarding": {"namespace": "b"}})), ["regarding.namespace"]);
    }
}
