//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub fn pod(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
