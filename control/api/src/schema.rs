//! The OpenAPI v3 schemas of the types, made from the field facts.
//!
//! Names, types, formats, required fields, enumerations, the merge rules that clients read (`x-kubernetes-*`), and the
//! prose that they show. The same
//! roots always give the same schemas in the same order. Paths, and which kind a schema belongs to, are the server's to add.

use crate::describe;
use crate::fields::{self, Field, ListType, MapType, PatchStrategy, Shape, StructRef, TypeRef};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

const REFERENCES: &str = "#/components/schemas/";

/// The name of a type in OpenAPI: `io.k8s.api.core.v1.Pod` for `k8s.io/api/core/v1.Pod`.
pub fn openapi_schema_name(go_type: &str) -> String {
    let (host, rest) = go_type.split_once('/').unwrap_or((go_type, ""));
    let mut name: String = host.rsplit('.').collect::<Vec<_>>().join(".");
    if !rest.is_empty() {
        name.push('.');
        name.push_str(&rest.replace('/', "."));
    }
    name
}

/// The `components.schemas` of these types and of all that they reach, in order of names. Unknown types are left out.
pub fn openapi_schemas(roots: &[&str]) -> Map<String, Value> {
    let mut collection = Collection {
        schemas: BTreeMap::new(),
        waiting: Vec::new(),
    };
    for root in roots {
        if let Some(kind) = fields::go_type(root) {
            collection.reference(kind);
        }
    }
    while let Some(kind) = collection.waiting.pop() {
        let schema = collection.structure(kind);
        collection.schemas.insert(openapi_schema_name(kind.name()), schema);
    }
    collection.schemas.into_iter().collect()
}

struct Collection {
    schemas: BTreeMap<String, Value>,
    waiting: Vec<StructRef>,
}

impl Collection {
    /// A reference to a struct, whose schema will be made.
    fn reference(&mut self, kind: StructRef) -> Value {
        let name = openapi_schema_name(kind.name());
        let reference = json!({"$ref": format!("{REFERENCES}{name}")});
        // Null holds the place while the schema waits to be made.
        if let Entry::Vacant(place) = self.schemas.entry(name) {
            place.insert(Value::Null);
            self.waiting.push(kind);
        }
        reference
    }

    /// A reference to a type with a form of its own.
    fn special(&mut self, go_type: &str, schema: Value) -> Value {
        let name = openapi_schema_name(go_type);
        let reference = json!({"$ref": format!("{REFERENCES}{name}")});
        self.schemas.entry(name).or_insert(schema);
        reference
    }

    fn structure(&mut self, kind: StructRef) -> Value {
        let name = openapi_schema_name(kind.name());
        let mut properties = BTreeMap::new();
        let mut required = Vec::new();
        for field in kind.fields() {
            properties.insert(field.json, self.property(&name, field));
            if field.required {
                required.push(field.json);
            }
        }
        let mut schema = Map::new();
        if let Some(text) = describe::text(&name, "") {
            schema.insert("description".to_owned(), json!(text));
        }
        schema.insert("type".to_owned(), json!("object"));
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        if !properties.is_empty() {
            let properties: Map<_, _> = properties
                .into_iter()
                .map(|(name, schema)| (name.to_owned(), schema))
                .collect();
            schema.insert("properties".to_owned(), Value::Object(properties));
        }
        if kind.is_atomic() {
            schema.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
        }
        Value::Object(schema)
    }

    fn property(&mut self, of: &str, field: &Field) -> Value {
        let schema = self.value(field.kind);
        let mut rules = rules(field);
        if let Some(text) = describe::text(of, field.json) {
            rules.insert("description".to_owned(), json!(text));
        }
        match schema {
            // Nothing may stand beside a reference.
            Value::Object(map) if map.contains_key("$ref") && !rules.is_empty() => {
                let mut schema = Map::new();
                schema.insert("allOf".to_owned(), json!([map]));
                schema.extend(rules);
                Value::Object(schema)
            }
            Value::Object(mut map) => {
                map.extend(rules);
                Value::Object(map)
            }
            other => other,
        }
    }

    fn value(&mut self, kind: TypeRef) -> Value {
        const META: &str = "k8s.io/apimachinery/pkg/apis/meta/v1";
        const EXTENSIONS: &str = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1";
        let date_time = || json!({"type": "string", "format": "date-time"});
        match kind.shape() {
            Shape::String if !kind.values().is_empty() => json!({"type": "string", "enum": kind.values()}),
            Shape::String => json!({"type": "string"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Float64 => json!({"type": "number", "format": "double"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Any => json!({"type": "object"}),
            Shape::Struct(inner) => self.reference(inner),
            Shape::Slice(element) => json!({"type": "array", "items": self.value(element)}),
            Shape::Map(of) => json!({"type": "object", "additionalProperties": self.value(of)}),
            Shape::Quantity => self.special(
                "k8s.io/apimachinery/pkg/api/resource.Quantity",
                json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            ),
            Shape::IntOrString => self.special(
                "k8s.io/apimachinery/pkg/util/intstr.IntOrString",
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
            ),
            Shape::Time => self.special(&format!("{META}.Time"), date_time()),
            Shape::MicroTime => self.special(&format!("{META}.MicroTime"), date_time()),
            Shape::Duration => self.special(&format!("{META}.Duration"), json!({"type": "string"})),
            Shape::FieldsV1 => self.special(&format!("{META}.FieldsV1"), json!({"type": "object"})),
            Shape::RawExtension => self.special(
                "k8s.io/apimachinery/pkg/runtime.RawExtension",
                json!({"type": "object"}),
            ),
            Shape::Json => self.special(&format!("{EXTENSIONS}.JSON"), json!({})),
            Shape::SchemaOrBool => self.special(&format!("{EXTENSIONS}.JSONSchemaPropsOrBool"), json!({})),
            Shape::SchemaOrArray => self.special(&format!("{EXTENSIONS}.JSONSchemaPropsOrArray"), json!({})),
            Shape::SchemaOrStrings => self.special(&format!("{EXTENSIONS}.JSONSchemaPropsOrStringArray"), json!({})),
        }
    }
}

/// What a field declares beyond its type: its default, and how clients and servers merge it.
fn rules(field: &Field) -> Map<String, Value> {
    let mut rules = Map::new();
    if let Ok(default) = serde_json::from_str::<Value>(field.default) {
        rules.insert("default".to_owned(), default);
    }
    if !field.map_keys.is_empty() {
        rules.insert("x-kubernetes-list-map-keys".to_owned(), json!(field.map_keys));
    }
    if let Some(list_type) = field.list_type {
        let word = match list_type {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        rules.insert("x-kubernetes-list-type".to_owned(), json!(word));
    }
    if let Some(map_type) = field.map_type {
        let word = match map_type {
            MapType::Atomic => "atomic",
            MapType::Granular => "granular",
        };
        rules.insert("x-kubernetes-map-type".to_owned(), json!(word));
    }
    if !field.merge_key.is_empty() {
        rules.insert("x-kubernetes-patch-merge-key".to_owned(), json!(field.merge_key));
    }
    if let Some(words) = strategy_words(field.patch_strategy) {
        rules.insert("x-kubernetes-patch-strategy".to_owned(), json!(words));
    }
    rules
}

fn strategy_words(strategy: PatchStrategy) -> Option<String> {
    let named = [
        (strategy.merge, "merge"),
        (strategy.replace, "replace"),
        (strategy.retain_keys, "retainKeys"),
    ];
    let words: Vec<_> = named
        .into_iter()
        .filter_map(|(set, word)| set.then_some(word))
        .collect();
    if words.is_empty() { None } else { Some(words.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_pod_reads_as_in_kubernetes() {
        let mut schemas = openapi_schemas(&["k8s.io/api/core/v1.Pod"]);
        let spec = &schemas["io.k8s.api.core.v1.PodSpec"];
        assert_eq!(spec["description"], "PodSpec is a description of a pod.");
        let volumes = spec["properties"]["volumes"]["description"].as_str();
        assert!(volumes.is_some_and(|text| text.starts_with("List of volumes that can be mounted")));
        schemas.values_mut().for_each(without_prose);
        let spec = &schemas["io.k8s.api.core.v1.PodSpec"];
        assert_eq!(spec["required"], json!(["containers"]));
        assert_eq!(
            spec["properties"]["containers"],
            json!({
                "type": "array",
                "items": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"},
                "x-kubernetes-list-map-keys": ["name"],
                "x-kubernetes-list-type": "map",
                "x-kubernetes-patch-merge-key": "name",
                "x-kubernetes-patch-strategy": "merge"
            })
        );
        assert_eq!(
            spec["properties"]["volumes"]["x-kubernetes-patch-strategy"],
            "merge,retainKeys"
        );
        assert_eq!(spec["properties"]["nodeSelector"]["x-kubernetes-map-type"], "atomic");
        assert_eq!(
            spec["properties"]["restartPolicy"]["enum"],
            json!(["Always", "Never", "OnFailure"])
        );
        let port = &schemas["io.k8s.api.core.v1.ContainerPort"];
        assert_eq!(port["properties"]["protocol"]["default"], "TCP");
        assert_eq!(
            port["properties"]["containerPort"],
            json!({"type": "integer", "format": "int32"})
        );
        // An embedded struct's fields stand in the outer one.
        assert!(
            schemas["io.k8s.api.core.v1.Volume"]["properties"]
                .get("emptyDir")
                .is_some()
        );
        assert_eq!(
            schemas["io.k8s.api.core.v1.LocalObjectReference"]["x-kubernetes-map-type"],
            "atomic"
        );
        assert_eq!(
            schemas["io.k8s.apimachinery.pkg.apis.meta.v1.Time"],
            json!({"type": "string", "format": "date-time"})
        );
    }

    fn without_prose(schema: &mut Value) {
        if let Some(fields) = schema.as_object_mut() {
            fields.retain(|name, value| name != "description" || !value.is_string());
            fields.values_mut().for_each(without_prose);
        }
    }

    #[test]
    fn every_reference_of_every_type_leads_somewhere() {
        let roots: Vec<_> = fields::structs().map(StructRef::name).collect();
        let schemas = openapi_schemas(&roots);
        let mut missing = BTreeSet::new();
        for schema in schemas.values() {
            assert!(schema.is_object());
            collect_dangling(schema, &schemas, &mut missing);
        }
        assert_eq!(missing, BTreeSet::new());
        assert!(schemas.keys().is_sorted());
    }

    fn collect_dangling(value: &Value, schemas: &Map<String, Value>, missing: &mut BTreeSet<String>) {
        if let Some(name) = value
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|r| r.strip_prefix(REFERENCES))
            && !schemas.contains_key(name)
        {
            missing.insert(name.to_owned());
        }
        match value {
            Value::Object(map) => map.values().for_each(|inner| collect_dangling(inner, schemas, missing)),
            Value::Array(list) => list.iter().for_each(|inner| collect_dangling(inner, schemas, missing)),
            _ => {}
        }
    }
}
