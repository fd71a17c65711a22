//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub const ROLE: &[crate::kinds::Column] = &[];
pub fn role(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
pub const BINDING: &[crate::kinds::Column] = &[];
pub fn binding(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
