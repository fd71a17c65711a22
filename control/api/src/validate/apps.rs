//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub fn deployment(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn selector_update(_new: &Value, _old: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn replica_set(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
