//! The pod that a template asks for, as its controller creates it.
//!
//! Nothing is added here but the owner: names, labels and whatever else tells one controller's pods from another's is
//! for that controller to set.

use k8s_openapi::{api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::OwnerReference};
use serde_json::{Map, Value, json};

use crate::merge;

/// A pod with the template's labels, annotations, finalizers and specification, and that owner.
#[must_use]
pub fn pod(template: Option<&PodTemplateSpec>, owner: &OwnerReference) -> Value {
    let meta = template.and_then(|t| t.metadata.as_ref());
    let mut metadata = Map::new();
    if let Some(meta) = meta {
        let copied = [
            ("labels", meta.labels.as_ref().map(merge::value)),
            ("annotations", meta.annotations.as_ref().map(merge::value)),
            ("finalizers", meta.finalizers.as_ref().map(merge::value)),
        ];
        metadata.extend(
            copied
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?))),
        );
    }
    metadata.insert("ownerReferences".to_owned(), json!([owner]));
    let spec = template.and_then(|t| t.spec.as_ref()).map(merge::value);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// Sets `document.path` to `value`, making the objects on the way.
pub fn set(document: &mut Value, path: &[&str], value: Value) {
    let Some((last, way)) = path.split_last() else {
        *document = value;
        return;
    };
    let mut at = document;
    for name in way {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(fields) = at else { return };
        at = fields.entry(*name).or_insert_with(|| Value::Object(Map::new()));
    }
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    if let Value::Object(fields) = at {
        fields.insert((*last).to_owned(), value);
    }
}
