//! What the cluster's rules add to an object or refuse, beyond what the object says about itself.
//!
//! One chain for every write of every kind, in the order of Kubernetes: first the steps that change an object, then, when
//! it has been validated, those that refuse it. A step is a file; it is given the request and a snapshot of the cluster,
//! decides by these alone, and writes nothing. Each step looks first at whether the kind concerns it, so a write that
//! none of them is about passes by a few comparisons.
//!
//! Webhooks and policies of users stand between: those that change come after [`mutate`], those that refuse after
//! [`validate`].

mod certificates;
pub(crate) mod namespace;
mod pods;
mod token_secret;

use coracle_api::kinds::Kind;
use coracle_api::status::ApiError;
use coracle_store::Snapshot;
use serde_json::Value;

use crate::registry::Scope;

/// A write that is asked about.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) scope: Scope<'a>,
    /// The cluster as the decision sees it; the commit fails if what was decided by changes meanwhile, where that matters.
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) name: &'a str,
    /// `None` when a new object is made.
    pub(crate) old: Option<&'a Value>,
}

impl Request<'_> {
    /// Whether a new object of this kind is made.
    fn creates(&self, group: &str, kind: &str) -> bool {
        self.old.is_none() && is(self.scope.kind, group, kind)
    }
}

/// The steps that change an object, in order. The object has its defaults already.
pub(crate) fn mutate(request: &Request<'_>, object: &mut Value) -> Result<(), ApiError> {
    if request.creates("", "Pod") {
        pods::service_account(object);
        pods::priority(object);
        pods::tolerations(object);
    }
    if request.creates("certificates.k8s.io", "CertificateSigningRequest") {
        certificates::requester(request, object);
    }
    if is(request.scope.kind, "", "Secret") {
        token_secret::fill(request, object)?;
    }
    Ok(())
}

/// Whether a kind is the built-in one of this name.
pub(crate) fn is(kind: &Kind, group: &str, name: &str) -> bool {
    kind.kind == name && kind.group == group
}
