//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub const ENDPOINT_SLICE: &[crate::kinds::Column] = &[];
pub fn endpoint_slice(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
pub const SERVICE: &[crate::kinds::Column] = &[];
pub fn service(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
pub const ENDPOINTS: &[crate::kinds::Column] = &[];
pub fn endpoints(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
