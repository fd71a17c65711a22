//! The OpenAPI form of a custom kind: what its author wrote, with what every object has.

use serde_json::{Map, Value, json};

use super::Custom;
use crate::kinds::Kind;
use crate::schema::openapi_schema_name;

const METADATA: &str = "k8s.io/apimachinery/pkg/apis/meta/v1.ObjectMeta";

/// The name of a custom kind's schema: the group's parts in reverse, the version, the kind.
pub fn schema_name(kind: &Kind) -> String {
    let group: Vec<&str> = kind.group.rsplit('.').collect();
    format!("{}.{}.{}", group.join("."), kind.version, kind.kind)
}

/// The schema for the newer form of OpenAPI, which knows all that a definition may say.
pub fn third(kind: &Kind, custom: &Custom) -> Value {
    let mut schema = (*custom.source).clone();
    resource(&mut schema, Some(kind));
    schema
}

/// The schema for the older form: what it does not know is left out, so that clients check less rather than wrongly.
pub fn second(kind: &Kind, custom: &Custom) -> Value {
    let mut schema = (*custom.source).clone();
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
    weaken(&mut schema);
    resource(&mut schema, Some(kind));
    schema
}

fn weaken(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    for name in ["oneOf", "anyOf", "allOf", "not", "default", "x-kubernetes-validations"] {
        fields.shift_remove(name);
    }
    let is = |name: &str| fields.get(name) == Some(&Value::Bool(true));
    let (nullable, free, either) = (
        is("nullable"),
        is("x-kubernetes-preserve-unknown-fields"),
        is("x-kubernetes-int-or-string"),
    );
    if nullable {
        for name in ["nullable", "type", "items", "properties", "additionalProperties"] {
            fields.shift_remove(name);
        }
    }
    if free {
        for name in ["items", "properties", "type"] {
            fields.shift_remove(name);
        }
    }
    if either {
        fields.shift_remove("type");
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(weaken);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(name) {
            weaken(inner);
        }
    }
}

/// Adds what every object has, here and in all objects inside.
fn resource(schema: &mut Value, kind: Option<&Kind>) {
    let Some(fields) = schema.as_object_mut() else { return };
    if kind.is_some() || fields.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        let reference = json!({"$ref": format!("#/components/schemas/{}", openapi_schema_name(METADATA))});
        let said = |words: &str| json!({"type": "string", "description": words});
        let own = [
            ("apiVersion", said("The group and version of this object's schema.")),
            (
                "kind",
                said("The kind of this object, in CamelCase. It cannot be changed."),
            ),
            (
                "metadata",
                json!({"allOf": [reference], "description": "Standard object's metadata."}),
            ),
        ];
        let properties = fields.entry("properties").or_insert_with(|| Value::Object(Map::new()));
        if let Some(properties) = properties.as_object_mut() {
            for (name, schema) in own {
                properties.insert(name.to_owned(), schema);
            }
            properties.sort_keys();
        }
    }
    if let Some(kind) = kind {
        let gvk = json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
        fields.insert("x-kubernetes-group-version-kind".to_owned(), gvk);
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|inner| resource(inner, None));
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(name) {
            resource(inner, None);
        }
    }
}
