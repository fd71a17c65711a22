//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub fn endpoint_slice(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn endpoint_slice_update(_new: &Value, _old: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn endpoints(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
