//! JSON to messages, field by field: the counterpart of reading, with the same conventions.

use super::wire::{put_bytes, put_double, put_integer};
use crate::fields::{Field, Shape, StructRef, TypeRef};
use crate::normalise::{parse_duration, schema_type};
use crate::time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Appends the message of a struct, in order of declaration.
pub(super) fn message(kind: StructRef, map: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), String> {
    for field in kind.declared_fields() {
        if field.number == 0 {
            continue;
        }
        if let (true, Shape::Struct(inner)) = (field.inline, field.kind.shape()) {
            let mut bytes = Vec::new();
            message(inner, map, &mut bytes)?;
            put_bytes(out, field.number, &bytes);
            continue;
        }
        match map.get(field.json) {
            None | Some(Value::Null) => empty(field, out)?,
            Some(value) => one_field(field, value, out)?,
        }
    }
    Ok(())
}

/// What is on the wire for a field that JSON leaves out: nothing for pointers and lists, the zero value for others.
fn empty(field: &Field, out: &mut Vec<u8>) -> Result<(), String> {
    if field.pointer {
        return Ok(());
    }
    match field.kind.shape() {
        Shape::Slice(_) | Shape::Map(_) | Shape::Bytes => {}
        Shape::Bool | Shape::Int32 | Shape::Int64 => put_integer(out, field.number, 0),
        Shape::Float64 => put_double(out, field.number, 0.0),
        Shape::Struct(inner) => {
            let mut bytes = Vec::new();
            message(inner, &Map::new(), &mut bytes)?;
            put_bytes(out, field.number, &bytes);
        }
        _ => put_bytes(out, field.number, &[]),
    }
    Ok(())
}

fn one_field(field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    match (field.kind.shape(), value) {
        (Shape::Slice(element), Value::Array(list)) if !field.kind.is_message() => list
            .iter()
            .try_for_each(|item| one_value(field.number, element, item, out)),
        (Shape::Map(of), Value::Object(map)) => map.iter().try_for_each(|(key, item)| {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, key.as_bytes());
            one_value(2, of, item, &mut entry)?;
            put_bytes(out, field.number, &entry);
            Ok(())
        }),
        _ => one_value(field.number, field.kind, value, out),
    }
    .map_err(|error| {
        if error.is_empty() {
            format!("{} has the wrong type", field.json)
        } else {
            error
        }
    })
}

/// Appends one value; the error is empty when its type is wrong.
fn one_value(number: u32, kind: TypeRef, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    match (kind.shape(), value) {
        (Shape::Bool, Value::Bool(value)) => put_integer(out, number, u64::from(*value)),
        (Shape::Int32 | Shape::Int64, Value::Number(value)) => {
            put_integer(out, number, value.as_i64().ok_or_else(String::new)? as u64);
        }
        (Shape::Float64, Value::Number(value)) => put_double(out, number, value.as_f64().ok_or_else(String::new)?),
        (shape, value) => put_bytes(out, number, &to_bytes(shape, value)?),
    }
    Ok(())
}

fn to_bytes(shape: Shape, value: &Value) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match (shape, value) {
        (Shape::Time | Shape::MicroTime, Value::Null) => {}
        (Shape::String, Value::String(text)) => bytes.extend_from_slice(text.as_bytes()),
        (Shape::Bytes, Value::String(text)) => bytes = STANDARD.decode(text).map_err(|error| error.to_string())?,
        (Shape::Struct(inner), Value::Object(map)) => message(inner, map, &mut bytes)?,
        (Shape::Slice(element), Value::Array(list)) => {
            list.iter()
                .try_for_each(|item| one_value(1, element, item, &mut bytes))?;
        }
        (Shape::Quantity, Value::String(text)) => put_bytes(&mut bytes, 1, text.as_bytes()),
        (Shape::Time | Shape::MicroTime, Value::String(text)) => timestamp(text, &mut bytes)?,
        (Shape::Duration, Value::String(text)) => {
            put_integer(&mut bytes, 1, parse_duration(text).ok_or_else(String::new)? as u64);
        }
        (Shape::IntOrString, Value::Number(number)) => {
            int_or_string(0, number.as_i64().ok_or_else(String::new)? as u64, "", &mut bytes);
        }
        (Shape::IntOrString, Value::String(text)) => int_or_string(1, 0, text, &mut bytes),
        (Shape::RawExtension | Shape::FieldsV1 | Shape::Json, value) => {
            put_bytes(&mut bytes, 1, value.to_string().as_bytes());
        }
        (Shape::SchemaOrBool | Shape::SchemaOrArray | Shape::SchemaOrStrings, value) => {
            schema(shape, value, &mut bytes)?;
        }
        _ => return Err(String::new()),
    }
    Ok(bytes)
}

fn timestamp(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let micros = time::parse(text).ok_or_else(String::new)?;
    put_integer(out, 1, micros.div_euclid(time::SECOND) as u64);
    put_integer(out, 2, (micros.rem_euclid(time::SECOND) * 1000) as u64);
    Ok(())
}

fn int_or_string(kind: u64, number: u64, text: &str, out: &mut Vec<u8>) {
    put_integer(out, 1, kind);
    put_integer(out, 2, number);
    put_bytes(out, 3, text.as_bytes());
}

fn schema(shape: Shape, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    let inner = schema_type().ok_or_else(String::new)?;
    match (shape, value) {
        (_, Value::Object(map)) => {
            let mut bytes = Vec::new();
            message(inner, map, &mut bytes)?;
            if shape == Shape::SchemaOrBool {
                put_integer(out, 1, 1);
            }
            put_bytes(out, if shape == Shape::SchemaOrBool { 2 } else { 1 }, &bytes);
        }
        (Shape::SchemaOrBool, Value::Bool(allows)) => put_integer(out, 1, u64::from(*allows)),
        (Shape::SchemaOrArray | Shape::SchemaOrStrings, Value::Array(list)) => {
            let element = if shape == Shape::SchemaOrArray {
                Shape::Struct(inner)
            } else {
                Shape::String
            };
            for item in list {
                put_bytes(out, 2, &to_bytes(element, item)?);
            }
        }
        _ => return Err(String::new()),
    }
    Ok(())
}
