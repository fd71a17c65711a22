//! The rules that make a schema structural: every field has a type, and what checks values never shapes them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::rules;
use super::schema::{JsonType, Pattern, texts};
use crate::field_error::FieldError;
use crate::object;

/// What no schema may use, with the words that refuse it.
const UNSUPPORTED: [(&str, &str); 8] = [
    ("$ref", "$ref is not supported"),
    ("$schema", "$schema is not supported"),
    ("id", "id is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    (
        "uniqueItems",
        "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
    ),
];
/// What shapes values and so may not stand below `allOf`, `anyOf`, `oneOf` and `not`.
const SHAPING: [(&str, &str); 10] = [
    ("type", "must be empty to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("default", "must be undefined to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
];

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Field,
    Items,
}

/// Checks the schema of whole objects.
pub fn root(schema: &Value, path: &str, faults: &mut Vec<FieldError>) {
    node(schema, Place::Root, path, faults);
    let metadata = object::get(schema, "properties.metadata");
    if let Some(metadata) = metadata {
        let named = metadata
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        let beyond = named
            .map(|(name, _)| name.as_str())
            .any(|name| !matches!(name, "name" | "generateName"));
        let said = metadata
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .any(|name| !matches!(name, "type" | "properties" | "description"));
        if beyond || said {
            faults.push(FieldError::forbidden(
                format!("{path}.properties[metadata]"),
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            ));
        }
    }
    if faults.is_empty() {
        rules::validate(schema, path, faults);
    }
}

fn node(schema: &Value, place: Place, path: &str, faults: &mut Vec<FieldError>) {
    let flag = |name: &str| object::truth(schema, name);
    let at = |name: &str| format!("{path}.{name}");
    unsupported(schema, path, faults);
    let kind = object::text(schema, "type");
    let (free, either) = (
        flag("x-kubernetes-preserve-unknown-fields"),
        flag("x-kubernetes-int-or-string"),
    );
    of_type(kind, place, free, either, path, faults);
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        faults.push(FieldError::invalid(
            at("x-kubernetes-preserve-unknown-fields"),
            false,
            "must be true or undefined",
        ));
    }
    if flag("x-kubernetes-embedded-resource") {
        embedded(schema, place, path, faults);
    }
    additional(schema, place, path, faults);
    list(schema, kind, path, faults);
    match object::text(schema, "x-kubernetes-map-type") {
        "" | "atomic" | "granular" => {}
        other => faults.push(FieldError::not_supported(
            at("x-kubernetes-map-type"),
            other,
            &["atomic", "granular"],
        )),
    }
    checks(schema, path, faults);
    super::validate::default(schema, path, faults);
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, inner) in properties {
            // Metadata of objects is known without being told.
            if place == Place::Root && name == "metadata" {
                continue;
            }
            node(inner, Place::Field, &format!("{path}.properties[{name}]"), faults);
        }
    }
    if let Some(inner) = schema.get("items") {
        match inner {
            Value::Array(_) => faults.push(FieldError::forbidden(
                at("items"),
                "items must be a schema object and not an array",
            )),
            inner => node(inner, Place::Items, &at("items"), faults),
        }
    }
    junctors(schema, schema, path, either, faults);
}

fn unsupported(schema: &Value, path: &str, faults: &mut Vec<FieldError>) {
    for (name, words) in UNSUPPORTED {
        let used = match schema.get(name) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        };
        if used {
            faults.push(FieldError::forbidden(format!("{path}.{name}"), words));
        }
    }
}

fn of_type(kind: &str, place: Place, free: bool, either: bool, path: &str, faults: &mut Vec<FieldError>) {
    let path = format!("{path}.type");
    if either {
        if !kind.is_empty() {
            faults.push(FieldError::invalid(
                path,
                kind,
                "must be empty if x-kubernetes-int-or-string is true",
            ));
        }
        return;
    }
    match (kind, place) {
        ("", Place::Root) => faults.push(FieldError::required(path, "must not be empty at the root")),
        ("", _) if free => {}
        ("", Place::Field) => faults.push(FieldError::required(
            path,
            "must not be empty for specified object fields",
        )),
        ("", Place::Items) => faults.push(FieldError::required(
            path,
            "must not be empty for specified array items",
        )),
        ("object", _) => {}
        (kind, Place::Root) => faults.push(FieldError::invalid(path, kind, "must be object at the root")),
        (kind, _) if JsonType::parse(kind).is_none() => {
            faults.push(FieldError::not_supported(path, kind, &JsonType::NAMES))
        }
        _ => {}
    }
}

fn embedded(schema: &Value, place: Place, path: &str, faults: &mut Vec<FieldError>) {
    let at = format!("{path}.x-kubernetes-embedded-resource");
    if place == Place::Root {
        faults.push(FieldError::forbidden(at, "must not be used at the root"));
    }
    if object::text(schema, "type") != "object" {
        faults.push(FieldError::invalid(
            format!("{path}.type"),
            object::text(schema, "type"),
            "must be object if x-kubernetes-embedded-resource is true",
        ));
    }
    let shaped = schema.get("properties").is_some() || object::truth(schema, "x-kubernetes-preserve-unknown-fields");
    if !shaped {
        faults.push(FieldError::required(
            format!("{path}.properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ));
    }
}

fn additional(schema: &Value, place: Place, path: &str, faults: &mut Vec<FieldError>) {
    let Some(additional) = schema.get("additionalProperties").filter(|value| !value.is_null()) else {
        return;
    };
    let at = format!("{path}.additionalProperties");
    if place == Place::Root {
        faults.push(FieldError::forbidden(at.clone(), "must not be used at the root"));
    }
    if *additional == Value::Bool(false) {
        faults.push(FieldError::forbidden(
            at.clone(),
            "additionalProperties cannot be set to false",
        ));
    }
    if schema
        .get("properties")
        .and_then(Value::as_object)
        .is_some_and(|properties| !properties.is_empty())
    {
        faults.push(FieldError::forbidden(
            at.clone(),
            "additionalProperties and properties are mutual exclusive",
        ));
    }
    if additional.is_object() {
        node(additional, Place::Field, &at, faults);
    }
}

fn list(schema: &Value, kind: &str, path: &str, faults: &mut Vec<FieldError>) {
    let list = object::text(schema, "x-kubernetes-list-type");
    let keys = texts(schema, "x-kubernetes-list-map-keys");
    let keys_at = format!("{path}.x-kubernetes-list-map-keys");
    if !list.is_empty() && kind != "array" {
        let given = if kind.is_empty() {
            Value::Null
        } else {
            Value::from(kind)
        };
        faults.push(FieldError::invalid(
            format!("{path}.type"),
            given,
            "must be array if x-kubernetes-list-type is specified",
        ));
    }
    match list {
        "map" if keys.is_empty() => faults.push(FieldError::required(
            keys_at,
            "must not be empty if x-kubernetes-list-type is map",
        )),
        "map" => list_keys(schema, &keys, path, faults),
        "" | "atomic" | "set" => {
            if !keys.is_empty() {
                let given = if list.is_empty() {
                    Value::Null
                } else {
                    Value::from(list)
                };
                faults.push(FieldError::invalid(
                    format!("{path}.x-kubernetes-list-type"),
                    given,
                    "must be map if x-kubernetes-list-map-keys is non-empty",
                ));
            }
            if list == "set" && object::truth(schema, "items.nullable") {
                faults.push(FieldError::forbidden(
                    format!("{path}.items.nullable"),
                    "cannot be nullable when x-kubernetes-list-type is set",
                ));
            }
        }
        other => faults.push(FieldError::not_supported(
            format!("{path}.x-kubernetes-list-type"),
            other,
            &["atomic", "map", "set"],
        )),
    }
}

fn list_keys(schema: &Value, keys: &[String], path: &str, faults: &mut Vec<FieldError>) {
    if object::text(schema, "items.type") != "object" {
        faults.push(FieldError::invalid(
            format!("{path}.items.type"),
            object::text(schema, "items.type"),
            "must be object if parent array's x-kubernetes-list-type is map",
        ));
    }
    let items = schema.get("items").cloned().unwrap_or_default();
    let required = texts(&items, "required");
    for (index, key) in keys.iter().enumerate() {
        match items.get("properties").and_then(|properties| properties.get(key)) {
            None => faults.push(FieldError::invalid(
                format!("{path}.x-kubernetes-list-map-keys[{index}]"),
                key.as_str(),
                "entries must all be names of item properties",
            )),
            Some(property) => {
                if matches!(object::text(property, "type"), "array" | "object") {
                    faults.push(FieldError::invalid(
                        format!("{path}.items.properties[{key}].type"),
                        object::text(property, "type"),
                        "must be a scalar type if parent array's x-kubernetes-list-type is map",
                    ));
                }
                if !required.contains(key) && property.get("default").is_none_or(Value::is_null) {
                    let words = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                    faults.push(FieldError::required(
                        format!("{path}.items.properties[{key}].default"),
                        words,
                    ));
                }
            }
        }
    }
}

fn checks(schema: &Value, path: &str, faults: &mut Vec<FieldError>) {
    let pattern = object::text(schema, "pattern");
    if let Err(wrong) = Pattern::compile(pattern) {
        faults.push(FieldError::invalid(
            format!("{path}.pattern"),
            pattern,
            format!("must be a valid regular expression, but isn't: {wrong}"),
        ));
    }
    if schema
        .get("multipleOf")
        .and_then(Value::as_f64)
        .is_some_and(|factor| factor <= 0.0)
    {
        faults.push(FieldError::invalid(
            format!("{path}.multipleOf"),
            schema.get("multipleOf").cloned().unwrap_or_default(),
            "must be greater than 0",
        ));
    }
}

/// Checks what stands below the junctors of a node: it may check and may not shape, and names only fields that `structure`
/// names.
fn junctors(schema: &Value, structure: &Value, path: &str, either: bool, faults: &mut Vec<FieldError>) {
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in object::list(schema, name).iter().enumerate() {
            // The one exception: a number or a text may be told as two types.
            let told = either
                && inner.as_object().is_some_and(|fields| fields.len() == 1)
                && matches!(object::text(inner, "type"), "integer" | "string");
            if !told {
                checking(inner, structure, &format!("{path}.{name}[{index}]"), either, faults);
            }
        }
    }
    if let Some(inner) = schema.get("not").filter(|not| not.is_object()) {
        checking(inner, structure, &format!("{path}.not"), either, faults);
    }
}

fn checking(schema: &Value, structure: &Value, path: &str, either: bool, faults: &mut Vec<FieldError>) {
    unsupported(schema, path, faults);
    for (name, words) in SHAPING {
        let used = match schema.get(name) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        };
        if used {
            faults.push(FieldError::forbidden(format!("{path}.{name}"), words));
        }
    }
    checks(schema, path, faults);
    let named: BTreeMap<&String, &Value> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .collect();
    for (name, inner) in named {
        let found = structure
            .get("properties")
            .and_then(|properties| properties.get(name))
            .or_else(|| structure.get("additionalProperties").filter(|value| value.is_object()));
        let at = format!("{path}.properties[{name}]");
        match found {
            Some(found) => checking(
                inner,
                found,
                &at,
                object::truth(found, "x-kubernetes-int-or-string"),
                faults,
            ),
            None if object::truth(structure, "x-kubernetes-preserve-unknown-fields") => {}
            None => faults.push(FieldError::required(
                at.clone(),
                format!("because it is defined in {at}"),
            )),
        }
    }
    if let Some(inner) = schema.get("items") {
        let empty = Value::Null;
        checking(
            inner,
            structure.get("items").unwrap_or(&empty),
            &format!("{path}.items"),
            false,
            faults,
        );
    }
    junctors(schema, structure, path, either, faults);
}
