//! Registrations of groups: those that are served here are available from the start.

use crate::custom::names;
use crate::object;
use serde_json::Value;

/// A new registration without a service is one of a group that is served here.
pub fn create(service: &mut Value) {
    if object::get(service, "spec.service").is_none() {
        let now = object::creation_timestamp(service).to_owned();
        local(service, &now);
    }
}

/// Says that a group is served here.
pub fn local(service: &mut Value, now: &str) {
    let mut conditions = object::list(service, "status.conditions").to_vec();
    let words = "Local APIServices are always available";
    names::set(&mut conditions, "Available", true, "Local", words, now);
    object::set(service, "status.conditions", Value::Array(conditions));
}
