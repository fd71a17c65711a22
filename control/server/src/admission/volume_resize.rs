//! Claims that ask for more: only where their class lets volumes grow.

use coracle_api::object;
use coracle_api::quantity::Quantity;
use coracle_api::status::ApiError;
use serde_json::Value;

use super::{Request, is};
use crate::document;

/// Refuses to let a bound claim grow whose class does not allow it.
pub(super) fn validate(request: &Request<'_>, claim: &Value) -> Result<(), ApiError> {
    let Some(old) = request
        .old
        .filter(|_| is(request.scope.kind, "", "PersistentVolumeClaim"))
    else {
        return Ok(());
    };
    let asked = |claim: &Value| Quantity::parse(object::text(claim, "spec.resources.requests.storage")).ok();
    if asked(claim) <= asked(old) {
        return Ok(());
    }
    let name = object::text(old, "spec.storageClassName");
    let class = request.snapshot.get(&format!("storageclasses.storage.k8s.io//{name}"));
    let class = class.and_then(|record| document::tree(record).ok());
    if class.is_some_and(|class| object::truth(&class, "allowVolumeExpansion")) {
        return Ok(());
    }
    Err(request.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}
