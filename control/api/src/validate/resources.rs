//! Rules of what containers request and may use.

use super::check::NOT_NEGATIVE;
use super::names;
use crate::field_error::{FieldError, Path};
use crate::object;
use crate::quantity::Quantity;
use serde_json::{Map, Value};

const CONTAINER_RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Checks a container's `resources`.
pub(super) fn requirements(container: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let limits = object::map(container, "resources.limits");
    let requests = object::map(container, "resources.requests");
    for (field, amounts) in [("limits", limits), ("requests", requests)] {
        let here = path.child(field);
        for (name, amount) in amounts.into_iter().flatten() {
            resource_name(name, here.key(name), faults);
            quantity(name, amount, here.key(name), faults);
        }
    }
    for (name, amount) in requests.into_iter().flatten() {
        within_limit(name, amount, limits, path, faults);
    }
}

/// Checks amounts that belong to no container: the capacity of a node.
pub(super) fn amounts(amounts: Option<&Map<String, Value>>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for (name, amount) in amounts.into_iter().flatten() {
        quantity(name, amount, path.key(name), faults);
    }
}

fn within_limit(
    name: &str,
    amount: &Value,
    limits: Option<&Map<String, Value>>,
    path: Path<'_>,
    faults: &mut Vec<FieldError>,
) {
    let (Some(request), limit) = (read(amount), limits.and_then(|limits| limits.get(name))) else {
        return;
    };
    let divisible = is_native(name) && !name.starts_with("hugepages-");
    match limit.and_then(read) {
        Some(limit) if !divisible && request != limit => {
            let words = format!("must be equal to {name} limit of {limit}");
            faults.push(FieldError::invalid(path.child("requests"), request.to_string(), words));
        }
        Some(limit) if request > limit => {
            let words = format!("must be less than or equal to {name} limit of {limit}");
            faults.push(FieldError::invalid(path.child("requests"), request.to_string(), words));
        }
        None if !divisible => {
            let words = "Limit must be set for non overcommitable resources";
            faults.push(FieldError::required(path.child("limits"), words));
        }
        _ => {}
    }
}

fn read(amount: &Value) -> Option<Quantity> {
    Quantity::parse(amount.as_str()?).ok()
}

/// Whether the resource is one of Kubernetes' own, not one that somebody added under a domain.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn resource_name(name: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for fault in names::qualified_name(name) {
        faults.push(FieldError::invalid(path, name, fault));
    }
    if !name.contains('/') && !CONTAINER_RESOURCES.contains(&name) && !name.starts_with("hugepages-") {
        faults.push(FieldError::invalid(
            path,
            name,
            "must be a standard resource type or fully qualified",
        ));
    }
}

fn quantity(name: &str, amount: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let Some(quantity) = read(amount) else {
        faults.push(FieldError::invalid(path, amount.clone(), "must be a quantity"));
        return;
    };
    if quantity.is_negative() {
        faults.push(FieldError::invalid(path, quantity.to_string(), NOT_NEGATIVE));
    } else if !is_native(name) && !quantity.is_whole() {
        faults.push(FieldError::invalid(path, quantity.to_string(), "must be an integer"));
    }
}
