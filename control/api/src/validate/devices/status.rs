//! Rules of what a claim has been given, and to whom.

use super::at_most;
use crate::field_error::{FieldError, Path};
use crate::object;
use crate::validate::check::unique;
use crate::validate::immutable;
use serde_json::Value;
use std::collections::HashSet;

/// How many may use a claim at once. Kubernetes' limit.
pub const RESERVED_LIMIT: usize = 256;
/// Most devices of a claim. Kubernetes' limit.
pub const RESULTS_LIMIT: usize = 32;

/// Checks a change of a claim's status: an allocation is made and taken back, never changed, and only what is allocated
/// and is to stay can be reserved.
pub fn claim_status(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let status = Path::root("status");
    let [after, before] = [new, old].map(|claim| object::get(claim, "status.allocation"));
    if after.is_some() && before.is_some() {
        immutable(after, before, status.child("allocation"), faults);
    }
    if let Some(allocation) = after {
        let path = status.child("allocation");
        let devices = path.child("devices");
        let results = object::list(allocation, "devices.results");
        at_most(RESULTS_LIMIT, results, devices.child("results"), faults);
    }
    reserved(new, old, after.is_some(), status.child("reservedFor"), faults);
}

fn reserved(new: &Value, old: &Value, allocated: bool, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let [after, before] = [new, old].map(|claim| object::list(claim, "status.reservedFor"));
    at_most(RESERVED_LIMIT, after, path, faults);
    let mut seen = HashSet::new();
    for (index, consumer) in after.iter().enumerate() {
        let here = path.index(index);
        for field in ["resource", "name", "uid"] {
            if object::text(consumer, field).is_empty() {
                faults.push(FieldError::required(here.child(field), ""));
            }
        }
        unique(&mut seen, object::text(consumer, "uid"), here.child("uid"), faults);
    }
    if !after.is_empty() && !allocated {
        let words = "may not be specified when `allocated` is not set";
        faults.push(FieldError::forbidden(path, words));
    }
    let is_new = |consumer: &Value| !before.contains(consumer);
    if object::deletion_timestamp(new).is_some() && after.iter().any(is_new) {
        let words = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        faults.push(FieldError::forbidden(path, words));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults_of(new: Value, old: Value) -> Vec<String> {
        let mut faults = Vec::new();
        claim_status(&new, &old, &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_allocation_is_made_and_taken_back_and_never_changed() {
        let of = |device: &str| json!({"status": {"allocation": {"devices": {"results": [{"device": device}]}}}});
        assert!(faults_of(of("a"), json!({})).is_empty());
        assert!(faults_of(json!({"status": {}}), of("a")).is_empty());
        let changed = faults_of(of("b"), of("a"));
        assert!(
            changed[0].starts_with("status.allocation: Invalid value"),
            "{changed:?}"
        );
    }

    #[test]
    fn only_what_is_allocated_and_stays_is_reserved() {
        let pod = json!([{"resource": "pods", "name": "p", "uid": "u"}]);
        let reserved = json!({"status": {"allocation": {}, "reservedFor": pod}});
        assert!(faults_of(reserved.clone(), json!({"status": {"allocation": {}}})).is_empty());
        assert_eq!(
            faults_of(json!({"status": {"reservedFor": pod}}), json!({})),
            ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]
        );
        let mut going = reserved.clone();
        going["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert!(faults_of(going.clone(), reserved).is_empty(), "who has it keeps it");
        assert_eq!(faults_of(going, json!({"status": {"allocation": {}}})).len(), 1);
        let twice = json!({"status": {"allocation": {}, "reservedFor": [pod[0], pod[0]]}});
        assert_eq!(
            faults_of(twice, json!({})),
            ["status.reservedFor[1].uid: Duplicate value: \"u\""]
        );
    }
}
