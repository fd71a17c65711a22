//! Reads JSON request bodies.
//!
//! Duplicate keys are reported with their paths, as Kubernetes does, and the last value wins. Bodies that are no JSON, not
//! UTF-8, or nested too deep are refused; no input may panic or recurse without bound.

use crate::normalise::Problem;
use crate::status::ApiError;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// How many lists and objects may stand in each other. Clients' parsers refuse more than 127 levels, and a list or a watch
/// event wraps objects in a few more: a deeper object would be stored and then break everyone who lists it. Real objects
/// have under 40 levels.
pub const DEPTH_LIMIT: usize = 100;

/// Parses a body.
///
/// # Errors
/// 400 when the body is not one JSON value or is nested deeper than [`DEPTH_LIMIT`].
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<Problem>), ApiError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ApiError::bad_request(format!("the request body is not UTF-8: {error}")))?;
    let mut walk = Walk::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Node(&mut walk)
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| ApiError::bad_request(format!("the request body is not valid JSON: {error}")))?;
    Ok((
        value,
        walk.duplicates
            .into_iter()
            .map(|duplicate| Problem::DuplicateField(duplicate.path))
            .collect(),
    ))
}

/// A key that its object already had.
pub(crate) struct Duplicate {
    pub(crate) path: String,
    pub(crate) key: String,
}

/// Where the parser is and what it has met.
#[derive(Default)]
pub(crate) struct Walk {
    path: String,
    pub(crate) duplicates: Vec<Duplicate>,
    depth: usize,
    /// Fail at the duplicate after this many, so that the parser's error tells where it is.
    stop_after: Option<usize>,
}

impl Walk {
    /// A walk that fails at the duplicate after `count` others.
    pub(crate) fn stopping_after(count: usize) -> Self {
        Self {
            stop_after: Some(count),
            ..Self::default()
        }
    }

    fn descend<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            Err(E::custom("nested too deep"))
        } else {
            Ok(())
        }
    }
}

/// One value below the current path, of any self-describing format.
pub(crate) struct Node<'a>(pub(crate) &'a mut Walk);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A key of an object: appended to the path, and noted when the object has it.
struct Key<'a> {
    walk: &'a mut Walk,
    map: &'a Map<String, Value>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        push_key(&mut self.walk.path, key);
        if self.map.contains_key(key) {
            if self.walk.stop_after == Some(self.walk.duplicates.len()) {
                return Err(E::custom("duplicate key"));
            }
            self.walk.duplicates.push(Duplicate {
                path: self.walk.path.clone(),
                key: key.to_owned(),
            });
        }
        Ok(key.to_owned())
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

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("numbers are finite in JSON"))
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
        walk.descend()?;
        loop {
            push_index(&mut walk.path, list.len());
            let element = elements.next_element_seed(Node(&mut *walk))?;
            walk.path.truncate(outer);
            match element {
                Some(element) => list.push(element),
                None => {
                    walk.depth -= 1;
                    return Ok(Value::Array(list));
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let Self(walk) = self;
        let mut map = Map::new();
        let outer = walk.path.len();
        walk.descend()?;
        while let Some(key) = entries.next_key_seed(Key {
            walk: &mut *walk,
            map: &map,
        })? {
            let value = entries.next_value_seed(Node(&mut *walk))?;
            walk.path.truncate(outer);
            map.insert(key, value);
        }
        walk.depth -= 1;
        Ok(Value::Object(map))
    }
}

/// True when more than `levels` lists and objects stand in each other.
pub(crate) fn is_deeper(value: &Value, levels: usize) -> bool {
    let mut children: &mut dyn Iterator<Item = &Value> = match value {
        Value::Array(list) => &mut list.iter(),
        Value::Object(map) => &mut map.values(),
        _ => return false,
    };
    match levels.checked_sub(1) {
        None => true,
        Some(levels) => (&mut children).any(|child| is_deeper(child, levels)),
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
        assert_eq!(
            value,
            json!({"spec":{"replicas":2,"list":[{"a":{"b":2}}]},"n":-1,"f":1.5})
        );
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
        let limit = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(limit(DEPTH_LIMIT).as_bytes()).is_ok());
        assert!(parse(limit(DEPTH_LIMIT + 1).as_bytes()).is_err());
        for body in [&b"{"[..], b"", b"{}x", b"{\"a\":\"\xff\"}", b"{'a':1}", deep.as_bytes()] {
            assert_eq!(parse(body).unwrap_err().code, 400);
        }
    }
}
