//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub const LEASE: &[crate::kinds::Column] = &[];
pub fn lease(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
pub const NAMESPACE: &[crate::kinds::Column] = &[];
pub fn namespace(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
pub const CONFIG_MAP: &[crate::kinds::Column] = &[];
pub fn config_map(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
pub const SECRET: &[crate::kinds::Column] = &[];
pub fn secret(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
pub const SERVICE_ACCOUNT: &[crate::kinds::Column] = &[];
pub fn service_account(_object: &Value, _now: i64) -> Vec<Value> { Vec::new() }
