//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub fn deployment(_object: &mut Value) {}
pub fn replica_set(_object: &mut Value) {}
