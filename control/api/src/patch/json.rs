//! JSON patch, RFC 6902, by the crate `json-patch`, with Kubernetes' limit and errors.

use crate::json::DEPTH_LIMIT;
use crate::status::{ApiError, BODY_LIMIT_BYTES};
use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde::Deserialize;
use serde_json::Value;

/// Most operations in one patch. It is Kubernetes' own limit: each operation costs a walk from the root.
pub const OPERATIONS_LIMIT: usize = 10_000;

/// Bytes that the copies in one patch may add, as JSON: a whole body, as in Kubernetes. A copy of a copy is twice as large, and
/// thirty of them would be more than any machine holds.
pub const COPIED_LIMIT_BYTES: usize = BODY_LIMIT_BYTES;

/// Applies a list of operations to a copy of the document.
///
/// # Errors
/// 400 when the patch is no list of operations, 413 when it is too long or copies too much, 422 when an operation fails or nests
/// deeper than a body may.
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
    let mut copied_bytes = 0;
    for (at, operation) in operations.iter().enumerate() {
        if expects_nothing(operation, &patched) {
            continue;
        }
        if let PatchOperation::Copy(copy) = operation {
            copied_bytes += patched.pointer(copy.from.as_str()).map_or(0, bytes);
            if copied_bytes > COPIED_LIMIT_BYTES {
                return Err(ApiError::too_much_copied(COPIED_LIMIT_BYTES, copied_bytes).into());
            }
        }
        if nests_too_deep(operation, &patched) {
            let words = format!("operation {at} would nest the object deeper than {DEPTH_LIMIT} levels");
            return Err(ApiError::unprocessable(words).into());
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

/// Whether what this puts into the document would go deeper than what a client may send. Operations could go on from there, to
/// where everything that walks through the object runs out of stack.
fn nests_too_deep(operation: &PatchOperation, document: &Value) -> bool {
    let levels = |path: &str| path.matches('/').count();
    let (path, value) = match operation {
        PatchOperation::Add(add) => (add.path.as_str(), Some(&add.value)),
        PatchOperation::Replace(replace) => (replace.path.as_str(), Some(&replace.value)),
        PatchOperation::Copy(copy) => (copy.path.as_str(), document.pointer(copy.from.as_str())),
        // What does not go down stays as deep as it was.
        PatchOperation::Move(moved) if levels(moved.path.as_str()) <= levels(moved.from.as_str()) => return false,
        PatchOperation::Move(moved) => (moved.path.as_str(), document.pointer(moved.from.as_str())),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return false,
    };
    value.is_some_and(|value| depth(value) + levels(path) > DEPTH_LIMIT)
}

/// How many lists and objects stand in each other.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The length of a value as JSON.
fn bytes(value: &Value) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |text| text.len())
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
    fn copies_of_copies_are_bounded() {
        let document = json!({"data": {"a": "x".repeat(1000)}});
        // Each one copies all that the others made.
        let into_itself = |n: usize| json!({"op": "copy", "from": "/data", "path": format!("/data/{n}")});
        let patch = |count| Value::Array((0..count).map(into_itself).collect());
        assert!(super::json(&document, &patch(5)).is_ok());
        assert_eq!(super::json(&document, &patch(60)).unwrap_err().code, 413);
        // Beside each other, so that nothing doubles.
        let beside = |n: usize| json!({"op": "copy", "from": "/data", "path": format!("/{n}")});
        let patch = |count| Value::Array((0..count).map(beside).collect());
        assert!(super::json(&document, &patch(2000)).is_ok());
        assert_eq!(super::json(&document, &patch(5000)).unwrap_err().code, 413);
    }

    #[test]
    fn nothing_is_nested_deeper_than_a_body_may_be() {
        let down = [
            json!({"op": "add", "path": "/b", "value": {}}),
            json!({"op": "move", "from": "/a", "path": "/b/a"}),
            json!({"op": "move", "from": "/b", "path": "/a"}),
        ];
        let patch = |count: usize| Value::Array(down.iter().cycle().take(3 * count).cloned().collect());
        let document = json!({"a": {}});
        let deep = super::json(&document, &patch(90)).unwrap();
        assert_eq!(depth(&deep), 92);
        assert_eq!(super::json(&document, &patch(3000)).unwrap_err().code, 422);
        let into_itself = json!([{"op": "copy", "from": "/a", "path": format!("{}/c", "/a".repeat(91))}]);
        assert_eq!(super::json(&deep, &into_itself).unwrap_err().code, 422);
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
