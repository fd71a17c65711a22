//! Rules on metadata, the same for all kinds.

use super::{immutable, names};
use crate::field_error::{FieldError, Path};
use crate::kinds::{Kind, NameRule};
use crate::object;
use serde_json::Value;

/// All annotations of an object together, keys and values, in bytes. Kubernetes' limit: 256 KiB.
pub const ANNOTATIONS_LIMIT_BYTES: usize = 256 * 1024;

/// Finalizers without a domain that Kubernetes itself knows.
const PLAIN_FINALIZERS: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

/// Checks the metadata of a new object.
pub fn create(kind: &Kind, object: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("metadata");
    let generate = object::generate_name(object);
    if !generate.is_empty() {
        // Letters follow it, so a form that only lacks its end is fine.
        for fault in name_faults(kind.strategy.name, generate.trim_end_matches('-')) {
            faults.push(FieldError::invalid(path.child("generateName"), generate, fault));
        }
    }
    match object::name(object) {
        "" => faults.push(FieldError::required(
            path.child("name"),
            "name or generateName is required",
        )),
        name => {
            for fault in name_faults(kind.strategy.name, name) {
                faults.push(FieldError::invalid(path.child("name"), name, fault));
            }
        }
    }
    namespace(kind, object, faults);
    shared(kind, object, faults);
}

/// Checks the metadata of a changed object.
pub fn update(kind: &Kind, new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("metadata");
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let values = [new, old].map(|object| object.get("metadata").and_then(|metadata| metadata.get(field)));
        immutable(values[0], values[1], path.child(field), faults);
    }
    namespace(kind, new, faults);
    shared(kind, new, faults);
    if object::deletion_timestamp(old).is_some() {
        let known: Vec<&str> = object::finalizers(old).collect();
        let added: Vec<&str> = object::finalizers(new)
            .filter(|finalizer| !known.contains(finalizer))
            .collect();
        if !added.is_empty() {
            let words = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            faults.push(FieldError::forbidden(path.child("finalizers"), words));
        }
    }
}

fn name_faults(rule: NameRule, name: &str) -> Vec<String> {
    match rule {
        NameRule::Subdomain => names::dns_subdomain(name),
        NameRule::Label => names::dns_label(name),
        NameRule::ServiceName => names::service_name(name),
        NameRule::PathSegment => names::path_segment(name),
        NameRule::IpAddress => names::ip_address(name),
    }
}

fn namespace(kind: &Kind, object: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("metadata");
    let namespace = object::namespace(object);
    match (kind.namespaced, namespace.is_empty()) {
        (true, true) => faults.push(FieldError::required(path.child("namespace"), "")),
        (true, false) => {
            for fault in names::dns_label(namespace) {
                faults.push(FieldError::invalid(path.child("namespace"), namespace, fault));
            }
        }
        (false, false) => faults.push(FieldError::forbidden(
            path.child("namespace"),
            "not allowed on this type",
        )),
        (false, true) => {}
    }
}

fn shared(kind: &Kind, object: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("metadata");
    labels(object::map(object, "metadata.labels"), path.child("labels"), faults);
    annotations(object, path.child("annotations"), faults);
    owners(object, path.child("ownerReferences"), faults);
    // What users define may name its finalizers as it likes; so may its definition.
    let free = kind.custom.is_some() || kind.group == crate::custom::GROUP;
    for (index, finalizer) in object::finalizers(object).enumerate() {
        let list = path.child("finalizers");
        let mut wrong = names::qualified_name(finalizer);
        if wrong.is_empty() && !free && !finalizer.contains('/') && !PLAIN_FINALIZERS.contains(&finalizer) {
            wrong.push("name is neither a standard finalizer name nor is it fully qualified".to_owned());
        }
        for fault in wrong {
            faults.push(FieldError::invalid(list.index(index), finalizer, fault));
        }
    }
}

/// Checks a map of labels; also those of templates and selectors.
pub(super) fn labels(labels: Option<&serde_json::Map<String, Value>>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for (key, value) in labels.into_iter().flatten() {
        for fault in names::qualified_name(key) {
            faults.push(FieldError::invalid(path, key.as_str(), fault));
        }
        let text = value.as_str().unwrap_or_default();
        for fault in names::label_value(text) {
            faults.push(FieldError::invalid(path.key(key), text, fault));
        }
    }
}

fn annotations(object: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in object::annotations(object) {
        // Upper case is allowed here, unlike in the domain of a label.
        for fault in names::qualified_name(&key.to_lowercase()) {
            faults.push(FieldError::invalid(path, key, fault));
        }
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_LIMIT_BYTES {
        faults.push(FieldError::too_long(path, ANNOTATIONS_LIMIT_BYTES));
    }
}

fn owners(object: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let mut controller: Option<&Value> = None;
    for (index, owner) in object::owner_references(object).iter().enumerate() {
        let at = path.index(index);
        for (field, words) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            let value = object::text(owner, field);
            if value.is_empty() {
                faults.push(FieldError::invalid(at.child(field), value, words));
            }
        }
        if !object::truth(owner, "controller") {
            continue;
        }
        match controller {
            None => controller = Some(owner),
            Some(first) => {
                let words = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
                    object::text(first, "kind"),
                    object::text(first, "name"),
                    object::text(owner, "kind"),
                    object::text(owner, "name"),
                );
                faults.push(FieldError::invalid(
                    path,
                    Value::from(object::owner_references(object)),
                    words,
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Kinds;
    use serde_json::json;

    fn faults_of(metadata: Value) -> Vec<String> {
        let kinds = Kinds::builtin();
        let kind = kinds.find("", "v1", "configmaps").unwrap();
        let mut faults = Vec::new();
        create(kind, &json!({"metadata": metadata}), &mut faults);
        faults.iter().map(|fault| fault.path.clone()).collect()
    }

    #[test]
    fn each_part_of_metadata_has_its_rule() {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true});
        let cases = [
            (
                json!({"name": "a", "namespace": "n", "labels": {"a/b": "c"}, "finalizers": ["a.b/c", "orphan"]}),
                vec![],
            ),
            (json!({"name": "A", "namespace": "n"}), vec!["metadata.name"]),
            (json!({"name": "a"}), vec!["metadata.namespace"]),
            (json!({"namespace": "n"}), vec!["metadata.name"]),
            (json!({"name": "a-1", "generateName": "a-", "namespace": "n"}), vec![]),
            (
                json!({"name": "a-1", "generateName": "A-", "namespace": "n"}),
                vec!["metadata.generateName"],
            ),
            (
                json!({"name": "a", "namespace": "n", "labels": {"a b": "c"}}),
                vec!["metadata.labels"],
            ),
            (
                json!({"name": "a", "namespace": "n", "labels": {"a": "c d"}}),
                vec!["metadata.labels[a]"],
            ),
            (
                json!({"name": "a", "namespace": "n", "annotations": {"a": "c d", "-": ""}}),
                vec!["metadata.annotations"],
            ),
            (
                json!({"name": "a", "namespace": "n", "annotations": {"a": "x".repeat(ANNOTATIONS_LIMIT_BYTES)}}),
                vec!["metadata.annotations"],
            ),
            (
                json!({"name": "a", "namespace": "n", "finalizers": ["mine"]}),
                vec!["metadata.finalizers[0]"],
            ),
            (
                json!({"name": "a", "namespace": "n", "ownerReferences": [{"kind": "Pod", "name": "p", "uid": "u"}]}),
                vec!["metadata.ownerReferences[0].apiVersion"],
            ),
            (
                json!({"name": "a", "namespace": "n", "ownerReferences": [owner, owner]}),
                vec!["metadata.ownerReferences"],
            ),
        ];
        for (metadata, wanted) in cases {
            assert_eq!(faults_of(metadata.clone()), wanted, "{metadata}");
        }
    }

    #[test]
    fn identity_never_changes_and_a_dying_object_gets_no_new_finalizers() {
        let kinds = Kinds::builtin();
        let kind = kinds.find("", "v1", "nodes").unwrap();
        let old = json!({"metadata": {"name": "a", "uid": "u", "deletionTimestamp": "x", "finalizers": ["a.b/c"]}});
        let mut new = old.clone();
        let mut faults = Vec::new();
        update(kind, &new, &old, &mut faults);
        assert!(faults.is_empty());
        object::set_uid(&mut new, "other");
        object::set_finalizers(&mut new, &["a.b/d"]);
        update(kind, &new, &old, &mut faults);
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["metadata.uid", "metadata.finalizers"]);
    }
}
