//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub fn update(_new: &Value, _old: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
