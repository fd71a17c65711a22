//! Objects need a namespace that exists and stays.

use std::sync::Arc;

use coracle_api::key::GroupResource;
use coracle_api::kinds::Kind;
use coracle_api::status::{ApiError, Cause};
use coracle_store::{Expect, Key, Record, Snapshot};

/// Namespaces that the cluster itself lives in.
const KEPT: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The store's key of a namespace.
pub(crate) fn key(namespace: &str) -> String {
    format!("namespaces//{namespace}")
}

fn resource() -> GroupResource {
    GroupResource::new("", "namespaces")
}

/// Refuses a new object whose namespace is missing or on its way out. The answer makes the commit depend on the namespace
/// being the one that was looked at: an object can never slip into a namespace that has just been emptied.
pub(crate) fn admit(snapshot: &Snapshot, kind: &Kind, namespace: &str, name: &str) -> Result<(Key, Expect), ApiError> {
    let record = snapshot
        .get(&key(namespace))
        .ok_or_else(|| ApiError::not_found(&resource(), namespace))?;
    if record.header.deleting {
        return Err(terminating(kind, namespace, name));
    }
    Ok((record.key.clone(), Expect::Revision(record.revision)))
}

fn terminating(kind: &Kind, namespace: &str, name: &str) -> ApiError {
    let message = format!("unable to create new content in namespace {namespace} because it is being terminated");
    ApiError::forbidden(&kind.group_resource(), name, &message).with_cause(Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".to_owned(),
    })
}

/// Refuses the deletion of a namespace that the cluster needs.
pub(crate) fn may_delete(record: &Arc<Record>) -> Result<(), ApiError> {
    match crate::document::place(record.key.as_str()).1 {
        name if KEPT.contains(&name) => Err(ApiError::forbidden(
            &resource(),
            name,
            "this namespace may not be deleted",
        )),
        _ => Ok(()),
    }
}
