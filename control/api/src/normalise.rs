//! Brings an object into the one form that Kubernetes would store and return for it.
//!
//! One pass driven by the field facts does what decoding into Go types and encoding again does in Kubernetes: it reports
//! and drops unknown fields, refuses wrong types, drops empty `omitempty` values, writes scalars canonically, and puts
//! fields in Go's order and map keys in byte order. So two equal objects have equal bytes. It must be idempotent, and it
//! never invents a default: that is the defaulting step's work.

mod scalar;
mod walk;

use crate::fields;
use crate::status::ApiError;
pub(crate) use scalar::{format_duration, parse_duration};
use serde_json::Value;
use walk::Walk;
pub(crate) use walk::{blank, schema_type, written_when_absent};

/// What the server does with unknown and duplicate fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Strictness {
    /// Says nothing.
    Ignore,
    /// Sends a `Warning` header for each; what servers do when they are not told.
    #[default]
    Warn,
    /// Refuses the request.
    Strict,
}

/// A field that decoding had to drop. Its display is Kubernetes' own wording, which clients match literally.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The type has no such field. Holds the path.
    UnknownField(String),
    /// The field was given twice; the last one won. Holds the path.
    DuplicateField(String),
    /// A key was given twice in YAML. Holds the line, from 1, and the key.
    DuplicateKey(usize, String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownField(path) => write!(f, "unknown field \"{path}\""),
            Self::DuplicateField(path) => write!(f, "duplicate field \"{path}\""),
            Self::DuplicateKey(line, key) => {
                write!(f, "line {line}: key {key:?} already set in map")
            }
        }
    }
}

/// The refusal of a request under [`Strictness::Strict`], or nothing when there are no problems.
pub fn strict_error(kind: &str, version: &str, problems: &[Problem]) -> Option<ApiError> {
    if problems.is_empty() {
        return None;
    }
    let said = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Some(ApiError::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {said}"
    )))
}

/// Normalises `obj` in place as a value of `go_type` and tells which fields it dropped, in order of appearance.
///
/// # Errors
/// 400 with Kubernetes' words when a value has the wrong type, 500 when there is no such type. `obj` is then useless.
pub fn normalise(go_type: &str, obj: &mut Value) -> Result<Vec<Problem>, ApiError> {
    let Some(kind) = fields::go_type(go_type) else {
        return Err(ApiError::internal(format!("no type {go_type}")));
    };
    let text_at = |key: &str| {
        obj.get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let name = text_at("kind").unwrap_or_else(|| kind.short_name().to_owned());
    let version = text_at("apiVersion").unwrap_or_else(|| kind.version().to_owned());
    let mut walk = Walk::new(kind);
    match walk.root(obj) {
        Ok(()) => Ok(walk.into_problems()),
        Err(fault) => {
            let version = version.rsplit('/').next().unwrap_or_default();
            Err(ApiError::bad_request(format!(
                "{name} in version {version:?} cannot be handled as a {name}: {fault}"
            )))
        }
    }
}

#[cfg(test)]
mod tests;
