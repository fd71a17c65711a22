//! Bodies of requests: read with a limit, parsed by their content type, and brought into the stored form.

use std::collections::HashMap;

use bytes::Bytes;
use coracle_api::custom::Custom;
use coracle_api::kinds::Kind;
use coracle_api::normalise::{Problem, Strictness};
use coracle_api::status::{ApiError, BODY_LIMIT_BYTES};
use coracle_api::{json, normalise, object, protobuf, yaml};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

/// The body of every request that the chain takes.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// The content types that objects may come in.
const READS: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// A body that was parsed, with what was strange about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document {
    pub(crate) value: Value,
    /// Fields that were given twice.
    pub(crate) problems: Vec<Problem>,
}

/// Reads a whole body; 413 when it is larger than any object may be.
pub(crate) async fn read(body: RequestBody) -> Result<Bytes, ApiError> {
    match Limited::new(body, BODY_LIMIT_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(BODY_LIMIT_BYTES)),
        Err(error) => Err(ApiError::bad_request(format!(
            "the request body could not be read: {error}"
        ))),
    }
}

/// A request's content type without parameters; JSON when it says nothing.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .unwrap_or("application/json")
}

/// Parses an object by its content type. An empty body is `null`.
pub(crate) fn parse(headers: &HeaderMap, bytes: &[u8]) -> Result<Document, ApiError> {
    if bytes.is_empty() {
        return Ok(Document::default());
    }
    let (value, problems) = match content_type(headers) {
        "application/json" => json::parse(bytes)?,
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml::parse(bytes)?,
        "application/vnd.kubernetes.protobuf" => (protobuf::decode(bytes)?, Vec::new()),
        _ => return Err(ApiError::unsupported_media(READS)),
    };
    Ok(Document { value, problems })
}

/// What an object is expected to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) api_version: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) go_type: &'a str,
    /// The rules of a kind that a user defined.
    pub(crate) custom: Option<&'a Custom>,
}

/// What an object of a kind is expected to be; `api_version` is the kind's own, made once per request.
pub(crate) fn expected<'a>(kind: &'a Kind, api_version: &'a str) -> Expected<'a> {
    Expected {
        api_version,
        version: &kind.version,
        kind: &kind.kind,
        go_type: kind.go_type,
        custom: kind.custom.as_deref(),
    }
}

/// Checks that an object is of the kind that its path says, and fills that in where typed clients leave it out.
pub(crate) fn check_kind(value: &mut Value, expected: Expected<'_>) -> Result<(), ApiError> {
    let Some(fields) = value.as_object_mut() else {
        return Err(ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: the body is no JSON object",
            expected.kind, expected.version, expected.kind
        )));
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if !kind.is_empty() && kind != expected.kind {
        let version = coracle_api::kinds::split_api_version(api_version).1;
        return Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: no conversion between these kinds",
            expected.kind
        )));
    }
    if !api_version.is_empty() && api_version != expected.api_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            expected.api_version
        )));
    }
    if kind.is_empty() || api_version.is_empty() {
        fields.shift_insert(0, "kind".to_owned(), expected.kind.into());
        fields.shift_insert(1, "apiVersion".to_owned(), expected.api_version.into());
    }
    Ok(())
}

/// Brings an object into the form in which it is stored, and answers with what to warn about.
pub(crate) fn normalise(
    document: Document,
    expected: Expected<'_>,
    strictness: Strictness,
) -> Result<(Value, Vec<String>), ApiError> {
    let (value, problems) = normalise_lenient(document, expected)?;
    match strictness {
        Strictness::Ignore => Ok((value, Vec::new())),
        Strictness::Warn => Ok((value, problems.iter().map(ToString::to_string).collect())),
        Strictness::Strict => match normalise::strict_error(expected.kind, expected.version, &problems) {
            Some(error) => Err(error),
            None => Ok((value, Vec::new())),
        },
    }
}

/// The same, and leaves it to the caller what the problems mean.
pub(crate) fn normalise_lenient(document: Document, expected: Expected<'_>) -> Result<(Value, Vec<Problem>), ApiError> {
    let Document {
        mut value,
        problems: duplicates,
    } = document;
    check_kind(&mut value, expected)?;
    let places = if duplicates.is_empty() {
        None
    } else {
        Some(places(&value))
    };
    let unknown = match expected.custom {
        Some(custom) => custom.shape(&mut value)?,
        None if expected.go_type.is_empty() => Vec::new(),
        None => normalise::normalise(expected.go_type, &mut value)?,
    };
    let problems = match places {
        None => unknown,
        Some(places) => in_order(unknown, duplicates, &places),
    };
    Ok((value, problems))
}

/// The place of every path in a document, in reading order.
fn places(value: &Value) -> HashMap<String, usize> {
    let mut places = HashMap::new();
    walk(value, &mut String::new(), &mut places);
    places
}

fn walk(value: &Value, path: &mut String, places: &mut HashMap<String, usize>) {
    let length = path.len();
    match value {
        Value::Object(fields) => {
            for (name, member) in fields {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                let place = places.len();
                places.insert(path.clone(), place);
                walk(member, path, places);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(item, path, places);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn in_order(mut problems: Vec<Problem>, more: Vec<Problem>, places: &HashMap<String, usize>) -> Vec<Problem> {
    problems.extend(more);
    problems.sort_by_key(|problem| match problem {
        Problem::UnknownField(path) | Problem::DuplicateField(path) => places.get(path).copied().unwrap_or(usize::MAX),
        Problem::DuplicateKey(line, _) => *line,
    });
    problems
}

/// Puts the namespace of the path into the object; 400 when the object names another.
pub(crate) fn settle_namespace(value: &mut Value, namespace: Option<&str>) -> Result<(), ApiError> {
    let Some(namespace) = namespace else { return Ok(()) };
    match object::namespace(value) {
        "" => object::set_namespace(value, namespace),
        own if own == namespace => {}
        _ => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const POD: Expected<'static> = Expected {
        api_version: "v1",
        version: "v1",
        kind: "Pod",
        go_type: "k8s.io/api/core/v1.Pod",
        custom: None,
    };

    #[test]
    fn the_kind_must_be_that_of_the_path() {
        let mut value = json!({"metadata": {}});
        check_kind(&mut value, POD).unwrap();
        assert_eq!(value, json!({"kind": "Pod", "apiVersion": "v1", "metadata": {}}));
        assert!(check_kind(&mut json!({"kind": "Service", "apiVersion": "v1"}), POD).is_err());
        let error = check_kind(&mut json!({"kind": "Pod", "apiVersion": "v2"}), POD).unwrap_err();
        assert_eq!(
            error.message,
            "the API version in the data (v2) does not match the expected API version (v1)"
        );
        assert!(check_kind(&mut json!([]), POD).is_err());
    }

    #[test]
    fn problems_are_told_in_reading_order() {
        let places = places(&json!({"a": 1, "b": [{"c": 1}], "d": 2}));
        let unknown = vec![Problem::UnknownField("a".into()), Problem::UnknownField("d".into())];
        let twice = vec![Problem::DuplicateField("b[0].c".into())];
        let texts: Vec<String> = in_order(unknown, twice, &places)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "unknown field \"a\"",
                "duplicate field \"b[0].c\"",
                "unknown field \"d\""
            ]
        );
    }

    #[test]
    fn a_namespace_is_filled_in_and_checked() {
        let mut value = json!({"metadata": {}});
        settle_namespace(&mut value, Some("a")).unwrap();
        assert_eq!(object::namespace(&value), "a");
        assert!(settle_namespace(&mut value, Some("b")).is_err());
    }
}
