//! Whether an object may be as it is. Every rule that a user can break answers with the field and the words of Kubernetes.
//!
//! Validators see objects that were read, normalised and defaulted, so types are right; they never change anything.

pub mod admission;
pub mod apiregistration;
pub mod apps;
pub mod autoscaling;
pub mod certificates;
mod check;
pub mod classes;
pub mod config;
mod container;
pub mod core;
pub mod cron_job;
pub mod devices;
pub mod endpoints;
pub mod event;
pub mod flowcontrol;
pub mod ingress;
pub mod job;
pub mod metadata;
pub mod names;
pub mod network_policy;
pub mod networking;
pub mod node;
mod place;
pub mod pod;
mod pod_claims;
pub mod pod_parts;
pub mod pod_update;
pub mod policy;
mod probe;
pub mod quota;
pub mod rbac;
mod resources;
pub mod service;
pub mod stateful_set;
pub mod storage;
mod volume;

use crate::field_error::{FieldError, Path};
use crate::kinds::Kind;
use serde_json::Value;

/// What is wrong with a new object; nothing when it may be stored.
pub fn create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    metadata::create(kind, object, &mut faults);
    (kind.strategy.validate)(object, &mut faults);
    if let Some(custom) = &kind.custom {
        custom.check(object, None, &mut faults);
    }
    faults
}

/// What is wrong with a change of the main object.
pub fn update(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    metadata::update(kind, new, old, &mut faults);
    (kind.strategy.validate_update)(new, old, &mut faults);
    (kind.strategy.validate)(new, &mut faults);
    if let Some(custom) = &kind.custom {
        custom.check(new, Some(old), &mut faults);
    }
    faults
}

/// What is wrong with a change through a door of its own, which has a rule of its own.
pub fn update_part(
    kind: &Kind,
    new: &Value,
    old: &Value,
    rule: fn(&Value, &Value, &mut Vec<FieldError>),
) -> Vec<FieldError> {
    let mut faults = Vec::new();
    metadata::update(kind, new, old, &mut faults);
    rule(new, old, &mut faults);
    (kind.strategy.validate)(new, &mut faults);
    faults
}

/// What is wrong with a change of the status.
pub fn update_status(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    metadata::update(kind, new, old, &mut faults);
    (kind.strategy.validate_status)(new, old, &mut faults);
    if let Some(custom) = &kind.custom {
        custom.check(new, Some(old), &mut faults);
    }
    faults
}

/// A field must not change once it is set.
fn immutable(new: Option<&Value>, old: Option<&Value>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if new != old {
        faults.push(FieldError::invalid(
            path,
            new.cloned().unwrap_or_default(),
            "field is immutable",
        ));
    }
}
