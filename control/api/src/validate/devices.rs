//! Rules of claims to devices and of their classes. Slices and the status of a claim have files of their own.

mod selector;
mod slice;
mod status;

pub use slice::{slice, slice_update};
pub use status::{RESERVED_LIMIT, RESULTS_LIMIT, claim_status};

use super::check::{formed, named, one_of, one_of_if_set, unique};
use super::{immutable, names};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;
use std::collections::HashSet;

/// Most requests of a claim, constraints of it, and configurations of it or of a class. Kubernetes' limit.
pub const REQUESTS_LIMIT: usize = 32;
/// Most choices of a request. Kubernetes' limit.
pub const CHOICES_LIMIT: usize = 8;
/// Most tolerations of a request. Kubernetes' limit.
pub const TOLERATIONS_LIMIT: usize = 16;
/// The longest parameters of a driver, in bytes. Kubernetes' limit.
pub const PARAMETERS_LIMIT_BYTES: usize = 10 * 1024;

/// Checks a class of devices.
pub fn class(class: &Value, faults: &mut Vec<FieldError>) {
    let nothing = Value::Null;
    let spec = class.get("spec").unwrap_or(&nothing);
    let path = Path::root("spec");
    selector::selectors(spec, path, faults);
    configurations(spec, None, path, faults);
    let extended = object::text(spec, "extendedResourceName");
    formed(
        extended,
        names::qualified_name,
        path.child("extendedResourceName"),
        faults,
    );
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

/// More items than a list may have.
fn at_most(limit: usize, all: &[Value], path: Path<'_>, faults: &mut Vec<FieldError>) {
    if all.len() > limit {
        faults.push(FieldError::too_many(path, all.len(), limit));
    }
}

fn spec(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let nothing = Value::Null;
    let (path, devices) = (path.child("devices"), spec.get("devices").unwrap_or(&nothing));
    let list = path.child("requests");
    let requests = object::list(devices, "requests");
    at_most(REQUESTS_LIMIT, requests, list, faults);
    let mut seen = HashSet::new();
    for (index, found) in requests.iter().enumerate() {
        let here = list.index(index);
        let name = object::name_of(found);
        named(name, names::dns_label, here.child("name"), faults);
        unique(&mut seen, name, here.child("name"), faults);
        request(found, here, faults);
    }
    let known = references(requests);
    let list = path.child("constraints");
    let constraints = object::list(devices, "constraints");
    at_most(REQUESTS_LIMIT, constraints, list, faults);
    for (index, found) in constraints.iter().enumerate() {
        constraint(found, &known, list.index(index), faults);
    }
    configurations(devices, Some(&known), path, faults);
}

/// The names by which constraints and configurations may mean requests: `gpu`, and `gpu/small` for a choice.
fn references(requests: &[Value]) -> HashSet<String> {
    let of = |request: &Value| {
        let name = object::name_of(request).to_owned();
        let choices = object::list(request, "firstAvailable").iter();
        let choices: Vec<String> = choices
            .map(|choice| format!("{name}/{}", object::name_of(choice)))
            .collect();
        std::iter::once(name).chain(choices)
    };
    requests.iter().flat_map(of).collect()
}

fn request(request: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let choices = object::list(request, "firstAvailable");
    match (object::get(request, "exactly"), choices.is_empty()) {
        (Some(_), false) => {
            let words = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            faults.push(FieldError::invalid(path, Value::Null, words));
        }
        (None, true) => {
            let words = "exactly one of `exactly` or `firstAvailable` is required";
            faults.push(FieldError::required(path, words));
        }
        (Some(exactly), true) => amount(exactly, path.child("exactly"), faults),
        (None, false) => {
            let list = path.child("firstAvailable");
            at_most(CHOICES_LIMIT, choices, list, faults);
            let mut seen = HashSet::new();
            for (index, choice) in choices.iter().enumerate() {
                let here = list.index(index);
                let name = object::name_of(choice);
                named(name, names::dns_label, here.child("name"), faults);
                unique(&mut seen, name, here.child("name"), faults);
                amount(choice, here, faults);
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
    selector::selectors(request, path, faults);
    let list = path.child("tolerations");
    let tolerations = object::list(request, "tolerations");
    at_most(TOLERATIONS_LIMIT, tolerations, list, faults);
    for (index, found) in tolerations.iter().enumerate() {
        toleration(found, list.index(index), faults);
    }
    for (name, amount) in object::map(request, "capacity.requests").into_iter().flatten() {
        let at = path.child("capacity.requests");
        slice::quantity(amount, at.key(name), faults);
    }
}

fn toleration(toleration: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let text = |field| object::text(toleration, field);
    let (key, operator, value) = (text("key"), text("operator"), text("value"));
    formed(key, names::qualified_name, path.child("key"), faults);
    one_of(operator, &["Equal", "Exists"], path.child("operator"), faults);
    if operator == "Exists" && !value.is_empty() {
        let words = "must be empty for operator `Exists`";
        faults.push(FieldError::invalid(path.child("value"), value, words));
    }
    if key.is_empty() && operator == "Equal" {
        let words = "must be 'Exists' when `key` is empty, which means \"match all values and all keys\"";
        faults.push(FieldError::invalid(path.child("operator"), operator, words));
    }
    formed(value, names::label_value, path.child("value"), faults);
    one_of_if_set(text("effect"), slice::EFFECTS, path.child("effect"), faults);
}

fn known_requests(owner: &Value, known: &HashSet<String>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let list = path.child("requests");
    let mut seen = HashSet::new();
    for (index, name) in object::list(owner, "requests").iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        unique(&mut seen, name, list.index(index), faults);
        if !known.contains(name) {
            let words =
                "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
            faults.push(FieldError::invalid(list.index(index), name, words));
        }
    }
}

fn constraint(constraint: &Value, known: &HashSet<String>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    known_requests(constraint, known, path, faults);
    let fields = ["matchAttribute", "distinctAttribute"];
    let given: Vec<&str> = fields
        .into_iter()
        .filter(|field| object::get(constraint, field).is_some())
        .collect();
    let words = "exactly one of `matchAttribute` or `distinctAttribute` is required";
    match given.as_slice() {
        [] => faults.push(FieldError::required(path, words)),
        [field] => {
            let name = object::text(constraint, field);
            let at = path.child(field);
            if name.is_empty() {
                faults.push(FieldError::required(at, ""));
            } else if name.contains('/') {
                slice::qualified(name, at, faults);
            } else {
                faults.push(FieldError::invalid(at, name, "must include a domain"));
            }
        }
        _ => faults.push(FieldError::invalid(path, Value::Null, words)),
    }
}

/// What is passed on to drivers; a claim's may be for some requests only.
fn configurations(owner: &Value, known: Option<&HashSet<String>>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let list = path.child("config");
    let all = object::list(owner, "config");
    at_most(REQUESTS_LIMIT, all, list, faults);
    for (index, found) in all.iter().enumerate() {
        let here = list.index(index);
        if let Some(known) = known {
            known_requests(found, known, here, faults);
        }
        let opaque = here.child("opaque");
        let Some(of_driver) = object::get(found, "opaque") else {
            faults.push(FieldError::required(opaque, ""));
            continue;
        };
        slice::driver(object::text(of_driver, "driver"), opaque.child("driver"), faults);
        let parameters = opaque.child("parameters");
        match object::get(of_driver, "parameters") {
            None => faults.push(FieldError::required(parameters, "")),
            Some(Value::Object(fields)) => {
                let length = serde_json::to_string(fields).map_or(0, |text| text.len());
                if length > PARAMETERS_LIMIT_BYTES {
                    faults.push(FieldError::too_long(parameters, PARAMETERS_LIMIT_BYTES));
                }
            }
            Some(other) => {
                let words = "must be a valid JSON object";
                faults.push(FieldError::invalid(parameters, other.clone(), words));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults_of(check: fn(&Value, &mut Vec<FieldError>), object: Value) -> Vec<String> {
        let mut faults = Vec::new();
        check(&object, &mut faults);
        faults.into_iter().map(|fault| fault.path).collect()
    }

    fn of_claim(devices: Value) -> Vec<String> {
        faults_of(claim, json!({"spec": {"devices": devices}}))
    }

    fn one() -> Value {
        json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1})
    }

    #[test]
    fn a_request_says_one_thing() {
        let exactly = one();
        assert!(of_claim(json!({"requests": [{"name": "a", "exactly": exactly}]})).is_empty());
        assert_eq!(
            of_claim(json!({"requests": [{"name": "a"}]})),
            ["spec.devices.requests[0]"]
        );
        let mut choice = one();
        choice["name"] = json!("small");
        let both = json!({"name": "a", "exactly": exactly, "firstAvailable": [choice]});
        assert_eq!(of_claim(json!({"requests": [both]})), ["spec.devices.requests[0]"]);
        let twice = json!({"name": "a", "firstAvailable": [choice, choice]});
        assert_eq!(
            of_claim(json!({"requests": [twice]})),
            ["spec.devices.requests[0].firstAvailable[1].name"]
        );
        let mut odd = one();
        odd["selectors"] = json!([{"cel": {"expression": "device.nothing"}}]);
        odd["tolerations"] = json!([{"operator": "Exists", "value": "x"}]);
        assert_eq!(
            of_claim(json!({"requests": [{"name": "a", "exactly": odd}]})),
            [
                "spec.devices.requests[0].exactly.selectors[0].cel.expression",
                "spec.devices.requests[0].exactly.tolerations[0].value"
            ]
        );
    }

    #[test]
    fn constraints_and_configurations_name_requests_that_there_are() {
        let mut choice = one();
        choice["name"] = json!("small");
        let requests = json!([{"name": "a", "firstAvailable": [choice]}]);
        let devices = |constraint: Value, config: Value| json!({"requests": requests, "constraints": [constraint], "config": [config]});
        let opaque = json!({"driver": "gpu.example.com", "parameters": {"mode": "fast"}});
        let good = devices(
            json!({"requests": ["a", "a/small"], "matchAttribute": "example.com/numa"}),
            json!({"requests": ["a/small"], "opaque": opaque}),
        );
        assert!(of_claim(good).is_empty());
        let bad = devices(
            json!({"requests": ["b"], "matchAttribute": "numa"}),
            json!({"opaque": {"driver": "Gpu", "parameters": []}}),
        );
        assert_eq!(
            of_claim(bad),
            [
                "spec.devices.constraints[0].requests[0]",
                "spec.devices.constraints[0].matchAttribute",
                "spec.devices.config[0].opaque.driver",
                "spec.devices.config[0].opaque.parameters"
            ]
        );
        let neither = devices(json!({}), json!({"opaque": opaque}));
        assert_eq!(of_claim(neither), ["spec.devices.constraints[0]"]);
    }
}
