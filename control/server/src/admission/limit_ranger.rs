//! LimitRanges: what containers and claims of a namespace get when they say nothing, and how much they may ask for.

use coracle_api::object;
use coracle_api::quantity::Quantity;
use coracle_api::quota::amounts::{self, Amounts};
use coracle_api::status::ApiError;
use coracle_store::Snapshot;
use serde_json::Value;

use super::{Request, is};
use crate::document;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Ratios of larger amounts are compared as whole numbers, of smaller ones in thousandths.
const EXACT: i128 = 1_000_000;

/// The limits of a namespace, one list over all its ranges.
fn limits(snapshot: &Snapshot, namespace: &str) -> Vec<Value> {
    let prefix = format!("limitranges/{namespace}/");
    let ranges = snapshot
        .range(&prefix, None)
        .filter_map(|record| document::tree(record).ok());
    ranges
        .flat_map(|range| object::list(&range, "spec.limits").to_vec())
        .collect()
}

/// Fills in what the containers of a new pod do not say.
pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) {
    let limits = limits(request.snapshot, request.scope.namespace.unwrap_or_default());
    if limits.is_empty() {
        return;
    }
    let mut said = Vec::new();
    for limit in limits.iter().filter(|limit| object::text(limit, "type") == "Container") {
        for list in ["initContainers", "containers"] {
            let containers = object::child(object::child(pod, "spec"), list).as_array_mut();
            for container in containers.into_iter().flatten() {
                let what = if list == "containers" {
                    "container"
                } else {
                    "init container"
                };
                for (from, to, kind) in [
                    ("defaultRequest", "requests", "request"),
                    ("default", "limits", "limit"),
                ] {
                    let filled = fill(container, to, object::map(limit, from));
                    if !filled.is_empty() {
                        let name = object::text(container, "name");
                        said.push(format!("{} {kind} for {what} {name}", filled.join(", ")));
                    }
                }
            }
        }
    }
    tidy(pod);
    if !said.is_empty() {
        object::set_annotation(pod, ANNOTATION, &format!("LimitRanger plugin set: {}", said.join("; ")));
    }
}

/// Looking into a list must not leave an empty one behind.
fn tidy(pod: &mut Value) {
    if object::get(pod, "spec.initContainers").is_some_and(|list| list.as_array().is_none_or(Vec::is_empty)) {
        object::remove(pod, "spec.initContainers");
    }
}

fn fill(container: &mut Value, list: &str, defaults: Option<&serde_json::Map<String, Value>>) -> Vec<String> {
    let mut filled = Vec::new();
    let Some(defaults) = defaults.filter(|defaults| !defaults.is_empty()) else {
        return filled;
    };
    let amounts = object::fields(object::child(object::child(container, "resources"), list));
    for (name, amount) in defaults {
        if !amounts.contains_key(name) {
            amounts.insert(name.clone(), amount.clone());
            filled.push(name.clone());
        }
    }
    filled.sort_unstable();
    filled
}

/// Refuses what is outside of the limits.
pub(super) fn validate(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let kind = request.scope.kind;
    let claim = is(kind, "", "PersistentVolumeClaim");
    if !claim && !request.creates("", "Pod") {
        return Ok(());
    }
    let limits = limits(request.snapshot, request.scope.namespace.unwrap_or_default());
    let mut faults = Vec::new();
    for limit in &limits {
        match (object::text(limit, "type"), claim) {
            ("PersistentVolumeClaim", true) => check_claim(limit, object, &mut faults),
            ("Container", false) => {
                for list in ["spec.containers", "spec.initContainers"] {
                    for container in object::list(object, list) {
                        let requests = amounts::read(container, "resources.requests");
                        let most = amounts::read(container, "resources.limits");
                        check(limit, "Container", &requests, &most, &mut faults);
                    }
                }
            }
            ("Pod", false) => {
                let (requests, most) = (amounts::of_pod(object, "requests"), amounts::of_pod(object, "limits"));
                check(limit, "Pod", &requests, &most, &mut faults);
            }
            _ => {}
        }
    }
    match faults.as_slice() {
        [] => Ok(()),
        [one] => Err(request.forbidden(one)),
        several => Err(request.forbidden(&format!("[{}]", several.join(", ")))),
    }
}

fn check(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts, faults: &mut Vec<String>) {
    for (name, least) in amounts::read(limit, "min") {
        let about = format!("minimum {name} usage per {kind} is {least}");
        match requests.get(&name) {
            None => faults.push(format!("{about}.  No request is specified")),
            Some(own) if *own < least => faults.push(format!("{about}, but request is {own}")),
            Some(_) => {
                if let Some(own) = limits.get(&name).filter(|own| **own < least) {
                    faults.push(format!("{about}, but limit is {own}"));
                }
            }
        }
    }
    for (name, most) in amounts::read(limit, "max") {
        let about = format!("maximum {name} usage per {kind} is {most}");
        match limits.get(&name) {
            None => faults.push(format!("{about}.  No limit is specified")),
            Some(own) if *own > most => faults.push(format!("{about}, but limit is {own}")),
            Some(_) => {
                if let Some(own) = requests.get(&name).filter(|own| **own > most) {
                    faults.push(format!("{about}, but request is {own}"));
                }
            }
        }
    }
    for (name, ratio) in amounts::read(limit, "maxLimitRequestRatio") {
        let about = format!("{name} max limit to request ratio per {kind} is {ratio}");
        if let Some(fault) = check_ratio(ratio, requests.get(&name), limits.get(&name)) {
            faults.push(format!("{about}, but {fault}"));
        }
    }
}

fn check_ratio(most: Quantity, request: Option<&Quantity>, limit: Option<&Quantity>) -> Option<String> {
    let Some(request) = request.filter(|amount| !amount.is_zero()) else {
        return Some("no request is specified or request is 0".to_owned());
    };
    let Some(limit) = limit.filter(|amount| !amount.is_zero()) else {
        return Some("no limit is specified or limit is 0".to_owned());
    };
    let exact = request.value() <= EXACT && limit.value() <= EXACT;
    let amount = |quantity: &Quantity| if exact { quantity.milli() } else { quantity.value() };
    let ratio = amount(limit) as f64 / amount(request) as f64;
    let allowed = most.milli() as f64 / 1000.0;
    (ratio > allowed).then(|| format!("provided ratio is {ratio:.6}"))
}

fn check_claim(limit: &Value, claim: &Value, faults: &mut Vec<String>) {
    let requests = amounts::read(claim, "spec.resources.requests");
    let storage = requests.get("storage");
    for (field, word) in [("min", "minimum"), ("max", "maximum")] {
        let Some(bound) = amounts::read(limit, field).remove("storage") else {
            continue;
        };
        let about = format!("{word} storage usage per PersistentVolumeClaim is {bound}");
        match storage {
            None => faults.push(format!("{about}.  No request is specified")),
            Some(own) if (field == "min" && *own < bound) || (field == "max" && *own > bound) => {
                faults.push(format!("{about}, but request is {own}"));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(limit: Value, requests: Value, limits: Value) -> Vec<String> {
        let container = json!({"requests": requests, "limits": limits});
        let mut faults = Vec::new();
        let (requests, limits) = (
            amounts::read(&container, "requests"),
            amounts::read(&container, "limits"),
        );
        check(&limit, "Container", &requests, &limits, &mut faults);
        faults
    }

    #[test]
    fn words_are_those_of_kubernetes() {
        let cases = [
            (
                json!({"max": {"cpu": "1"}}),
                json!({}),
                json!({"cpu": "2"}),
                "maximum cpu usage per Container is 1, but limit is 2",
            ),
            (
                json!({"max": {"memory": "1Gi"}}),
                json!({}),
                json!({}),
                "maximum memory usage per Container is 1Gi.  No limit is specified",
            ),
            (
                json!({"min": {"cpu": "100m"}}),
                json!({"cpu": "50m"}),
                json!({}),
                "minimum cpu usage per Container is 100m, but request is 50m",
            ),
            (
                json!({"min": {"cpu": "100m"}}),
                json!({}),
                json!({}),
                "minimum cpu usage per Container is 100m.  No request is specified",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"cpu": "250m"}),
                json!({"cpu": "1"}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({}),
                json!({"cpu": "1"}),
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ),
        ];
        for (limit, requests, limits, words) in cases {
            assert_eq!(faults(limit, requests, limits), [words]);
        }
        let inside = json!({"max": {"cpu": "1"}, "min": {"cpu": "100m"}, "maxLimitRequestRatio": {"cpu": "2"}});
        assert!(faults(inside, json!({"cpu": "500m"}), json!({"cpu": "1"})).is_empty());
    }

    #[test]
    fn only_what_is_missing_is_filled_in() {
        let mut container = json!({"name": "c", "resources": {"limits": {"cpu": "2"}}});
        let defaults = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(fill(&mut container, "limits", defaults.as_object()), ["memory"]);
        assert_eq!(container["resources"]["limits"], json!({"cpu": "2", "memory": "1Gi"}));
    }
}
