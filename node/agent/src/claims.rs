//! A pod's claims to devices.
//!
//! This node has no drivers of devices, and a WebAssembly guest has no way to a device of the host. A pod with claims is
//! started all the same once they are allocated and reserved for it, so that what was written for other nodes runs here:
//! its containers get nothing from the claims, and an event says so. As long as a claim is not reserved for the pod it waits,
//! as everywhere.

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::{Api, Client};
use std::collections::BTreeSet;

/// The reason of the event that tells of a claim which the node does nothing about.
pub const NO_DRIVER: &str = "NoDeviceDriver";

/// Why a pod has to wait for its claims.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Nobody has made it yet.
    #[error("Failed to prepare dynamic resources: the ResourceClaim for {claim:?} is not created yet")]
    Unmade {
        /// Its name in the pod.
        claim: String,
    },
    /// The API did not tell.
    #[error("Failed to prepare dynamic resources: ResourceClaim {name:?}: {source}")]
    Unknown {
        /// Its name.
        name: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// Others have it, or nobody.
    #[error(
        "Failed to prepare dynamic resources: the pod is not allowed to use ResourceClaim {name:?}: it is not allocated and reserved for it; the scheduler does that for pods that name no node"
    )]
    NotReserved {
        /// Its name.
        name: String,
    },
}

/// Looks whether the pod may use its claims, and says what its containers do not get.
///
/// # Errors
/// At the first claim that the pod may not use.
pub async fn prepare(client: &Client, pod: &Pod) -> Result<Vec<String>, ClaimError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut notes = Vec::new();
    for claim in pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()) {
        let Some(name) = object_of(pod, claim)? else { continue };
        let claims: Api<ResourceClaim> = Api::namespaced(client.clone(), namespace);
        let found = claims.get(name).await.map_err(|source| ClaimError::Unknown {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        if !is_reserved(&found, pod) {
            return Err(ClaimError::NotReserved { name: name.to_owned() });
        }
        notes.extend(missing(pod, claim, name, &found));
    }
    Ok(notes)
}

/// The object behind a claim; none if it turned out that none is needed.
fn object_of<'p>(pod: &'p Pod, claim: &'p PodResourceClaim) -> Result<Option<&'p str>, ClaimError> {
    if let Some(name) = &claim.resource_claim_name {
        return Ok(Some(name));
    }
    let mut statuses = pod
        .status
        .iter()
        .flat_map(|status| status.resource_claim_statuses.iter().flatten());
    match statuses.find(|status| status.name == claim.name) {
        Some(status) => Ok(status.resource_claim_name.as_deref()),
        None => Err(ClaimError::Unmade {
            claim: claim.name.clone(),
        }),
    }
}

fn is_reserved(claim: &ResourceClaim, pod: &Pod) -> bool {
    let Some(status) = &claim.status else { return false };
    let mut reserved = status.reserved_for.iter().flatten();
    status.allocation.is_some() && reserved.any(|consumer| Some(&consumer.uid) == pod.metadata.uid.as_ref())
}

/// What the containers that use the claim do without.
fn missing(pod: &Pod, claim: &PodResourceClaim, name: &str, found: &ResourceClaim) -> Option<String> {
    let used = crate::spec::containers(pod).any(|container| {
        let resources = container.resources.as_ref();
        let mut named = resources.iter().flat_map(|resources| resources.claims.iter().flatten());
        named.any(|used| used.name == claim.name)
    });
    let allocation = found.status.as_ref()?.allocation.as_ref()?;
    let results = allocation
        .devices
        .iter()
        .flat_map(|devices| devices.results.iter().flatten());
    let (mut drivers, mut devices) = (BTreeSet::new(), Vec::new());
    for result in results {
        drivers.insert(result.driver.as_str());
        devices.push(format!("{}/{}", result.pool, result.device));
    }
    let drivers = drivers.into_iter().collect::<Vec<_>>().join(", ");
    (used && !devices.is_empty()).then(|| {
        format!(
            "no driver {drivers} runs on this node, and WebAssembly has no way to its devices: the containers start without {} of ResourceClaim {name:?}",
            devices.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(used: Value) -> Pod {
        let pod = json!({"metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [{"name": "c", "resources": {"claims": used}}],
                "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}]}});
        serde_json::from_value(pod).unwrap()
    }

    fn claim(reserved: Value) -> ResourceClaim {
        let results = json!([{"request": "r", "driver": "gpu.example.com", "pool": "a", "device": "gpu-0"}]);
        let status = json!({"allocation": {"devices": {"results": results}}, "reservedFor": reserved});
        serde_json::from_value(json!({"metadata": {"name": "p-gpu-x"}, "spec": {}, "status": status})).unwrap()
    }

    #[test]
    fn a_pod_may_use_what_is_reserved_for_it() {
        let pod = pod(json!([]));
        assert!(is_reserved(
            &claim(json!([{"resource": "pods", "name": "p", "uid": "u"}])),
            &pod
        ));
        assert!(!is_reserved(
            &claim(json!([{"resource": "pods", "name": "p", "uid": "v"}])),
            &pod
        ));
        let named = &pod.spec.as_ref().unwrap().resource_claims.as_ref().unwrap()[0];
        assert_eq!(object_of(&pod, named).unwrap(), Some("p-gpu-x"));
        let mut early = pod.clone();
        early.status = None;
        assert!(matches!(object_of(&early, named), Err(ClaimError::Unmade { .. })));
    }

    #[test]
    fn only_containers_that_use_a_claim_miss_it() {
        let told = |pod: &Pod| {
            let named = &pod.spec.as_ref().unwrap().resource_claims.as_ref().unwrap()[0];
            missing(pod, named, "p-gpu-x", &claim(json!([])))
        };
        assert_eq!(told(&pod(json!([]))), None);
        let words = told(&pod(json!([{"name": "gpu"}]))).unwrap();
        assert!(
            words.contains("gpu.example.com") && words.contains("a/gpu-0"),
            "{words}"
        );
    }
}
