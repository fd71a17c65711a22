//! Rules of what drivers say of their devices.

use super::at_most;
use crate::field_error::{FieldError, Path};
use crate::object;
use crate::quantity::Quantity;
use crate::validate::check::{formed, named, not_negative, one_of, unique};
use crate::validate::{immutable, names};
use serde_json::Value;
use std::collections::HashSet;

/// Most devices of a slice, and most where one has taints or takes of counters. Kubernetes' limits.
pub const DEVICES_LIMIT: usize = 128;
/// See [`DEVICES_LIMIT`].
pub const ELABORATE_DEVICES_LIMIT: usize = 64;
/// Most attributes and capacities of a device, and most counters of a set. Kubernetes' limit.
const ATTRIBUTES_LIMIT: usize = 32;
/// Most taints of a device. Kubernetes' limit.
const TAINTS_LIMIT: usize = 16;
/// Most sets of counters of a slice, and of those that a device takes of. Kubernetes' limits.
const COUNTER_SETS_LIMIT: usize = 8;
/// See [`COUNTER_SETS_LIMIT`].
const CONSUMED_SETS_LIMIT: usize = 2;
/// Most conditions of either sort that binding waits for. Kubernetes' limit.
const CONDITIONS_LIMIT: usize = 4;
/// The longest driver name, attribute name and text or version of an attribute, in bytes. Kubernetes' limits.
const DRIVER_LIMIT_BYTES: usize = 63;
/// See [`DRIVER_LIMIT_BYTES`].
const IDENTIFIER_LIMIT_BYTES: usize = 32;
/// See [`DRIVER_LIMIT_BYTES`].
const VALUE_LIMIT_BYTES: usize = 64;

/// What a taint may do to claims.
pub(super) const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];
const PLACES: [&str; 3] = ["nodeName", "nodeSelector", "allNodes"];

/// Checks a slice.
pub fn slice(slice: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = slice.get("spec").unwrap_or(&nothing);
    driver(object::text(spec, "driver"), path.child("driver"), faults);
    pool(spec.get("pool").unwrap_or(&nothing), path.child("pool"), faults);
    let apart = object::truth(spec, "perDeviceNodeSelection");
    let given = places(spec) + usize::from(apart);
    let words = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match given {
        0 => faults.push(FieldError::required(path, words)),
        1 => {}
        _ => faults.push(FieldError::invalid(path, Value::Null, words)),
    }
    node_selector(spec, path.child("nodeSelector"), faults);
    let (all, sets) = (object::list(spec, "devices"), object::list(spec, "sharedCounters"));
    if !all.is_empty() && !sets.is_empty() {
        let words = "only one of `sharedCounters` or `devices` is allowed";
        faults.push(FieldError::invalid(path, Value::Null, words));
    }
    devices(all, apart, path.child("devices"), faults);
    counter_sets(sets, "name", COUNTER_SETS_LIMIT, path.child("sharedCounters"), faults);
}

/// Whose slice it is, and where, never changes.
pub fn slice_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    for field in ["driver", "nodeName", "pool.name"] {
        let [after, before] = [new, old].map(|slice| object::get(slice, &format!("spec.{field}")));
        immutable(after, before, path.child(field), faults);
    }
}

/// A driver's name must be a DNS name of some brevity.
pub(super) fn driver(name: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    named(name, names::dns_subdomain, path, faults);
    if name.len() > DRIVER_LIMIT_BYTES {
        faults.push(FieldError::too_long(path, DRIVER_LIMIT_BYTES));
    }
}

fn pool(pool: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let name = object::name_of(pool);
    if name.is_empty() {
        faults.push(FieldError::required(path.child("name"), ""));
    } else {
        name.split('/')
            .for_each(|part| formed_part(part, names::dns_subdomain, path.child("name"), faults));
    }
    let count = object::integer(pool, "resourceSliceCount").unwrap_or_default();
    if count <= 0 {
        let at = path.child("resourceSliceCount");
        faults.push(FieldError::invalid(at, count, "must be greater than zero"));
    }
    not_negative(pool, "generation", path, faults);
}

fn formed_part(part: &str, form: fn(&str) -> Vec<String>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    faults.extend(
        form(part)
            .into_iter()
            .map(|wrong| FieldError::invalid(path, part, wrong)),
    );
}

/// In how many ways it is said on which nodes something is.
fn places(owner: &Value) -> usize {
    let [name, selector, all] = PLACES;
    let given = [
        !object::text(owner, name).is_empty(),
        object::get(owner, selector).is_some(),
        object::truth(owner, all),
    ];
    given.into_iter().filter(|given| *given).count()
}

fn node_selector(owner: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let Some(selector) = object::get(owner, "nodeSelector") else {
        return;
    };
    let terms = object::list(selector, "nodeSelectorTerms");
    let list = path.child("nodeSelectorTerms");
    match terms.len() {
        0 => faults.push(FieldError::required(list, "must have at least one node selector term")),
        1 => {}
        _ => faults.push(FieldError::invalid(
            list,
            Value::from(terms),
            "must have exactly one node selector term",
        )),
    }
}

fn devices(all: &[Value], apart: bool, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let any = |device: &Value, field: &str| !object::list(device, field).is_empty();
    let elaborate = |device: &Value| any(device, "taints") || any(device, "consumesCounters");
    let limit = match all.iter().any(elaborate) {
        true => ELABORATE_DEVICES_LIMIT,
        false => DEVICES_LIMIT,
    };
    at_most(limit, all, path, faults);
    let mut seen = HashSet::new();
    for (index, found) in all.iter().enumerate() {
        let here = path.index(index);
        let name = object::name_of(found);
        named(name, names::dns_label, here.child("name"), faults);
        unique(&mut seen, name, here.child("name"), faults);
        device(found, apart, here, faults);
    }
}

fn device(device: &Value, apart: bool, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let shared = object::truth(device, "allowMultipleAllocations");
    let attributes = object::map(device, "attributes").into_iter().flatten();
    let capacity = object::map(device, "capacity").into_iter().flatten();
    let count = attributes.clone().count() + capacity.clone().count();
    if count > ATTRIBUTES_LIMIT {
        let at = path.child("attributes");
        faults.push(FieldError::too_many(at, count, ATTRIBUTES_LIMIT));
    }
    let list = path.child("attributes");
    for (name, found) in attributes {
        qualified(name, list, faults);
        attribute(found, list.key(name), faults);
    }
    let list = path.child("capacity");
    for (name, found) in capacity {
        let here = list.key(name);
        qualified(name, list, faults);
        quantity(found.get("value").unwrap_or(&Value::Null), here.child("value"), faults);
        if object::get(found, "requestPolicy").is_some() && !shared {
            let words = "may only be specified when `allowMultipleAllocations` is true";
            faults.push(FieldError::forbidden(here.child("requestPolicy"), words));
        }
    }
    match (apart, places(device)) {
        (true, 0) => {
            let words = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true";
            faults.push(FieldError::required(path, words));
        }
        (true, 1) | (false, 0) => {}
        (true, _) => {
            let words = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true";
            faults.push(FieldError::invalid(path, Value::Null, words));
        }
        (false, _) => {
            let words = "`nodeName`, `nodeSelector` and `allNodes` can only be set when `perDeviceNodeSelection` is set to true";
            faults.push(FieldError::invalid(path, Value::Null, words));
        }
    }
    node_selector(device, path.child("nodeSelector"), faults);
    taints(device, path.child("taints"), faults);
    let consumed = object::list(device, "consumesCounters");
    let list = path.child("consumesCounters");
    counter_sets(consumed, "counterSet", CONSUMED_SETS_LIMIT, list, faults);
    for field in ["bindingConditions", "bindingFailureConditions"] {
        at_most(CONDITIONS_LIMIT, object::list(device, field), path.child(field), faults);
    }
}

/// The name of an attribute or capacity: an identifier, with a domain or without.
pub(super) fn qualified(name: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let identifier = match name.split_once('/') {
        Some((domain, identifier)) => {
            if domain.is_empty() {
                faults.push(FieldError::invalid(path, name, "the domain must not be empty"));
            }
            formed(domain, names::dns_subdomain, path, faults);
            identifier
        }
        None => name,
    };
    let start = |c: char| c.is_ascii_alphabetic() || c == '_';
    let good = identifier.starts_with(start) && identifier.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !good {
        let words = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
        faults.push(FieldError::invalid(path, name, words));
    }
    if identifier.len() > IDENTIFIER_LIMIT_BYTES {
        faults.push(FieldError::too_long(path, IDENTIFIER_LIMIT_BYTES));
    }
}

fn attribute(attribute: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let given = ["bool", "int", "string", "version"].map(|field| object::get(attribute, field).is_some());
    match given.into_iter().filter(|given| *given).count() {
        0 => faults.push(FieldError::required(path, "exactly one value must be specified")),
        1 => {}
        _ => faults.push(FieldError::invalid(
            path,
            attribute.clone(),
            "exactly one value must be specified",
        )),
    }
    for field in ["string", "version"] {
        if object::text(attribute, field).len() > VALUE_LIMIT_BYTES {
            faults.push(FieldError::too_long(path.child(field), VALUE_LIMIT_BYTES));
        }
    }
    let version = object::text(attribute, "version");
    if object::get(attribute, "version").is_some() && !is_version(version) {
        let words = "must be a string compatible with semver.org spec 2.0.0";
        faults.push(FieldError::invalid(path.child("version"), version, words));
    }
}

fn is_version(text: &str) -> bool {
    coracle_cel::Val::version(text).is_some()
}

/// An amount must be one, and not below zero.
pub(super) fn quantity(value: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let text = value.as_str().unwrap_or_default();
    match Quantity::parse(text) {
        Err(error) => faults.push(FieldError::invalid(path, text, error.to_string())),
        Ok(amount) if amount.nanos() < 0 => {
            faults.push(FieldError::invalid(path, text, "must be greater than or equal to 0"));
        }
        Ok(_) => {}
    }
}

fn taints(device: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let all = object::list(device, "taints");
    at_most(TAINTS_LIMIT, all, path, faults);
    for (index, taint) in all.iter().enumerate() {
        let here = path.index(index);
        named(
            object::text(taint, "key"),
            names::qualified_name,
            here.child("key"),
            faults,
        );
        formed(
            object::text(taint, "value"),
            names::label_value,
            here.child("value"),
            faults,
        );
        one_of(object::text(taint, "effect"), EFFECTS, here.child("effect"), faults);
    }
}

/// Sets of counters, as a slice offers them or a device takes of them; `field` names the set.
fn counter_sets(sets: &[Value], field: &str, limit: usize, path: Path<'_>, faults: &mut Vec<FieldError>) {
    at_most(limit, sets, path, faults);
    let mut seen = HashSet::new();
    for (index, set) in sets.iter().enumerate() {
        let here = path.index(index);
        let name = object::text(set, field);
        named(name, names::dns_label, here.child(field), faults);
        unique(&mut seen, name, here.child(field), faults);
        let list = here.child("counters");
        let counters = object::map(set, "counters");
        match counters.map_or(0, serde_json::Map::len) {
            0 => faults.push(FieldError::required(list, "")),
            count if count > ATTRIBUTES_LIMIT => faults.push(FieldError::too_many(list, count, ATTRIBUTES_LIMIT)),
            _ => {}
        }
        for (name, counter) in counters.into_iter().flatten() {
            formed_part(name, names::dns_label, list, faults);
            let at = list.key(name);
            quantity(counter.get("value").unwrap_or(&Value::Null), at.child("value"), faults);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults_of(changes: Value) -> Vec<String> {
        let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
        let mut spec = json!({"driver": "gpu.example.com", "pool": pool, "nodeName": "n", "devices": [{"name": "d"}]});
        for (field, value) in changes.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let mut faults = Vec::new();
        slice(&json!({"spec": spec}), &mut faults);
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn a_slice_is_somewhere() {
        assert!(faults_of(json!({})).is_empty());
        assert_eq!(faults_of(json!({"nodeName": null})), ["spec"]);
        assert_eq!(faults_of(json!({"allNodes": true})), ["spec"]);
        assert_eq!(
            faults_of(json!({"nodeName": null, "perDeviceNodeSelection": true})),
            ["spec.devices[0]"]
        );
        let there = json!([{"name": "d", "nodeName": "a"}]);
        assert!(faults_of(json!({"nodeName": null, "perDeviceNodeSelection": true, "devices": there})).is_empty());
        assert_eq!(faults_of(json!({"devices": there})), ["spec.devices[0]"]);
    }

    #[test]
    fn a_device_says_what_can_be_read() {
        let with = |device: Value| faults_of(json!({"devices": [device]}));
        assert!(
            with(
                json!({"name": "d", "attributes": {"model": {"string": "a"}, "e.com/v": {"version": "1.2.3"}},
                "capacity": {"memory": {"value": "4Gi"}}, "taints": [{"key": "k", "effect": "NoSchedule"}],
                "consumesCounters": [{"counterSet": "s", "counters": {"memory": {"value": "1Gi"}}}]})
            )
            .is_empty()
        );
        for (device, path) in [
            (json!({"name": "D"}), "spec.devices[0].name"),
            (
                json!({"name": "d", "attributes": {"a-b": {"int": 1}}}),
                "spec.devices[0].attributes",
            ),
            (
                json!({"name": "d", "attributes": {"a": {}}}),
                "spec.devices[0].attributes[a]",
            ),
            (
                json!({"name": "d", "attributes": {"a": {"int": 1, "bool": true}}}),
                "spec.devices[0].attributes[a]",
            ),
            (
                json!({"name": "d", "attributes": {"a": {"version": "1"}}}),
                "spec.devices[0].attributes[a].version",
            ),
            (
                json!({"name": "d", "capacity": {"m": {"value": "x"}}}),
                "spec.devices[0].capacity[m].value",
            ),
            (
                json!({"name": "d", "capacity": {"m": {"value": "1", "requestPolicy": {"default": "1"}}}}),
                "spec.devices[0].capacity[m].requestPolicy",
            ),
            (
                json!({"name": "d", "taints": [{"key": "k", "effect": "PreferNoSchedule"}]}),
                "spec.devices[0].taints[0].effect",
            ),
            (
                json!({"name": "d", "consumesCounters": [{"counterSet": "s"}]}),
                "spec.devices[0].consumesCounters[0].counters",
            ),
        ] {
            assert_eq!(with(device.clone()), [path], "{device}");
        }
    }
}
