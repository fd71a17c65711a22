//! What another server says of its kinds, in the forms in which this one shows it.

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::object;
use serde_json::{Map, Value, json};

use super::backend::Backend;

/// A backend with its documents.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) backend: Arc<Backend>,
    pub(crate) documents: Arc<Documents>,
}

impl Remote {
    /// Whether both show the same.
    pub(crate) fn shows(&self, other: &Self) -> bool {
        let shown = |one: &Self| {
            let backend = &one.backend;
            (
                backend.name.clone(),
                backend.available,
                backend.group_priority,
                backend.version_priority,
            )
        };
        shown(self) == shown(other) && Arc::ptr_eq(&self.documents, &other.documents)
    }
}

/// What a server said last.
#[derive(Default, Clone, PartialEq)]
pub(crate) struct Documents {
    /// The rows of its list of kinds, as they came.
    pub(crate) resources: Vec<Value>,
    /// Its OpenAPI v3 document, and where it stood: the place changes with the content.
    pub(crate) third: Option<(String, Bytes)>,
    /// The parts of its OpenAPI v2 document that are about the group, and the document's hash.
    pub(crate) second: Option<(String, Arc<Value>)>,
}

/// The rows of a version's list as the aggregated discovery has them: a kind with its parts.
pub(crate) fn aggregated(group: &str, version: &str, rows: &[Value]) -> Vec<Value> {
    let kind_of = |row: &Value| {
        let or = |field: &str, own: &str| match object::text(row, field) {
            "" => own.to_owned(),
            other => other.to_owned(),
        };
        json!({"group": or("group", group), "version": or("version", version), "kind": object::text(row, "kind")})
    };
    let verbs = |row: &Value| row.get("verbs").cloned().unwrap_or_else(|| json!([]));
    let main = rows.iter().filter(|row| !object::text(row, "name").contains('/'));
    main.map(|row| {
        let name = object::text(row, "name");
        let mut resource = json!({
            "resource": name, "responseKind": kind_of(row),
            "scope": if object::truth(row, "namespaced") { "Namespaced" } else { "Cluster" },
            "singularResource": object::text(row, "singularName"), "verbs": verbs(row),
        });
        for field in ["shortNames", "categories"] {
            if !object::list(row, field).is_empty() {
                object::set(&mut resource, field, json!(object::list(row, field)));
            }
        }
        let parts: Vec<Value> = rows
            .iter()
            .filter_map(|part| {
                let (parent, sub) = object::text(part, "name").split_once('/')?;
                (parent == name)
                    .then(|| json!({"subresource": sub, "responseKind": kind_of(part), "verbs": verbs(part)}))
            })
            .collect();
        if !parts.is_empty() {
            object::set(&mut resource, "subresources", Value::Array(parts));
        }
        resource
    })
    .collect()
}

/// The paths of a group in an OpenAPI v2 document, with the definitions.
pub(super) fn part_of_v2(document: &Value, path: &str) -> Value {
    let prefix = format!("/{path}/");
    let of = |field: &str| document.get(field).and_then(Value::as_object);
    let paths: Map<String, Value> = of("paths")
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with(&prefix) || **name == prefix.trim_end_matches('/'))
        .map(|(name, item)| (name.clone(), item.clone()))
        .collect();
    json!({"paths": paths, "definitions": of("definitions").cloned().unwrap_or_default()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_shown_with_its_parts() {
        let rows = json!([
            {"name": "boats", "singularName": "boat", "namespaced": true, "kind": "Boat", "verbs": ["get"], "shortNames": ["bt"]},
            {"name": "boats/scale", "singularName": "", "namespaced": true, "kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": ["update"]},
            {"name": "docks", "singularName": "", "namespaced": false, "kind": "Dock", "verbs": ["list"]},
        ]);
        let shown = aggregated("sea.io", "v1", rows.as_array().unwrap());
        assert_eq!(
            json!(shown),
            json!([
                {"resource": "boats", "responseKind": {"group": "sea.io", "version": "v1", "kind": "Boat"}, "scope": "Namespaced",
                 "singularResource": "boat", "verbs": ["get"], "shortNames": ["bt"],
                 "subresources": [{"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "verbs": ["update"]}]},
                {"resource": "docks", "responseKind": {"group": "sea.io", "version": "v1", "kind": "Dock"}, "scope": "Cluster",
                 "singularResource": "", "verbs": ["list"]},
            ])
        );
    }

    #[test]
    fn only_the_paths_of_the_group_are_taken() {
        let document = json!({"paths": {"/apis/a/v1/": {}, "/apis/a/v1/x": {"get": {}}, "/apis/b/v1/y": {}, "/version": {}}, "definitions": {"d": {}}});
        let part = part_of_v2(&document, "apis/a/v1");
        assert_eq!(part["paths"].as_object().unwrap().len(), 2);
        assert_eq!(part["definitions"], json!({"d": {}}));
    }
}
