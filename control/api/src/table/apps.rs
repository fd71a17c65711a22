//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub const DEPLOYMENT: &[crate::kinds::Column] = &[];
pub fn deployment(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
pub const REPLICA_SET: &[crate::kinds::Column] = &[];
pub fn replica_set(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
