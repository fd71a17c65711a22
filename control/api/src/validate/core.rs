//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub fn lease(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn namespace(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn event(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
