//! Rules of the small kinds.

use super::names;
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

/// A namespace's own finalizers have the form of keys.
pub fn namespace(namespace: &Value, faults: &mut Vec<FieldError>) {
    let spec = Path::root("spec");
    let path = spec.child("finalizers");
    for (index, finalizer) in object::list(namespace, "spec.finalizers").iter().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        for fault in names::qualified_name(text) {
            faults.push(FieldError::invalid(path.index(index), text, fault));
        }
    }
}

/// An event lives where the object lives that it is about; events about objects outside of namespaces live in `default`.
pub fn event(event: &Value, faults: &mut Vec<FieldError>) {
    let about = object::text(event, "involvedObject.namespace");
    let namespace = object::namespace(event);
    let matching = match about {
        "" => matches!(namespace, "" | "default" | "kube-system"),
        about => about == namespace,
    };
    if !matching {
        let path = Path::root("involvedObject");
        faults.push(FieldError::invalid(
            path.child("namespace"),
            about,
            "does not match event.namespace",
        ));
    }
}

/// A lease lasts a positive time and never loses count of its holders.
pub fn lease(lease: &Value, faults: &mut Vec<FieldError>) {
    let spec = Path::root("spec");
    if let Some(seconds) = object::integer(lease, "spec.leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        faults.push(FieldError::invalid(
            spec.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    if let Some(count) = object::integer(lease, "spec.leaseTransitions").filter(|count| *count < 0) {
        faults.push(FieldError::invalid(
            spec.child("leaseTransitions"),
            count,
            "must be greater than or equal to 0",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn count(check: fn(&Value, &mut Vec<FieldError>), object: Value) -> usize {
        let mut faults = Vec::new();
        check(&object, &mut faults);
        faults.len()
    }

    #[test]
    fn events_live_with_what_they_are_about() {
        assert_eq!(
            count(
                event,
                json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"}})
            ),
            0
        );
        assert_eq!(
            count(
                event,
                json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}})
            ),
            1
        );
        assert_eq!(
            count(
                event,
                json!({"metadata": {"namespace": "default"}, "involvedObject": {"kind": "Node"}})
            ),
            0
        );
        assert_eq!(
            count(
                event,
                json!({"metadata": {"namespace": "a"}, "involvedObject": {"kind": "Node"}})
            ),
            1
        );
    }

    #[test]
    fn leases_last_and_count() {
        assert_eq!(
            count(
                lease,
                json!({"spec": {"leaseDurationSeconds": 40, "leaseTransitions": 0}})
            ),
            0
        );
        assert_eq!(
            count(
                lease,
                json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}})
            ),
            2
        );
    }
}
