//! One step from an object into one of its parts.

use serde_json::{Map, Value};
use std::fmt;

/// A step, in the text that stands in `managedFields`: `f:name` is a field, `k:{"name":"a"}` the element of a list with
/// these keys, `v:"a"` the element of a set with this value, `i:0` the element at this place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Element(String);

impl Element {
    /// The field of this name.
    pub fn field(name: &str) -> Self {
        let mut text = String::with_capacity(name.len() + 2);
        text.push_str("f:");
        text.push_str(name);
        Self(text)
    }

    /// The element of a set.
    pub fn value(value: &Value) -> Self {
        Self(format!("v:{value}"))
    }

    /// The element of a list with these keys. They are written in order of their names.
    pub fn keys(mut keys: Vec<(&str, Value)>) -> Self {
        keys.sort_by(|a, b| a.0.cmp(b.0));
        let keys: Map<String, Value> = keys.into_iter().map(|(name, key)| (name.to_owned(), key)).collect();
        Self(format!("k:{}", Value::Object(keys)))
    }

    /// Reads a step as clients write it, into the one form in which equal steps have equal texts.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_at_checked(2)?;
        match kind {
            "f:" => Some(Self(text.to_owned())),
            "i:" => rest.parse::<i64>().ok().map(|index| Self(format!("i:{index}"))),
            "v:" => serde_json::from_str(rest).ok().map(|value| Self::value(&value)),
            "k:" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                Some(Self::keys(
                    keys.iter().map(|(name, key)| (name.as_str(), key.clone())).collect(),
                ))
            }
            _ => None,
        }
    }

    /// The text in `managedFields`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, when this is a field.
    pub fn field_name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }
}

impl std::borrow::Borrow<str> for Element {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<Element> for String {
    fn from(element: Element) -> Self {
        element.0
    }
}

/// As in messages: `.spec`, `[name="a"]`, `[="a"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, rest) = self.0.split_at_checked(2).unwrap_or(("", &self.0));
        match kind {
            "f:" => write!(f, ".{rest}"),
            "v:" => write!(f, "[={rest}]"),
            "k:" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(name, key)| format!("{name}={key}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            _ => write!(f, "[{rest}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn steps_read_as_in_kubernetes() {
        let port = Element::keys(vec![("protocol", json!("TCP")), ("containerPort", json!(80))]);
        assert_eq!(port.as_str(), r#"k:{"containerPort":80,"protocol":"TCP"}"#);
        assert_eq!(port.to_string(), r#"[containerPort=80,protocol="TCP"]"#);
        assert_eq!(Element::field("spec").to_string(), ".spec");
        assert_eq!(Element::value(&json!("x/y")).to_string(), r#"[="x/y"]"#);
        assert_eq!(Element::parse("i:3").map(|e| e.to_string()).as_deref(), Some("[3]"));
    }

    #[test]
    fn equal_steps_have_equal_texts() {
        let loose = Element::parse(r#"k:{ "protocol":"TCP", "containerPort":80 }"#).unwrap();
        assert_eq!(loose.as_str(), r#"k:{"containerPort":80,"protocol":"TCP"}"#);
        for bad in ["", "f", "x:y", "k:3", "v:", "i:x"] {
            assert_eq!(Element::parse(bad), None, "{bad}");
        }
    }
}
