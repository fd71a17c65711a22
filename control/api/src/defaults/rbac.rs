//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub fn binding(_object: &mut Value) {}
