//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub fn pod(_object: &mut Value) {}
