//! Whether a value fits a schema, in the words of Kubernetes.
//!
//! On an update, a part that did not change is not checked again: a stricter definition must not lock its older objects.

use serde_json::{Map, Value};

use super::format;
use super::schema::{JsonType, ListType, Range, Schema};
use crate::field_error::FieldError;

/// Checks a value at a path (empty for the whole object); `old` is what stood there before.
pub fn check(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, faults: &mut Vec<FieldError>) {
    if old == Some(value) {
        return;
    }
    if !of_type(schema, value, path, faults) {
        return;
    }
    junctors(schema, value, path, faults);
    match value {
        Value::String(text) => of_text(schema, text, path, faults),
        Value::Number(_) => of_number(schema, value, path, faults),
        Value::Array(items) => of_list(schema, items, old, path, faults),
        _ => {}
    }
    if !schema.allowed.is_empty() && !schema.allowed.iter().any(|allowed| same(allowed, value)) {
        let printed: Vec<String> = schema
            .allowed
            .iter()
            .map(|allowed| allowed.as_str().map_or_else(|| allowed.to_string(), str::to_owned))
            .collect();
        let printed: Vec<&str> = printed.iter().map(String::as_str).collect();
        faults.push(FieldError::not_supported(shown(path), value.clone(), &printed));
    }
    if let Value::Object(fields) = value {
        of_map(schema, fields, old, path, faults);
    }
}

/// Equality of JSON values, in which 1 and 1.0 are one number.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

/// The path as field errors show it.
pub(super) fn shown(path: &str) -> &str {
    if path.is_empty() { "<nil>" } else { path }
}

pub(super) fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn body(path: &str, rest: &str) -> String {
    format!("{path} in body {rest}")
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn of_type(schema: &Schema, value: &Value, path: &str, faults: &mut Vec<FieldError>) -> bool {
    let wanted = match schema.kind {
        Some(kind) => kind.name(),
        None if schema.int_or_string => "integer,string",
        None => return true,
    };
    let fits = match (schema.kind, value) {
        (_, Value::Null) => schema.nullable,
        (Some(JsonType::Array), Value::Array(_)) | (Some(JsonType::Boolean), Value::Bool(_)) => true,
        (Some(JsonType::Object), Value::Object(_)) | (Some(JsonType::String), Value::String(_)) => true,
        (Some(JsonType::Number), Value::Number(_)) | (None, Value::String(_)) => true,
        (Some(JsonType::Integer) | None, Value::Number(_)) => is_whole(value),
        _ => false,
    };
    if !fits {
        let given = type_name(value);
        let words = body(path, &format!("must be of type {wanted}: {given:?}"));
        faults.push(FieldError::type_invalid(shown(path), given, words));
    }
    fits && !value.is_null()
}

fn junctors(schema: &Schema, value: &Value, path: &str, faults: &mut Vec<FieldError>) {
    let of = |inner: &Schema| {
        let mut found = Vec::new();
        check(inner, value, None, path, &mut found);
        found
    };
    let mut say = |words: String| faults.push(FieldError::invalid("<nil>", "", words));
    let mut more = Vec::new();
    if !schema.any_of.is_empty() {
        let all: Vec<Vec<FieldError>> = schema.any_of.iter().map(of).collect();
        if !all.iter().any(Vec::is_empty) {
            say(format!("{path:?} must validate at least one schema (anyOf)"));
            more.extend(all.into_iter().next().unwrap_or_default());
        }
    }
    if !schema.one_of.is_empty() {
        let all: Vec<Vec<FieldError>> = schema.one_of.iter().map(of).collect();
        let valid = all.iter().filter(|found| found.is_empty()).count();
        let found = match valid {
            1 => None,
            0 => Some("Found none valid".to_owned()),
            count => Some(format!("Found {count} valid alternatives")),
        };
        if let Some(found) = found {
            say(format!(
                "{path:?} must validate one and only one schema (oneOf). {found}"
            ));
            more.extend(
                all.into_iter()
                    .find(|found| valid == 0 && !found.is_empty())
                    .unwrap_or_default(),
            );
        }
    }
    if !schema.all_of.is_empty() {
        let all: Vec<FieldError> = schema.all_of.iter().flat_map(of).collect();
        if !all.is_empty() {
            say(format!("{path:?} must validate all the schemas (allOf)"));
            more.extend(all);
        }
    }
    if let Some(not) = &schema.not
        && of(not).is_empty()
    {
        say(format!("{path:?} must not validate the schema (not)"));
    }
    faults.append(&mut more);
}

fn of_text(schema: &Schema, text: &str, path: &str, faults: &mut Vec<FieldError>) {
    let Range { least, most } = schema.lengths;
    if least.is_some() || most.is_some() {
        let length = text.chars().count() as u64;
        if let Some(most) = most.filter(|most| length > *most) {
            faults.push(FieldError::too_long(
                shown(path),
                usize::try_from(most).unwrap_or(usize::MAX),
            ));
        }
        if let Some(least) = least.filter(|least| length < *least) {
            faults.push(FieldError::invalid(
                shown(path),
                text,
                body(path, &format!("should be at least {least} chars long")),
            ));
        }
    }
    if let Some(pattern) = schema.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        faults.push(FieldError::invalid(
            shown(path),
            text,
            body(path, &format!("should match '{}'", pattern.text)),
        ));
    }
    if !schema.format.is_empty() && !format::text_fits(&schema.format, text) {
        let words = body(path, &format!("must be of type {}: {text:?}", schema.format));
        faults.push(FieldError::type_invalid(shown(path), text, words));
    }
}

fn of_number(schema: &Schema, value: &Value, path: &str, faults: &mut Vec<FieldError>) {
    let number = value.as_f64().unwrap_or_default();
    let mut say = |words: String| faults.push(FieldError::invalid(shown(path), value.clone(), body(path, &words)));
    if let Some(factor) = schema.multiple_of.as_ref() {
        let ratio = number / factor.as_f64().unwrap_or(1.0);
        if ratio.fract() != 0.0 {
            say(format!("should be a multiple of {factor}"));
        }
    }
    if let Some(bound) = &schema.maximum {
        if bound.exclusive && number >= bound.value {
            say(format!("should be less than {}", bound.text));
        } else if number > bound.value {
            say(format!("should be less than or equal to {}", bound.text));
        }
    }
    if let Some(bound) = &schema.minimum {
        if bound.exclusive && number <= bound.value {
            say(format!("should be greater than {}", bound.text));
        } else if number < bound.value {
            say(format!("should be greater than or equal to {}", bound.text));
        }
    }
    if let Some(whole) = value
        .as_i64()
        .filter(|whole| !format::integer_fits(&schema.format, *whole))
    {
        let words = body(path, &format!("must be of type {}: \"{whole}\"", schema.format));
        faults.push(FieldError::type_invalid(shown(path), value.clone(), words));
    }
}

fn of_list(schema: &Schema, items: &[Value], old: Option<&Value>, path: &str, faults: &mut Vec<FieldError>) {
    let count = items.len() as u64;
    if let Some(least) = schema.item_counts.least.filter(|least| count < *least) {
        let words = body(path, &format!("should have at least {least} items"));
        faults.push(FieldError::invalid(shown(path), count, words));
    }
    if let Some(most) = schema.item_counts.most.filter(|most| count > *most) {
        faults.push(FieldError::too_many(
            shown(path),
            items.len(),
            usize::try_from(most).unwrap_or(usize::MAX),
        ));
    }
    duplicates(schema, items, path, faults);
    let Some(inner) = &schema.items else { return };
    let before = old.and_then(Value::as_array);
    for (index, item) in items.iter().enumerate() {
        let old = before.and_then(|before| counterpart(&schema.list, before, item));
        check(inner, item, old, &format!("{path}[{index}]"), faults);
    }
}

/// The item of an older list that is the same one.
pub(super) fn counterpart<'a>(list: &ListType, before: &'a [Value], item: &Value) -> Option<&'a Value> {
    match list {
        ListType::Atomic => None,
        ListType::Set => before.iter().find(|old| *old == item),
        ListType::Map(keys) => before
            .iter()
            .find(|old| keys.iter().all(|key| old.get(key) == item.get(key))),
    }
}

fn duplicates(schema: &Schema, items: &[Value], path: &str, faults: &mut Vec<FieldError>) {
    let key = |item: &Value| match &schema.list {
        ListType::Atomic => None,
        ListType::Set => Some(item.clone()),
        ListType::Map(keys) => {
            let fields = keys
                .iter()
                .filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            Some(Value::Object(fields.collect()))
        }
    };
    let mut seen = std::collections::HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let Some(key) = key(item) else { return };
        if !seen.insert(key.to_string()) {
            faults.push(FieldError::duplicate(format!("{path}[{index}]"), key));
        }
    }
}

fn of_map(schema: &Schema, fields: &Map<String, Value>, old: Option<&Value>, path: &str, faults: &mut Vec<FieldError>) {
    let count = fields.len() as u64;
    if let Some(least) = schema.property_counts.least.filter(|least| count < *least) {
        let words = body(path, &format!("should have at least {least} properties"));
        faults.push(FieldError::invalid(shown(path), count, words));
    }
    if let Some(most) = schema.property_counts.most.filter(|most| count > *most) {
        faults.push(FieldError::too_many(
            shown(path),
            fields.len(),
            usize::try_from(most).unwrap_or(usize::MAX),
        ));
    }
    if schema.embedded && !path.is_empty() {
        for name in ["apiVersion", "kind"] {
            if fields.get(name).and_then(Value::as_str).unwrap_or_default().is_empty() {
                faults.push(FieldError::required(below(path, name), "must not be empty"));
            }
        }
    }
    for (name, value) in fields {
        if let Some(inner) = schema.field(name) {
            check(
                inner,
                value,
                old.and_then(|old| old.get(name)),
                &below(path, name),
                faults,
            );
        }
    }
    for name in schema.required.iter().filter(|name| !fields.contains_key(*name)) {
        faults.push(FieldError::required(below(path, name), ""));
    }
}
