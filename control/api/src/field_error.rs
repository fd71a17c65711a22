//! What is wrong with one field of an object, in the words that Kubernetes uses.
//!
//! Validators collect these; `ApiError::invalid` turns a list of them into one 422 answer. A `Path` costs nothing until an
//! error is made from it, so that checking a valid object allocates no text.

use serde_json::Value;
use std::fmt;

/// Why a field was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The field must have a value.
    Required,
    /// The value does not have the right form or range.
    Invalid,
    /// The value is not one of the allowed ones.
    NotSupported,
    /// The value must be unique and is not.
    Duplicate,
    /// The field may not be set, or not be changed, here.
    Forbidden,
    /// The value is longer than allowed.
    TooLong,
    /// The list has more items than allowed.
    TooMany,
    /// The value refers to something that is not there.
    NotFound,
    /// The value has the wrong type.
    TypeInvalid,
}

impl FieldErrorKind {
    /// The machine-readable reason in a Status cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
        }
    }
}

/// One refused field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where, such as `spec.containers[0].image`; `<nil>` for the object as a whole.
    pub path: String,
    /// Why.
    pub kind: FieldErrorKind,
    /// The offending value as it is printed (strings quoted), for the kinds that print one.
    pub value: Option<String>,
    /// More words for people; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(path: impl Into<String>, kind: FieldErrorKind, value: Option<String>, detail: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            kind,
            value,
            detail: detail.into(),
        }
    }

    /// The field must have a value.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Required, None, detail)
    }

    /// The value breaks a rule; `detail` says which.
    pub fn invalid(path: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Invalid, Some(printed(&value.into())), detail)
    }

    /// As `invalid`, for a value that prints without quotes, such as the `0x0` of a missing resource version.
    pub fn invalid_bare(path: impl Into<String>, value: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Invalid, Some(value.into()), detail)
    }

    /// The value is not one of `supported`, which are printed in the given order.
    pub fn not_supported(path: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let listed: Vec<String> = supported.iter().map(|value| quote(value)).collect();
        let detail = if listed.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", listed.join(", "))
        };
        Self::new(path, FieldErrorKind::NotSupported, Some(printed(&value.into())), detail)
    }

    /// The value appeared before.
    pub fn duplicate(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(path, FieldErrorKind::Duplicate, Some(printed(&value.into())), "")
    }

    /// The field may not be set or changed.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::Forbidden, None, detail)
    }

    /// The value is longer than `limit_bytes`.
    pub fn too_long(path: impl Into<String>, limit_bytes: usize) -> Self {
        Self::new(
            path,
            FieldErrorKind::TooLong,
            None,
            format!("may not be more than {limit_bytes} bytes"),
        )
    }

    /// The list has `found` items where `limit` are allowed.
    pub fn too_many(path: impl Into<String>, found: usize, limit: usize) -> Self {
        let items = if limit == 1 { "item" } else { "items" };
        let detail = format!("must have at most {limit} {items}");
        Self::new(path, FieldErrorKind::TooMany, Some(found.to_string()), detail)
    }

    /// The value names something that does not exist.
    pub fn not_found(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(path, FieldErrorKind::NotFound, Some(printed(&value.into())), "")
    }

    /// The value has the wrong type.
    pub fn type_invalid(path: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(path, FieldErrorKind::TypeInvalid, Some(printed(&value.into())), detail)
    }

    /// The message without the field's path, as in a Status cause.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        if let Some(value) = &self.value {
            text.push_str(": ");
            text.push_str(value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// Several errors as one text: one stands alone, more become `[a, b]`; repeated texts appear once.
pub fn joined(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    if texts.len() == 1 {
        texts.concat()
    } else {
        format!("[{}]", texts.join(", "))
    }
}

/// A string in double quotes with the escapes that JSON and Go share.
pub(crate) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

fn printed(value: &Value) -> String {
    // A null is how an absent value prints in Kubernetes' own messages.
    match value {
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

/// A place in an object, built on the way down and rendered only when something is wrong there.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The path of a field of the object itself, such as `spec`.
    pub fn root(field: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Field(field),
        }
    }

    /// A field below; `field` may hold dots for several steps.
    pub fn child<'b>(&'b self, field: &'b str) -> Path<'b> {
        Path {
            parent: Some(self),
            step: Step::Field(field),
        }
    }

    /// An item of the list at this path.
    pub fn index(&self, index: usize) -> Path<'_> {
        Path {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// An entry of the map at this path.
    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path {
            parent: Some(self),
            step: Step::Key(key),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Field(name) if self.parent.is_some() => write!(f, ".{name}"),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> String {
        path.to_string()
    }
}

impl From<&Path<'_>> for String {
    fn from(path: &Path<'_>) -> String {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_those_of_kubernetes() {
        let cases = [
            (
                FieldError::required("spec.containers[0].image", ""),
                "spec.containers[0].image: Required value",
            ),
            (FieldError::required("a", "must say"), "a: Required value: must say"),
            (
                FieldError::invalid("a", "x", "detail"),
                r#"a: Invalid value: "x": detail"#,
            ),
            (
                FieldError::invalid("a", 70000, "between 1 and 65535"),
                "a: Invalid value: 70000: between 1 and 65535",
            ),
            (
                FieldError::invalid("a", json!({"b": "c"}), "field is immutable"),
                r#"a: Invalid value: {"b":"c"}: field is immutable"#,
            ),
            (
                FieldError::invalid_bare("a", "0x0", "must be specified for an update"),
                "a: Invalid value: 0x0: must be specified for an update",
            ),
            (
                FieldError::not_supported("a", "x", &["A", "B"]),
                r#"a: Unsupported value: "x": supported values: "A", "B""#,
            ),
            (
                FieldError::duplicate("a[1].name", "x"),
                r#"a[1].name: Duplicate value: "x""#,
            ),
            (FieldError::forbidden("a", "why"), "a: Forbidden: why"),
            (
                FieldError::too_long("a", 63),
                "a: Too long: may not be more than 63 bytes",
            ),
            (
                FieldError::too_many("a", 2, 1),
                "a: Too many: 2: must have at most 1 item",
            ),
            (FieldError::not_found("a", "x"), r#"a: Not found: "x""#),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn several_errors_stand_in_brackets_without_repeats() {
        let one = FieldError::required("a", "");
        let two = FieldError::required("b", "");
        assert_eq!(joined(std::slice::from_ref(&one)), "a: Required value");
        assert_eq!(
            joined(&[one.clone(), two, one]),
            "[a: Required value, b: Required value]"
        );
    }

    #[test]
    fn a_path_renders_fields_items_and_keys() {
        let spec = Path::root("spec");
        let containers = spec.child("containers");
        let third = containers.index(2);
        let limits = third.child("resources.limits");
        assert_eq!(
            limits.key("cpu").to_string(),
            "spec.containers[2].resources.limits[cpu]"
        );
    }
}
