//! What an object means by what it leaves out: every default that Kubernetes fills in, kind by kind.
//!
//! Defaults are applied to what a client sent, before admission and again after it. They only fill gaps and never change
//! what is there, so applying them twice changes nothing more.

pub mod admission;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod core;
pub mod devices;
pub mod flowcontrol;
pub mod networking;
pub mod pod;
pub mod quota;
pub mod rbac;
pub mod service;
pub mod storage;

use crate::kinds::Kind;
use crate::object;
use serde_json::Value;

/// Fills in what an object of this kind leaves out, in nested pod templates too.
pub fn apply(kind: &Kind, object: &mut Value) {
    match &kind.custom {
        Some(custom) => custom.default(object),
        None => (kind.strategy.default)(object),
    }
}

/// Sets a field when it is missing or null.
fn fill(object: &mut Value, field: &str, value: impl Into<Value>) {
    let found = object::fields(object).entry(field).or_insert(Value::Null);
    if found.is_null() {
        *found = value.into();
    }
}

/// Sets a text field when it is missing, null or empty: for Kubernetes an empty text is an unset one.
fn fill_text(object: &mut Value, field: &str, value: &str) {
    let found = object::fields(object).entry(field).or_insert(Value::Null);
    if found.is_null() || found.as_str() == Some("") {
        *found = Value::from(value);
    }
}

/// The items of a list for writing; none when there is no list.
fn items<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    object
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// A field that is a map, for writing.
fn part<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    object.get_mut(field).filter(|value| value.is_object())
}
