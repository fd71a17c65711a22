//! Reads JSON request bodies.
//!
//! Duplicate keys are reported with their paths, as Kubernetes does, and the last value wins. Bodies that are no JSON, not
//! UTF-8, or nested too deep are refused; no input may panic or recurse without bound.

use crate::normalise::Problem;
use crate::status::ApiError;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Parses a body.
///
/// # Errors
/// 400 when the body is not one JSON value. Nesting is limited to 127 levels, the limit of `serde_json`.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<Problem>), ApiError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ApiError::bad_request(format!("the request body is not UTF-8: {error}")))?;
    let mut walk = Walk { path: String::new(), problems: Vec::new() };
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Node(&mut walk)
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| ApiError::bad_request(format!("the request body is not valid JSON: {error}")))?;
    Ok((value, walk.problems))
}

/// Where the parser is and what it has met.
struct Walk {
    path: String,
    problems: Vec<Problem>,
}

/// One value below the current path.
struct Node<'a>(&'a mut Walk);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let Self(walk) = self;
        let mut list = Vec::new();
        let outer = walk.path.len();
        loop {
            push_index(&mut walk.path, list.len());
            let element = elements.next_element_seed(Node(&mut *walk))?;
            walk.path.truncate(outer);
            match element {
                Some(element) => list.push(element),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let Self(walk) = self;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let outer = push_key(&mut walk.path, &key);
            if map.contains_key(&key) {
                walk.problems.push(Problem::DuplicateField(walk.path.clone()));
            }
            let value = entries.next_value_seed(Node(&mut *walk))?;
            walk.path.truncate(outer);
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Appends `.key` to a path and returns the length to cut it back to.
pub(crate) fn push_key(path: &mut String, key: &str) -> usize {
    let outer = path.len();
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
    outer
}

/// Appends `[index]` to a path and returns the length to cut it back to.
pub(crate) fn push_index(path: &mut String, index: usize) -> usize {
    use std::fmt::Write;
    let outer = path.len();
    // Writing to a string cannot fail.
    let _ = write!(path, "[{index}]");
    outer
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn duplicates_are_named_by_path_and_the_last_one_wins() {
        let body = br#"{"spec":{"replicas":1,"list":[{"a":1,"a":{"b":1,"b":2}}],"replicas":2},"n":-1,"f":1.5}"#;
        let (value, problems) = parse(body).unwrap();
        assert_eq!(value, json!({"spec":{"replicas":2,"list":[{"a":{"b":2}}]},"n":-1,"f":1.5}));
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                r#"duplicate field "spec.list[0].a""#,
                r#"duplicate field "spec.list[0].a.b""#,
                r#"duplicate field "spec.replicas""#
            ]
        );
    }

    #[test]
    fn what_is_no_json_is_a_bad_request() {
        let deep = "[".repeat(10_000);
        for body in [&b"{"[..], b"", b"{}x", b"{\"a\":\"\xff\"}", b"{'a':1}", deep.as_bytes()] {
            assert_eq!(parse(body).unwrap_err().code, 400);
        }
    }
}
