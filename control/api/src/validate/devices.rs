//! Rules of devices and of claims to them.

use super::check::{named, one_of};
use super::{immutable, names};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;
use std::collections::HashSet;

/// Most requests of a claim. Kubernetes' limit.
pub const REQUESTS_LIMIT: usize = 32;
/// Most devices of a slice. Kubernetes' limit.
pub const DEVICES_LIMIT: usize = 128;
/// Most selectors of a request or class. Kubernetes' limit.
pub const SELECTORS_LIMIT: usize = 32;

/// Checks a class of devices.
pub fn class(class: &Value, faults: &mut Vec<FieldError>) {
    let nothing = Value::Null;
    selectors(class.get("spec").unwrap_or(&nothing), Path::root("spec"), faults);
}

fn selectors(owner: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let list = path.child("selectors");
    let all = object::list(owner, "selectors");
    if all.len() > SELECTORS_LIMIT {
        faults.push(FieldError::too_many(list, all.len(), SELECTORS_LIMIT));
    }
    for (index, selector) in all.iter().enumerate() {
        let here = list.index(index);
        if object::text(selector, "cel.expression").is_empty() {
            faults.push(FieldError::required(here.child("cel"), ""));
        }
    }
}

/// Checks a claim.
pub fn claim(claim: &Value, faults: &mut Vec<FieldError>) {
    let nothing = Value::Null;
    spec(claim.get("spec").unwrap_or(&nothing), Path::root("spec"), faults);
}

/// What is claimed never changes.
pub fn claim_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    immutable(new.get("spec"), old.get("spec"), Path::root("spec"), faults);
}

/// Checks a template of claims.
pub fn claim_template(template: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    spec(
        object::get(template, "spec.spec").unwrap_or(&nothing),
        path.child("spec"),
        faults,
    );
}

/// A template never changes.
pub fn claim_template_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    claim_update(new, old, faults);
}

fn spec(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let devices = path.child("devices");
    let list = devices.child("requests");
    let requests = object::list(spec, "devices.requests");
    if requests.len() > REQUESTS_LIMIT {
        faults.push(FieldError::too_many(list, requests.len(), REQUESTS_LIMIT));
    }
    let mut seen = HashSet::new();
    for (index, request) in requests.iter().enumerate() {
        let here = list.index(index);
        let name = object::name_of(request);
        named(name, names::dns_label, here.child("name"), faults);
        super::check::unique(&mut seen, name, here.child("name"), faults);
        let choices = object::list(request, "firstAvailable");
        match (object::get(request, "exactly"), choices.is_empty()) {
            (Some(_), false) => {
                let words = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
                faults.push(FieldError::invalid(here, Value::Null, words));
            }
            (None, true) => {
                let words = "exactly one of `exactly` or `firstAvailable` is required";
                faults.push(FieldError::required(here, words));
            }
            (Some(exactly), true) => amount(exactly, here.child("exactly"), faults),
            (None, false) => {
                let at = here.child("firstAvailable");
                for (index, choice) in choices.iter().enumerate() {
                    amount(choice, at.index(index), faults);
                }
            }
        }
    }
}

fn amount(request: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let class = object::text(request, "deviceClassName");
    named(class, names::dns_subdomain, path.child("deviceClassName"), faults);
    let mode = object::text(request, "allocationMode");
    one_of(mode, &["All", "ExactCount"], path.child("allocationMode"), faults);
    let count = object::integer(request, "count").unwrap_or_default();
    if mode == "ExactCount" && count <= 0 {
        faults.push(FieldError::invalid(
            path.child("count"),
            count,
            "must be greater than zero",
        ));
    } else if mode == "All" && count != 0 {
        let words = "must not be specified when allocationMode is 'All'";
        faults.push(FieldError::invalid(path.child("count"), count, words));
    }
    selectors(request, path, faults);
}

/// Checks a slice.
pub fn slice(slice: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = slice.get("spec").unwrap_or(&nothing);
    named(
        object::text(spec, "driver"),
        names::dns_subdomain,
        path.child("driver"),
        faults,
    );
    let pool = path.child("pool");
    if object::text(spec, "pool.name").is_empty() {
        faults.push(FieldError::required(pool.child("name"), ""));
    }
    if object::integer(spec, "pool.resourceSliceCount").unwrap_or_default() <= 0 {
        let count = object::integer(spec, "pool.resourceSliceCount").unwrap_or_default();
        faults.push(FieldError::invalid(
            pool.child("resourceSliceCount"),
            count,
            "must be greater than zero",
        ));
    }
    let places = [
        !object::text(spec, "nodeName").is_empty(),
        object::get(spec, "nodeSelector").is_some(),
        object::truth(spec, "allNodes"),
        object::truth(spec, "perDeviceNodeSelection"),
    ];
    let words = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match places.into_iter().filter(|given| *given).count() {
        0 => faults.push(FieldError::required(path, words)),
        1 => {}
        _ => faults.push(FieldError::invalid(path, Value::Null, words)),
    }
    let list = path.child("devices");
    let devices = object::list(spec, "devices");
    if devices.len() > DEVICES_LIMIT {
        faults.push(FieldError::too_many(list, devices.len(), DEVICES_LIMIT));
    }
    let mut seen = HashSet::new();
    for (index, device) in devices.iter().enumerate() {
        let here = list.index(index);
        let name = object::name_of(device);
        named(name, names::dns_label, here.child("name"), faults);
        super::check::unique(&mut seen, name, here.child("name"), faults);
    }
}

/// Whose slice it is, and where, never changes.
pub fn slice_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    for field in ["driver", "nodeName", "pool.name"] {
        let [after, before] = [new, old].map(|slice| object::get(slice, &format!("spec.{field}")));
        immutable(after, before, path.child(field), faults);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_and_slices_are_whole() {
        let paths = |check: fn(&Value, &mut Vec<FieldError>), spec: Value| {
            let mut faults = Vec::new();
            check(&json!({"spec": spec}), &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        let exactly = json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1});
        assert!(
            paths(
                claim,
                json!({"devices": {"requests": [{"name": "a", "exactly": exactly}]}})
            )
            .is_empty()
        );
        assert_eq!(
            paths(claim, json!({"devices": {"requests": [{"name": "a"}]}})),
            ["spec.devices.requests[0]"]
        );
        let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
        let fine = json!({"driver": "gpu.example.com", "pool": pool, "nodeName": "n", "devices": [{"name": "d"}]});
        assert!(paths(slice, fine).is_empty());
        assert_eq!(
            paths(slice, json!({"driver": "gpu.example.com", "pool": pool})),
            ["spec"]
        );
    }
}
