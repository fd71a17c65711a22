//! What the cluster's rules add to an object or refuse, beyond what the object says about itself.
//!
//! One chain for every write of every kind, in the order of Kubernetes: first the steps that change an object, then, when
//! it has been validated, those that refuse it, and last, with the commit itself, the charge against quotas. A step is a
//! file; it is given the request and a snapshot of the cluster, decides by these alone, and writes nothing. Each step looks
//! first at whether the kind concerns it and whether the cluster has any object that it goes by, so a write that none of
//! them is about passes by a few comparisons and look-ups.
//!
//! Policies and webhooks of users stand between: those that change come after [`mutate`], those that refuse after
//! [`validate`], policies first.

pub(crate) mod certificate;
mod default_class;
mod device_admin;
mod escalation;
pub(crate) mod image;
mod limit_ranger;
pub(crate) mod namespace;
mod node_restriction;
mod param_rights;
pub(crate) mod pod_security;
mod policy_status;
pub(crate) mod priority;
pub(crate) mod quota;
mod runtime_class;
pub(crate) mod service_account;
mod token_secret;
mod tolerations;
mod volume_resize;

use coracle_api::kinds::Kind;
use coracle_api::status::ApiError;
use coracle_store::Snapshot;
use serde_json::Value;

use crate::registry::Scope;
use crate::registry::update::Part;
use crate::webhook;

/// A write that is asked about.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) scope: Scope<'a>,
    /// The cluster as the decision sees it; the commit fails if what was decided by changes meanwhile, where that matters.
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) name: &'a str,
    /// Which part of the object is written.
    pub(crate) part: Part,
    /// `None` when a new object is made.
    pub(crate) old: Option<&'a Value>,
}

impl Request<'_> {
    /// Whether a new object of this kind is made.
    fn creates(&self, group: &str, kind: &str) -> bool {
        self.old.is_none() && is(self.scope.kind, group, kind)
    }

    /// A refusal in these words.
    fn forbidden(&self, words: &str) -> ApiError {
        ApiError::forbidden(&self.scope.kind.group_resource(), self.name, words)
    }
}

/// The steps that change an object, in order. The object has its defaults already.
pub(crate) fn mutate(request: &Request<'_>, object: &mut Value, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    if request.creates("", "Pod") {
        service_account::mutate(request, object)?;
        limit_ranger::mutate(request, object);
        priority::mutate(request, object)?;
        tolerations::mutate(object);
        runtime_class::mutate(request, object)?;
    }
    if request.creates("", "PersistentVolumeClaim") {
        default_class::storage(request, object);
    }
    if request.creates("networking.k8s.io", "Ingress") {
        default_class::ingress(request, object);
    }
    certificate::settle(request, object);
    if is(request.scope.kind, "", "Secret") {
        token_secret::fill(request, object)?;
    }
    if is(request.scope.kind, webhook::GROUP, "ValidatingAdmissionPolicy") {
        policy_status::settle(request, object);
    }
    if is(request.scope.kind, "", "ResourceQuota") {
        quota::status(request, object, warnings);
    }
    Ok(())
}

/// The steps that refuse an object, in order. Nothing changes it any more.
pub(crate) fn validate(request: &Request<'_>, object: &Value, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    node_restriction::validate(request, object)?;
    escalation::validate(request, object)?;
    param_rights::validate(request, object)?;
    certificate::validate(request, object)?;
    if !request.part.is_wanted() {
        return Ok(());
    }
    limit_ranger::validate(request, object)?;
    priority::validate(request, object)?;
    volume_resize::validate(request, object)?;
    device_admin::validate(request, object)?;
    pod_security::validate(request, object, warnings)
}

/// The steps that refuse a deletion.
pub(crate) fn validate_delete(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    node_restriction::validate_delete(request, object)
}

/// Whether a kind is the built-in one of this name.
pub(crate) fn is(kind: &Kind, group: &str, name: &str) -> bool {
    kind.kind == name && kind.group == group
}
