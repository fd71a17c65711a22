//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub fn role(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn cluster_role(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn binding(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn binding_update(_new: &Value, _old: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
