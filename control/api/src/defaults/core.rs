//! Filled in next.
#![allow(missing_docs)]
use serde_json::Value;
pub fn namespace(_object: &mut Value) {}
pub fn node(_object: &mut Value) {}
pub fn secret(_object: &mut Value) {}
