//! How the parts of an object are merged: read from the field facts, or from the schema of a custom resource.

use super::path::Element;
use crate::fields::{self, Field, ListType, MapType, Shape, StructRef, TypeRef};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The rules for one place in an object; cheap to copy.
#[derive(Clone, Copy)]
pub struct Rules<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// A type with fields.
    Struct(StructRef),
    /// The value of a field, with what the field declares.
    Field(&'static Field),
    /// An element of a list or map.
    Type(TypeRef),
    /// An OpenAPI schema as custom resources have it.
    Schema(&'a Value),
    /// The schema of a whole custom resource, whose metadata is that of every object.
    Resource(&'a Value),
    /// Nothing is known: objects merge, everything else is one value.
    Unknown,
}

/// How a value is merged.
#[derive(Clone, Copy)]
pub enum Form<'a> {
    /// As one value.
    Leaf,
    /// Field by field, as [`Rules::field`] knows them.
    Fields,
    /// Key by key, all alike.
    Map(Rules<'a>),
    /// As a set of scalars.
    Set,
    /// As a list of objects that keys tell apart.
    Keyed(Keys<'a>, Rules<'a>),
}

/// The names of the keys of a list.
#[derive(Clone, Copy)]
pub enum Keys<'a> {
    /// From the facts.
    Facts(&'static [&'static str]),
    /// From a schema.
    Schema(&'a [Value]),
}

impl<'a> Keys<'a> {
    fn names(self) -> Vec<&'a str> {
        match self {
            Self::Facts(names) => names.to_vec(),
            Self::Schema(names) => names.iter().filter_map(Value::as_str).collect(),
        }
    }

    /// The keys as Go prints a list of strings.
    pub fn printed(self) -> String {
        let quoted: Vec<String> = self.names().iter().map(|name| format!("{name:?}")).collect();
        format!("[{}]", quoted.join(" "))
    }
}

impl<'a> Rules<'a> {
    /// Nothing is known of the value.
    pub const UNKNOWN: Self = Self(Source::Unknown);

    /// The rules for objects of a type of the facts; without the type, only the metadata is known.
    pub fn of_type(go_type: &str) -> Self {
        static ANYTHING: LazyLock<Value> = LazyLock::new(|| json!({"x-kubernetes-preserve-unknown-fields": true}));
        fields::go_type(go_type).map_or_else(|| Self(Source::Resource(&ANYTHING)), |kind| Self(Source::Struct(kind)))
    }

    /// The rules for objects of a custom resource with this `openAPIV3Schema`.
    pub fn of_resource(schema: &'a Value) -> Self {
        Self(Source::Resource(schema))
    }

    /// An object of this type as it is before anybody wrote to it: with the empty values that are always written.
    pub fn blank(self) -> Value {
        match self.0 {
            Source::Struct(kind) => crate::normalise::blank(kind),
            _ => json!({"metadata": {}}),
        }
    }

    /// Whether every object of the type has this part, if only an empty one.
    pub(super) fn is_always_there(self, name: &str) -> bool {
        let Source::Struct(kind) = self.0 else { return false };
        kind.field(name)
            .is_some_and(|field| !field.pointer && !field.omit_zero && matches!(field.kind.shape(), Shape::Struct(_)))
    }

    /// How `value` is merged. The value matters only where nothing else is known.
    pub fn form(self, value: &Value) -> Form<'a> {
        match self.0 {
            Source::Unknown if value.is_object() => Form::Map(Self::UNKNOWN),
            Source::Unknown => Form::Leaf,
            Source::Struct(kind) if kind.is_atomic() => Form::Leaf,
            Source::Struct(_) | Source::Resource(_) => Form::Fields,
            Source::Type(kind) => of_shape(kind, value),
            Source::Field(field) => of_field(field, value),
            Source::Schema(schema) => of_schema(schema, value),
        }
    }

    /// The rules for a field of an object whose form is [`Form::Fields`], and whether the type declares it. `None` when
    /// there can be no such field.
    pub fn field(self, name: &str) -> Option<(Rules<'a>, bool)> {
        match self.0 {
            Source::Struct(kind) => kind.field(name).map(|field| (Self(Source::Field(field)), true)),
            Source::Field(field) => field.kind.fields_of(name),
            Source::Type(kind) => kind.fields_of(name),
            Source::Resource(schema) => match name {
                "metadata" => Some((Self::of_type("k8s.io/apimachinery/pkg/apis/meta/v1.ObjectMeta"), true)),
                "apiVersion" | "kind" => Some((Self::UNKNOWN, true)),
                _ => property(schema, name),
            },
            Source::Schema(schema) if schema_flag(schema, "x-kubernetes-embedded-resource") => {
                Self(Source::Resource(schema)).field(name)
            }
            Source::Schema(schema) => property(schema, name),
            Source::Unknown => Some((Self::UNKNOWN, false)),
        }
    }

    /// The value that a key of a list has when an element leaves it out.
    fn default_of(self, name: &str) -> Option<Value> {
        match self.field(name)?.0.0 {
            Source::Field(field) => serde_json::from_str(field.default).ok(),
            Source::Schema(schema) => schema.get("default").cloned(),
            _ => None,
        }
    }

    /// The step to an element of a list with keys.
    ///
    /// # Errors
    /// Kubernetes' words when the element has no keys.
    pub fn keyed(self, keys: Keys<'a>, item: &Value) -> Result<Element, String> {
        let Value::Object(map) = item else {
            return Err(match item {
                Value::Null => "associative list with keys may not have a null element".to_owned(),
                _ => "associative list with keys may not have non-map elements".to_owned(),
            });
        };
        let key = |name: &'a str| match map.get(name) {
            Some(value) => Some((name, value.clone())),
            None => self.default_of(name).map(|value| (name, value)),
        };
        let found: Vec<(&str, Value)> = keys.names().into_iter().filter_map(key).collect();
        match found.is_empty() {
            false => Ok(Element::keys(found)),
            true => Err(format!(
                "associative list with keys has an element that omits all key fields {} (and doesn't have default values for any key fields)",
                keys.printed()
            )),
        }
    }
}

/// The step to an element of a set.
///
/// # Errors
/// Kubernetes' words when the element is no scalar.
pub fn set_element(item: &Value) -> Result<Element, String> {
    match item {
        Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
        Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
        Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
        scalar => Ok(Element::value(scalar)),
    }
}

impl TypeRef {
    fn fields_of<'a>(self, name: &str) -> Option<(Rules<'a>, bool)> {
        match self.shape() {
            Shape::Struct(kind) => kind.field(name).map(|field| (Rules(Source::Field(field)), true)),
            _ => Some((Rules::UNKNOWN, false)),
        }
    }
}

fn of_shape<'a>(kind: TypeRef, value: &Value) -> Form<'a> {
    match kind.shape() {
        Shape::Struct(inner) => Rules(Source::Struct(inner)).form(value),
        Shape::Map(of) => Form::Map(Rules(Source::Type(of))),
        Shape::Any
        | Shape::RawExtension
        | Shape::Json
        | Shape::FieldsV1
        | Shape::SchemaOrBool
        | Shape::SchemaOrArray
        | Shape::SchemaOrStrings => Rules::UNKNOWN.form(value),
        _ => Form::Leaf,
    }
}

fn of_field<'a>(field: &'static Field, value: &Value) -> Form<'a> {
    match (field.kind.shape(), field.list_type, field.map_type) {
        (_, _, Some(MapType::Atomic)) => Form::Leaf,
        (Shape::Slice(_), Some(ListType::Set), _) => Form::Set,
        (Shape::Slice(element), Some(ListType::Map), _) => {
            Form::Keyed(Keys::Facts(field.map_keys), Rules(Source::Type(element)))
        }
        (Shape::Slice(_), _, _) => Form::Leaf,
        _ => of_shape(field.kind, value),
    }
}

fn schema_flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn schema_text<'a>(schema: &'a Value, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn of_schema<'a>(schema: &'a Value, value: &Value) -> Form<'a> {
    match schema_text(schema, "type") {
        "object" if schema_text(schema, "x-kubernetes-map-type") == "atomic" => Form::Leaf,
        "object" => match schema.get("additionalProperties") {
            Some(element @ Value::Object(_)) if schema.get("properties").is_none() => {
                Form::Map(Rules(Source::Schema(element)))
            }
            _ if schema.get("properties").is_some() || schema_flag(schema, "x-kubernetes-embedded-resource") => {
                Form::Fields
            }
            _ => Rules::UNKNOWN.form(value),
        },
        "array" => {
            let element = schema
                .get("items")
                .map_or(Rules::UNKNOWN, |items| Rules(Source::Schema(items)));
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            match (schema_text(schema, "x-kubernetes-list-type"), keys) {
                ("set", _) => Form::Set,
                ("map", Some(keys)) => Form::Keyed(Keys::Schema(keys), element),
                _ => Form::Leaf,
            }
        }
        "" if schema_flag(schema, "x-kubernetes-preserve-unknown-fields") => Rules::UNKNOWN.form(value),
        _ => Form::Leaf,
    }
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<(Rules<'a>, bool)> {
    if let Some(property) = schema.get("properties").and_then(|properties| properties.get(name)) {
        return Some((Rules(Source::Schema(property)), true));
    }
    match schema.get("additionalProperties") {
        Some(element @ Value::Object(_)) => Some((Rules(Source::Schema(element)), false)),
        _ => schema_flag(schema, "x-kubernetes-preserve-unknown-fields").then_some((Rules::UNKNOWN, false)),
    }
}
