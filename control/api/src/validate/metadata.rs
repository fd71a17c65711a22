//! Filled in next.
#![allow(missing_docs)]
use crate::{field_error::FieldError, kinds::Kind};
use serde_json::Value;
pub fn create(_kind: &Kind, _object: &Value, _faults: &mut Vec<FieldError>) {}
pub fn update(_kind: &Kind, _new: &Value, _old: &Value, _faults: &mut Vec<FieldError>) {}
