//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub fn config_map(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn config_map_update(_new: &Value, _old: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn secret(_object: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
pub fn secret_update(_new: &Value, _old: &Value, _faults: &mut Vec<crate::field_error::FieldError>) {}
