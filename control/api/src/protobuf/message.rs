//! Messages to JSON, field by field.
//!
//! The conventions are gogo-protobuf's as Kubernetes uses it: scalars that are no pointers are always written, maps are lists
//! of entries, and the types with a JSON form of their own are small messages.

use super::wire::{Reader, Wire, WireError};
use super::{DEPTH_LIMIT, enveloped, is_enveloped};
use crate::fields::{Field, Shape, StructRef, TypeRef};
use crate::normalise::{format_duration, schema_type};
use crate::{json, time};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

/// Why a body was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it does not start with the magic number of Kubernetes")]
    NoEnvelope,
    #[error("its content encoding {0:?} is not understood")]
    Encoding(String),
    #[error("no kind {0:?} is registered for version {1:?}")]
    UnknownKind(String, String),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("a text is not UTF-8")]
    Text,
    #[error("it is nested too deep")]
    Depth,
    #[error("field {0:?} has the wrong wire type")]
    Type(&'static str),
    #[error("an embedded object is not JSON: {0}")]
    Embedded(String),
}

/// Reads the message of a struct into `out`.
pub(super) fn read(kind: StructRef, bytes: &[u8], depth: usize, out: &mut Map<String, Value>) -> Result<(), Fault> {
    if depth > DEPTH_LIMIT {
        return Err(Fault::Depth);
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        let Some(field) = kind.field_by_number(number) else {
            continue;
        };
        let shape = field.kind.shape();
        match (shape, wire) {
            (Shape::Struct(inner), Wire::Bytes(bytes)) if field.inline => read(inner, bytes, depth, out)?,
            (Shape::Slice(element), wire) if !field.kind.is_message() => {
                let list = out.entry(field.json).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    elements(field, element, wire, depth + 1, list)?;
                }
            }
            (Shape::Map(of), Wire::Bytes(entry)) => {
                let map = out.entry(field.json).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = map {
                    let (key, value) = map_entry(field, of, entry, depth + 1)?;
                    map.insert(key, value);
                }
            }
            (_, wire) => {
                let value = value(field.json, field.kind, wire, depth)?;
                if !is_left_out(field, &value) {
                    out.insert(field.json.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

/// Scalars that are no pointers are always on the wire; JSON leaves empty ones out.
fn is_left_out(field: &Field, value: &Value) -> bool {
    let empty = match field.kind.shape() {
        Shape::String | Shape::Bytes => value.as_str() == Some(""),
        Shape::Bool => *value == Value::Bool(false),
        Shape::Int32 | Shape::Int64 => value.as_i64() == Some(0),
        Shape::Float64 => value.as_f64() == Some(0.0),
        _ => value.is_null(),
    };
    empty && field.omit_empty && !field.pointer
}

/// One element, or several when integers are packed.
fn elements(field: &Field, element: TypeRef, wire: Wire<'_>, depth: usize, list: &mut Vec<Value>) -> Result<(), Fault> {
    let is_number = matches!(
        element.shape(),
        Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Float64
    );
    match wire {
        Wire::Bytes(packed) if is_number => {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                let wire = match element.shape() {
                    Shape::Float64 => Wire::Fixed64(reader.fixed64()?),
                    _ => Wire::Varint(reader.varint()?),
                };
                list.push(value(field.json, element, wire, depth)?);
            }
        }
        wire => list.push(value(field.json, element, wire, depth)?),
    }
    Ok(())
}

fn map_entry(field: &Field, of: TypeRef, entry: &[u8], depth: usize) -> Result<(String, Value), Fault> {
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader::new(entry);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Bytes(text)) => key = utf8(text)?.to_owned(),
            (2, wire) => found = Some(value(field.json, of, wire, depth)?),
            _ => {}
        }
    }
    let found = match found {
        Some(found) => found,
        // An entry may leave out an empty value.
        None => value(field.json, of, absent(of), depth)?,
    };
    Ok((key, found))
}

fn absent(kind: TypeRef) -> Wire<'static> {
    match kind.shape() {
        Shape::Bool | Shape::Int32 | Shape::Int64 => Wire::Varint(0),
        Shape::Float64 => Wire::Fixed64(0),
        _ => Wire::Bytes(&[]),
    }
}

/// One value. `name` is the field it belongs to, for errors.
fn value(name: &'static str, kind: TypeRef, wire: Wire<'_>, depth: usize) -> Result<Value, Fault> {
    if depth > DEPTH_LIMIT {
        return Err(Fault::Depth);
    }
    match (kind.shape(), wire) {
        (Shape::Bool, Wire::Varint(number)) => Ok(Value::Bool(number != 0)),
        // Negative numbers are sign-extended to 64 bits on the wire.
        (Shape::Int32, Wire::Varint(number)) => Ok(Value::from(number as i32)),
        (Shape::Int64, Wire::Varint(number)) => Ok(Value::from(number as i64)),
        (Shape::Float64, Wire::Fixed64(bits)) => {
            Ok(Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number))
        }
        (shape, Wire::Bytes(bytes)) => from_bytes(name, shape, bytes, depth),
        _ => Err(Fault::Type(name)),
    }
}

fn from_bytes(name: &'static str, shape: Shape, bytes: &[u8], depth: usize) -> Result<Value, Fault> {
    match shape {
        Shape::String => Ok(Value::from(utf8(bytes)?)),
        Shape::Bytes => Ok(Value::String(STANDARD.encode(bytes))),
        Shape::Struct(inner) => object(inner, bytes, depth),
        // A named list in a message of its own.
        Shape::Slice(element) => {
            let mut list = Vec::new();
            let mut reader = Reader::new(bytes);
            while let Some((_, wire)) = reader.field()? {
                list.push(value(name, element, wire, depth + 1)?);
            }
            Ok(Value::Array(list))
        }
        Shape::Quantity => Ok(Value::from(text_field(bytes)?)),
        Shape::Time => timestamp(bytes).map(|at| at.map_or(Value::Null, |at| time::format_seconds(at).into())),
        Shape::MicroTime => timestamp(bytes).map(|at| at.map_or(Value::Null, |at| time::format_micros(at).into())),
        Shape::Duration => Ok(Value::String(format_duration(duration(bytes)?))),
        Shape::IntOrString => int_or_string(bytes),
        Shape::RawExtension | Shape::FieldsV1 | Shape::Json => raw(bytes, depth),
        Shape::SchemaOrBool | Shape::SchemaOrArray | Shape::SchemaOrStrings => schema(name, shape, bytes, depth),
        _ => Err(Fault::Type(name)),
    }
}

fn object(kind: StructRef, bytes: &[u8], depth: usize) -> Result<Value, Fault> {
    let mut map = Map::new();
    read(kind, bytes, depth + 1, &mut map)?;
    Ok(Value::Object(map))
}

/// The text of a message whose only field is one.
fn text_field(bytes: &[u8]) -> Result<&str, Fault> {
    let mut found = "";
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        if let (1, Wire::Bytes(text)) = (number, wire) {
            found = utf8(text)?;
        }
    }
    Ok(found)
}

/// Microseconds since 1970 of `Timestamp{seconds, nanos}`; an empty message is no time.
fn timestamp(bytes: &[u8]) -> Result<Option<i64>, Fault> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Varint(value)) => seconds = value as i64,
            (2, Wire::Varint(value)) => nanos = value as i64,
            _ => {}
        }
    }
    Ok(Some(seconds.saturating_mul(time::SECOND).saturating_add(nanos / 1000)))
}

/// Nanoseconds of `Duration{duration}`.
fn duration(bytes: &[u8]) -> Result<i64, Fault> {
    let mut found = 0;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        if let (1, Wire::Varint(value)) = (number, wire) {
            found = value as i64;
        }
    }
    Ok(found)
}

/// `IntOrString{type, intVal, strVal}`.
fn int_or_string(bytes: &[u8]) -> Result<Value, Fault> {
    let (mut is_text, mut number_value, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Varint(value)) => is_text = value == 1,
            (2, Wire::Varint(value)) => number_value = value as i32,
            (3, Wire::Bytes(bytes)) => text = utf8(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text {
        Value::from(text)
    } else {
        Value::from(number_value)
    })
}

/// The embedded object of a message whose only field is its bytes.
fn raw(bytes: &[u8], depth: usize) -> Result<Value, Fault> {
    let mut found: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        if let (1, Wire::Bytes(bytes)) = (number, wire) {
            found = bytes;
        }
    }
    match found {
        [] => Ok(Value::Null),
        bytes if is_enveloped(bytes) => enveloped(bytes, None, depth),
        bytes => embedded_json(bytes, depth),
    }
}

/// JSON that stands `depth` levels below the top.
pub(super) fn embedded_json(bytes: &[u8], depth: usize) -> Result<Value, Fault> {
    let (value, _) = json::parse(bytes).map_err(|error| Fault::Embedded(error.message))?;
    if json::is_deeper(&value, DEPTH_LIMIT.saturating_sub(depth)) {
        Err(Fault::Depth)
    } else {
        Ok(value)
    }
}

/// The three types of a JSON schema that are a schema or something else.
fn schema(name: &'static str, shape: Shape, bytes: &[u8], depth: usize) -> Result<Value, Fault> {
    let inner = schema_type().ok_or(Fault::Type(name))?;
    // In two of them the schema is field 1; beside a boolean it is field 2.
    let schema_number = if shape == Shape::SchemaOrBool { 2 } else { 1 };
    let (mut found, mut allows, mut list) = (None, false, Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match wire {
            Wire::Bytes(bytes) if number == schema_number => found = Some(object(inner, bytes, depth)?),
            Wire::Varint(value) => allows = value != 0,
            Wire::Bytes(bytes) if shape == Shape::SchemaOrStrings => list.push(Value::from(utf8(bytes)?)),
            Wire::Bytes(bytes) => list.push(object(inner, bytes, depth + 1)?),
            _ => return Err(Fault::Type(name)),
        }
    }
    Ok(match (found, shape) {
        (Some(found), _) if list.is_empty() => found,
        (_, Shape::SchemaOrBool) => Value::Bool(allows),
        _ => Value::Array(list),
    })
}

/// The text in these bytes.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::Text)
}
