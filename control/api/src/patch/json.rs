//! JSON patch, RFC 6902, by the crate `json-patch`, with Kubernetes' limit and errors.

use crate::status::ApiError;
use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde::Deserialize;
use serde_json::Value;

/// Most operations in one patch. It is Kubernetes' own limit: each operation costs a walk from the root.
pub const OPERATIONS_LIMIT: usize = 10_000;

/// Applies a list of operations to a copy of the document.
///
/// # Errors
/// 400 when the patch is no list of operations, 413 when it is too long, 422 when an operation fails.
pub fn json(document: &Value, patch: &Value) -> Result<Value, ApiError> {
    patched(document, patch).map_err(|failure| failure.error)
}

/// The same where a failed test only means that there is nothing to do: the answer is then `None`.
///
/// # Errors
/// As above, but for tests.
pub fn json_where_tested(document: &Value, patch: &Value) -> Result<Option<Value>, ApiError> {
    match patched(document, patch) {
        Ok(patched) => Ok(Some(patched)),
        Err(failure) if failure.tested => Ok(None),
        Err(failure) => Err(failure.error),
    }
}

/// Why a patch could not be applied.
struct Failure {
    error: ApiError,
    /// The document is not as the patch wants it.
    tested: bool,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { error, tested: false }
    }
}

fn patched(document: &Value, patch: &Value) -> Result<Value, Failure> {
    let count = patch.as_array().map_or(0, Vec::len);
    if count > OPERATIONS_LIMIT {
        return Err(ApiError::too_many_operations(OPERATIONS_LIMIT, count).into());
    }
    let operations =
        Patch::deserialize(patch).map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    let mut patched = document.clone();
    for (at, operation) in operations.iter().enumerate() {
        if expects_nothing(operation, &patched) {
            continue;
        }
        json_patch::patch(&mut patched, std::slice::from_ref(operation)).map_err(|error| failure(at, error))?;
    }
    Ok(patched)
}

/// Whether this is a test for null of what is not there. Kubernetes lets it pass, and clients rely on it: so they say that
/// an object has no finalizers yet.
fn expects_nothing(operation: &PatchOperation, document: &Value) -> bool {
    match operation {
        PatchOperation::Test(test) => test.value.is_null() && document.pointer(test.path.as_str()).is_none(),
        _ => false,
    }
}

fn failure(at: usize, error: json_patch::PatchError) -> Failure {
    let path = error.path.as_str();
    let tested = matches!(error.kind, PatchErrorKind::TestFailed);
    let words = match error.kind {
        PatchErrorKind::TestFailed => format!("testing value {path} failed"),
        kind => format!("operation {at} on path {path:?} failed: {kind}"),
    };
    let words = format!("the server rejected our request due to an error in our request: {words}");
    Failure {
        error: ApiError::unprocessable(words),
        tested,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_apply_in_order() {
        let document = json!({"spec": {"replicas": 1, "list": ["a", "b"]}, "x": 1});
        let patch = json!([
            {"op": "test", "path": "/spec/replicas", "value": 1},
            {"op": "replace", "path": "/spec/replicas", "value": 3},
            {"op": "add", "path": "/spec/list/-", "value": "c"},
            {"op": "add", "path": "/metadata", "value": {"labels": {"a~/b": "1"}}},
            {"op": "copy", "from": "/metadata/labels/a~0~1b", "path": "/copied"},
            {"op": "remove", "path": "/x"},
        ]);
        let wanted = json!({"spec": {"replicas": 3, "list": ["a", "b", "c"]}, "metadata": {"labels": {"a~/b": "1"}}, "copied": "1"});
        assert_eq!(super::json(&document, &patch).unwrap(), wanted);
    }

    #[test]
    fn what_is_not_there_is_null() {
        let document = json!({"a": 1});
        let patch = json!([{"op": "test", "path": "/b/c", "value": null}, {"op": "add", "path": "/b", "value": []}]);
        assert_eq!(super::json(&document, &patch).unwrap(), json!({"a": 1, "b": []}));
        let patch = json!([{"op": "test", "path": "/a", "value": null}]);
        assert_eq!(super::json_where_tested(&document, &patch).unwrap(), None);
    }

    #[test]
    fn failures_have_the_codes_of_kubernetes() {
        let document = json!({"a": 1});
        let cases = [
            (json!({"op": "add"}), 400),
            (json!([{"op": "fly", "path": "/a"}]), 400),
            (json!([{"op": "remove", "path": "/b"}]), 422),
            (json!([{"op": "test", "path": "/a", "value": 2}]), 422),
            (
                Value::Array(vec![
                    json!({"op": "test", "path": "/a", "value": 1});
                    OPERATIONS_LIMIT + 1
                ]),
                413,
            ),
        ];
        for (patch, code) in cases {
            assert_eq!(super::json(&document, &patch).map_err(|e| e.code), Err(code));
        }
    }
}
