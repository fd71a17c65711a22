//! Claims with administrative access to devices, also those in use: only in namespaces that a label opens to them.

use coracle_api::field_error::{FieldError, Path};
use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::Value;

use super::Request;

const GROUP: &str = "resource.k8s.io";
/// The label that opens a namespace, with the value `true`.
const LABEL: &str = "resource.kubernetes.io/admin-access";
const WORDS: &str = "admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";

/// Refuses new claims and templates that ask for access which their namespace does not give.
pub(super) fn validate(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let requests = if request.creates(GROUP, "ResourceClaim") {
        object::list(object, "spec.devices.requests")
    } else if request.creates(GROUP, "ResourceClaimTemplate") {
        object::list(object, "spec.spec.devices.requests")
    } else {
        return Ok(());
    };
    let faults: Vec<FieldError> = requests.iter().enumerate().filter_map(asks).collect();
    if faults.is_empty() || is_open(request) {
        return Ok(());
    }
    let kind = request.scope.kind;
    Err(ApiError::invalid(&kind.kind, &kind.group, request.name, faults))
}

fn asks((index, request): (usize, &Value)) -> Option<FieldError> {
    if !object::truth(request, "exactly.adminAccess") {
        return None;
    }
    let (spec, requests) = (Path::root("spec"), "devices.requests");
    let list = spec.child(requests);
    let here = list.index(index);
    let exactly = here.child("exactly");
    Some(FieldError::forbidden(exactly.child("adminAccess"), WORDS))
}

fn is_open(request: &Request<'_>) -> bool {
    let namespace = request.scope.namespace.unwrap_or_default();
    let record = request.snapshot.get(&super::namespace::key(namespace));
    record.is_some_and(|record| {
        let mut labels = record.header.labels.iter();
        labels.any(|(key, value)| key == LABEL && value == "true")
    })
}
