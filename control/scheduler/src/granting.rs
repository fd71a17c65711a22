//! Tells the server what a pod's claims to devices get: before the pod is bound, so that nobody ever starts a pod whose
//! devices somebody else may have.
//!
//! A claim gets its allocation and the reservation for the pod in one write, and a finalizer before that: what is allocated
//! does not just disappear. Other writers of the claim's status are let go first; then it is read and judged anew.

use std::{sync::Arc, time::Duration};

use coracle_controllers::{
    key::Key,
    plan::{Action, Target},
    resource::RESOURCE_CLAIMS,
    writer::WriteError,
};
use k8s_openapi::{
    api::resource::v1::{
        AllocatedDeviceStatus, AllocationResult, DeviceRequestAllocationResult, ResourceClaim,
        ResourceClaimConsumerReference,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{api::GetParams, core::Request};
use serde_json::json;

use crate::{binding::Binding, candidate::Candidate, devices::Grant, scheduler::Scheduler};

/// Holds a claim that has been allocated.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

/// A write that meets another one is made anew so often: Kubernetes' own number. After that the pod is tried again.
const TRIES: usize = 5;
/// How long binding waits until all devices that have to be got ready are ready: Kubernetes' own number.
const READY_LIMIT: Duration = Duration::from_secs(600);

/// Why claims did not get their devices.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// Somebody deletes the claim.
    #[error("claim {0} got deleted in the meantime")]
    Deleted(Key),
    /// Somebody else allocated it.
    #[error("claim {0} got allocated elsewhere in the meantime")]
    Elsewhere(Key),
    /// It was allocated when the node was chosen, and is no more.
    #[error("claim {0} got deallocated in the meantime")]
    Deallocated(Key),
    /// A write failed.
    #[error("add reservation to claim {0}: {1}")]
    Write(Key, WriteError),
    /// Who gets the devices ready says that this failed.
    #[error("claim {0} binding failed: a binding failure condition of one of its devices is met")]
    Unready(Key),
    /// It took too long.
    #[error("device binding timeout")]
    Late,
}

/// What tells one share of a device from another.
pub fn share_id() -> String {
    let (a, b, c, d, e): (u32, u16, u16, u16, u64) = (
        rand::random(),
        rand::random(),
        rand::random(),
        rand::random(),
        rand::random(),
    );
    // A random UUID, as RFC 9562 writes version 4.
    let (c, d, e) = (c & 0x0fff | 0x4000, d & 0x3fff | 0x8000, e & 0xffff_ffff_ffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
}

impl Scheduler {
    /// Gives the pod's claims what was chosen for them, and waits until it is ready.
    pub(crate) async fn grant(&self, binding: &Binding) -> Result<(), GrantError> {
        for grant in &binding.grants {
            self.grant_one(&binding.pod, grant).await?;
        }
        let results = binding.grants.iter().filter_map(|grant| grant.claim_or_new());
        if results.flat_map(results_of).any(waits) {
            tokio::time::timeout(READY_LIMIT, self.all_ready(binding))
                .await
                .map_err(|_| GrantError::Late)??;
        }
        Ok(())
    }

    async fn grant_one(&self, pod: &Candidate, grant: &Grant) -> Result<(), GrantError> {
        let key = Key::of(&grant.claim.metadata);
        let failed = |error| GrantError::Write(key.clone(), error);
        let mut claim = grant.claim.clone();
        for attempt in 1..=TRIES {
            match self.try_grant(pod, grant, &claim, &key).await {
                // Nobody tells what became of a write whose answer is lost; the claim tells.
                Err(GrantError::Write(_, error)) if attempt < TRIES && (error.is_conflict() || error.is_unsure()) => {
                    claim = Arc::new(self.read_claim(&key).await.map_err(failed)?);
                    if claim.metadata.uid != grant.claim.metadata.uid {
                        return Err(GrantError::Deleted(key));
                    }
                }
                granted => return granted,
            }
        }
        Ok(())
    }

    async fn try_grant(
        &self,
        pod: &Candidate,
        grant: &Grant,
        claim: &ResourceClaim,
        key: &Key,
    ) -> Result<(), GrantError> {
        let status = claim.status.as_ref();
        let given = status.and_then(|status| status.allocation.as_ref());
        let mut reserved = status
            .and_then(|status| status.reserved_for.clone())
            .unwrap_or_default();
        if reserved.iter().any(|consumer| consumer.uid == *pod.uid) {
            return Ok(());
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(GrantError::Deleted(key.clone()));
        }
        match (given, &grant.allocation) {
            (Some(_), Some(_)) => return Err(GrantError::Elsewhere(key.clone())),
            (None, None) => return Err(GrantError::Deallocated(key.clone())),
            _ => {}
        }
        let failed = |error| GrantError::Write(key.clone(), error);
        let target = || Target::of(&RESOURCE_CLAIMS, &claim.metadata);
        let mut version = claim.metadata.resource_version.clone();
        let mut finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
        if grant.allocation.is_some() && !finalizers.iter().any(|known| known == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
            let patch =
                json!({"metadata": {"uid": claim.metadata.uid, "resourceVersion": version, "finalizers": finalizers}});
            let written = self
                .writer
                .write(&Action::merge(target(), patch))
                .await
                .map_err(failed)?;
            version = Some(written.metadata.resource_version);
        }
        reserved.push(ResourceClaimConsumerReference {
            api_group: None,
            resource: "pods".to_owned(),
            name: pod.key.name.to_string(),
            uid: pod.uid.to_string(),
        });
        let mut status = serde_json::Map::new();
        status.insert("reservedFor".to_owned(), json!(reserved));
        if let Some(allocation) = &grant.allocation {
            let mut allocation: AllocationResult = allocation.clone();
            allocation.allocation_timestamp = Some(Time(self.clock.now()));
            status.insert("allocation".to_owned(), json!(allocation));
        }
        let patch = json!({"metadata": {"uid": claim.metadata.uid, "resourceVersion": version}, "status": status});
        let written = self.writer.write(&Action::status(target(), patch)).await;
        written.map(drop).map_err(failed)
    }

    async fn read_claim(&self, key: &Key) -> Result<ResourceClaim, WriteError> {
        let place = Request::new(RESOURCE_CLAIMS.path(&key.namespace));
        let request = place.get(&key.name, &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        Ok(self.writer.client().request(request).await?)
    }

    /// Waits until whoever gets devices ready says that all are.
    async fn all_ready(&self, binding: &Binding) -> Result<(), GrantError> {
        loop {
            let changed = self.claims_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut ready = true;
            for grant in &binding.grants {
                let key = Key::of(&grant.claim.metadata);
                match self.device_claim(&key).map(|claim| readiness(&claim)) {
                    None => return Err(GrantError::Deleted(key)),
                    Some(Readiness::Failed) => return Err(GrantError::Unready(key)),
                    Some(Readiness::Waits) => ready = false,
                    Some(Readiness::Ready) => {}
                }
            }
            if ready {
                return Ok(());
            }
            changed.await;
        }
    }

    /// The pod does not go where its claims were granted: they are not reserved for it any more, and what they were given
    /// for it alone is given back.
    pub(crate) async fn withdraw(&self, binding: &Binding) {
        for grant in &binding.grants {
            let key = Key::of(&grant.claim.metadata);
            let Ok(claim) = self.read_claim(&key).await else {
                continue;
            };
            let status = claim.status.as_ref();
            let reserved = status
                .and_then(|status| status.reserved_for.clone())
                .unwrap_or_default();
            let others: Vec<_> = reserved
                .iter()
                .filter(|consumer| consumer.uid != *binding.pod.uid)
                .collect();
            if claim.metadata.uid != grant.claim.metadata.uid || others.len() == reserved.len() {
                continue;
            }
            let status = match others.is_empty() && grant.allocation.is_some() {
                true => json!({"reservedFor": null, "allocation": null}),
                false => json!({"reservedFor": others}),
            };
            self.write_claim_status(&claim, status).await;
        }
    }

    /// Nobody else uses the claim: it is to be allocated where the pod can go.
    pub(crate) async fn release(&self, claim: &ResourceClaim) {
        self.write_claim_status(claim, json!({"reservedFor": null, "allocation": null, "devices": null}))
            .await;
    }

    async fn write_claim_status(&self, claim: &ResourceClaim, status: serde_json::Value) {
        let (meta, version) = (&claim.metadata, &claim.metadata.resource_version);
        let patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": version}, "status": status});
        let action = Action::status(Target::of(&RESOURCE_CLAIMS, meta), patch);
        if let Err(error) = self.writer.write(&action).await {
            tracing::debug!(claim = %Key::of(meta), %error, "the status of a claim was not written");
        }
    }
}

impl Grant {
    /// What the claim has, now or before.
    fn claim_or_new(&self) -> Option<&AllocationResult> {
        let before = self.claim.status.as_ref().and_then(|status| status.allocation.as_ref());
        self.allocation.as_ref().or(before)
    }
}

fn results_of(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    allocation
        .devices
        .iter()
        .flat_map(|devices| devices.results.iter().flatten())
}

fn waits(result: &DeviceRequestAllocationResult) -> bool {
    result.binding_conditions.as_ref().is_some_and(|all| !all.is_empty())
}

/// Whether the devices of a claim can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    Waits,
    Failed,
}

fn readiness(claim: &ResourceClaim) -> Readiness {
    let Some(status) = &claim.status else {
        return Readiness::Waits;
    };
    let Some(allocation) = &status.allocation else {
        return Readiness::Waits;
    };
    let mut ready = Readiness::Ready;
    for result in results_of(allocation).filter(|result| waits(result)) {
        let is_its = |told: &&AllocatedDeviceStatus| {
            told.driver == result.driver && told.pool == result.pool && told.device == result.device
        };
        let told = status.devices.iter().flatten().find(is_its);
        let is_met = |name: &String| {
            let mut conditions = told.into_iter().flat_map(|told| told.conditions.iter().flatten());
            conditions.any(|condition| condition.type_ == *name && condition.status == "True")
        };
        if result.binding_failure_conditions.iter().flatten().any(is_met) {
            return Readiness::Failed;
        }
        if !result.binding_conditions.iter().flatten().all(is_met) {
            ready = Readiness::Waits;
        }
    }
    ready
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_ready_when_all_its_devices_are() {
        let of = |conditions: serde_json::Value| -> ResourceClaim {
            serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": {}, "status": {
                "allocation": {"devices": {"results": [
                    {"request": "r", "driver": "d", "pool": "p", "device": "plain"},
                    {"request": "r", "driver": "d", "pool": "p", "device": "far",
                        "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]}]}},
                "devices": [{"driver": "d", "pool": "p", "device": "far", "conditions": conditions}]}}))
            .unwrap()
        };
        let condition = |name: &str, status: &str| json!({"type": name, "status": status, "reason": "r", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        assert_eq!(readiness(&of(json!([]))), Readiness::Waits);
        assert_eq!(
            readiness(&of(json!([condition("Attached", "False")]))),
            Readiness::Waits
        );
        assert_eq!(readiness(&of(json!([condition("Attached", "True")]))), Readiness::Ready);
        let both = json!([condition("Attached", "True"), condition("Broken", "True")]);
        assert_eq!(readiness(&of(both)), Readiness::Failed);
    }

    #[test]
    fn shares_are_told_apart_by_uuids() {
        let (one, other) = (share_id(), share_id());
        assert_ne!(one, other);
        assert_eq!(one.len(), 36);
        assert_eq!(one.as_bytes()[14], b'4');
    }
}
