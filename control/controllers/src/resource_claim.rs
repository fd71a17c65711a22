//! Claims to devices: one controller makes those that pods describe, another takes back what is not used any more. What a
//! claim gets is the scheduler's decision.

pub mod maker;
pub mod releaser;

use k8s_openapi::api::{
    core::v1::{Pod, PodResourceClaim},
    resource::v1::ResourceClaim,
};

use crate::pods;

/// Holds a claim that has been allocated.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// On a claim that was made for a pod: the name that it has there.
pub const POD_CLAIM_NAME: &str = "resource.kubernetes.io/pod-claim-name";

/// The claims in the pod's spec.
pub fn of_spec(pod: &Pod) -> impl Iterator<Item = &PodResourceClaim> {
    pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten())
}

/// The name of the object behind a claim in the pod's spec, as far as it is known.
#[must_use]
pub fn name<'p>(pod: &'p Pod, claim: &'p PodResourceClaim) -> Option<&'p str> {
    if let Some(name) = &claim.resource_claim_name {
        return Some(name);
    }
    let statuses = pod.status.as_ref()?.resource_claim_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == claim.name)?;
    status.resource_claim_name.as_deref()
}

/// Whether the pod runs no more and will not run again.
#[must_use]
pub fn is_done(pod: &Pod) -> bool {
    pods::is_finished(pod) || (pods::is_terminating(pod) && pods::node(pod).is_none())
}

/// Whether the claim has been allocated.
#[must_use]
pub fn is_allocated(claim: &ResourceClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| status.allocation.is_some())
}
