//! A pod's runtime class: what running this way costs on top, and on which nodes it can be done.

use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::{Value, json};

use super::Request;
use crate::document;

/// Gives a new pod its class's overhead, node labels and tolerations.
pub(super) fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let name = object::text(pod, "spec.runtimeClassName").to_owned();
    if name.is_empty() {
        let overhead = object::map(pod, "spec.overhead").is_some_and(|overhead| !overhead.is_empty());
        return match overhead {
            true => {
                Err(request
                    .forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
            }
            false => Ok(()),
        };
    }
    let Some(record) = request.snapshot.get(&format!("runtimeclasses.node.k8s.io//{name}")) else {
        return Err(request.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found")));
    };
    apply(request, pod, &document::tree(record)?)
}

fn apply(request: &Request<'_>, pod: &mut Value, class: &Value) -> Result<(), ApiError> {
    let cost = object::get(class, "overhead.podFixed").filter(|cost| cost.is_object());
    match (cost, object::get(pod, "spec.overhead").filter(|own| !own.is_null())) {
        (Some(cost), None) => object::set(pod, "spec.overhead", cost.clone()),
        (Some(cost), Some(own)) if own == cost => {}
        (None, None) => {}
        _ => {
            return Err(request.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"));
        }
    }
    for (key, value) in object::map(class, "scheduling.nodeSelector").into_iter().flatten() {
        let own = object::map(pod, "spec.nodeSelector").and_then(|selector| selector.get(key));
        if own.is_some_and(|own| own != value) {
            let own = own.and_then(Value::as_str).unwrap_or_default();
            let value = value.as_str().unwrap_or_default();
            return Err(request.forbidden(&format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
            )));
        }
        let spec = object::child(pod, "spec");
        object::fields(object::child(spec, "nodeSelector")).insert(key.clone(), value.clone());
    }
    let mut tolerations = object::list(pod, "spec.tolerations").to_vec();
    let count = tolerations.len();
    for toleration in object::list(class, "scheduling.tolerations") {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    if tolerations.len() > count {
        object::set(pod, "spec.tolerations", json!(tolerations));
    }
    Ok(())
}
