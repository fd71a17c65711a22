//! The node object: what this node is and how much it has.
//!
//! Made at start, or brought up to date when it is there. The architecture label says `wasm32`, because that is what images
//! have to be built for; the operating system is the host's, so that the usual `kubernetes.io/os: linux` selectors hold.

use crate::clock::{Clock, whole_seconds};
use crate::config::Identity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the status is written although nothing changed: the kubelet's interval.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// Pauses between attempts to register: the API may come up a moment later than the node.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Wasm instructions are spent and not lent, so a node never runs out of what pods may ask for: the most that a count of them
/// can be, with room for sums.
const FUEL: &str = "1E";
/// A WebAssembly instance of 32-bit memory.
const ARCHITECTURE: &str = "wasm32";

/// The features of Kubernetes that this node has and not every node: it gives a container that runs other amounts of cpu
/// also where these are guaranteed.
const DECLARED_FEATURES: [&str; 1] = ["GuaranteedQoSPodCPUResize"];

/// Registers, and returns the uid of the node object; none when the shutdown came first.
pub async fn register(
    client: &Client,
    identity: &Identity,
    clock: &Arc<dyn Clock>,
    shutdown: &CancellationToken,
) -> Option<String> {
    let api: Api<Node> = Api::all(client.clone());
    let mut pause = RETRY_FIRST;
    loop {
        match try_register(&api, identity, clock.now()).await {
            Ok(uid) => return Some(uid),
            Err(error) => tracing::warn!(node = %identity.name, %error, "cannot register the node; trying again"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
        }
    }
}

/// Keeps the status fresh until the shutdown.
pub async fn heartbeat(client: Client, identity: Identity, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let api: Api<Node> = Api::all(client);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
        let status = Patch::Strategic(json!({ "status": status(&identity, None, clock.now()) }));
        if let Err(error) = api.patch_status(&identity.name, &PatchParams::default(), &status).await {
            tracing::warn!(node = %identity.name, %error, "the node's status was not written");
        }
    }
}

async fn try_register(api: &Api<Node>, identity: &Identity, now: Timestamp) -> Result<String, kube::Error> {
    let object: Node = serde_json::from_value(node(identity, now)).map_err(kube::Error::SerdeError)?;
    let found = match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let metadata = json!({ "labels": labels(identity), "annotations": identity.annotations });
            let patch = json!({ "metadata": metadata, "spec": { "podCIDR": identity.pod_cidr } });
            api.patch(&identity.name, &PatchParams::default(), &Patch::Merge(patch))
                .await?
        }
        result => result?,
    };
    let conditions = found.status.as_ref().and_then(|status| status.conditions.as_ref());
    let before = conditions
        .and_then(|conditions| conditions.first())
        .and_then(|first| first.last_transition_time.clone());
    let patch = Patch::Strategic(json!({ "status": status(identity, Some(before.map_or(now, |time| time.0)), now) }));
    let found = api
        .patch_status(&identity.name, &PatchParams::default(), &patch)
        .await?;
    Ok(found.uid().unwrap_or_default())
}

fn labels(identity: &Identity) -> Map<String, Value> {
    let own = [
        ("kubernetes.io/hostname", identity.name.as_str()),
        ("kubernetes.io/os", std::env::consts::OS),
        ("kubernetes.io/arch", ARCHITECTURE),
    ];
    let further = identity
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    own.into_iter()
        .chain(further)
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect()
}

fn node(identity: &Identity, now: Timestamp) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": identity.name, "labels": labels(identity), "annotations": identity.annotations },
        "spec": { "podCIDR": identity.pod_cidr, "podCIDRs": [identity.pod_cidr], "taints": identity.taints },
        "status": status(identity, Some(now), now),
    })
}

/// The status. `transition` is when the conditions took their present values; none leaves that as it is.
fn status(identity: &Identity, transition: Option<Timestamp>, now: Timestamp) -> Value {
    let capacity = &identity.capacity;
    let mut amounts = json!({
        "cpu": format!("{}m", capacity.cpu_milli),
        "memory": format!("{}Ki", capacity.memory_bytes / 1024),
        "pods": capacity.pods.to_string(),
        "coracle.dev/fuel": FUEL,
    });
    // A container's limit is its request too, so that a node without an amount could not take it.
    if let (Some(bytes), Some(amounts)) = (capacity.disk_bytes, amounts.as_object_mut()) {
        amounts.insert("ephemeral-storage".to_owned(), format!("{}Ki", bytes / 1024).into());
    }
    let mut status = json!({
        "capacity": amounts,
        "allocatable": amounts,
        "addresses": [
            { "type": "InternalIP", "address": identity.ip },
            { "type": "Hostname", "address": identity.name },
        ],
        "declaredFeatures": DECLARED_FEATURES,
        "nodeInfo": {
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
            "kernelVersion": kernel_version(),
            "osImage": format!("Coracle {}", env!("CARGO_PKG_VERSION")),
            "containerRuntimeVersion": identity.runtime_version,
            "kubeletVersion": identity.kubelet_version,
            "kubeProxyVersion": "",
            "operatingSystem": std::env::consts::OS,
            "architecture": ARCHITECTURE,
        },
    });
    if let Some(status) = status.as_object_mut() {
        status.insert("conditions".to_owned(), conditions(transition, now));
        if let Some(port) = identity.api_port {
            let endpoints = json!({ "kubeletEndpoint": { "Port": port } });
            status.insert("daemonEndpoints".to_owned(), endpoints);
        }
    }
    status
}

fn conditions(transition: Option<Timestamp>, now: Timestamp) -> Value {
    let heartbeat = whole_seconds(now).to_string();
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        let mut condition = json!({
            "type": type_, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": heartbeat,
        });
        // Left out of a heartbeat: a strategic patch then keeps what is there.
        if let (Some(members), Some(at)) = (condition.as_object_mut(), transition) {
            members.insert("lastTransitionTime".to_owned(), whole_seconds(at).to_string().into());
        }
        condition
    };
    json!([
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition(
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure"
        ),
        condition(
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available"
        ),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ])
}

fn kernel_version() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(version) => version.trim().to_owned(),
        Err(_) => std::env::consts::OS.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_offered_where_its_size_is_known() {
        let mut identity = Identity::new("a");
        let offered = |identity: &Identity| {
            let status = status(identity, None, Timestamp::UNIX_EPOCH);
            let of = |list: &str| status.pointer(&format!("/{list}/ephemeral-storage")).cloned();
            assert_eq!(of("capacity"), of("allocatable"));
            of("capacity")
        };
        assert_eq!(offered(&identity), None);
        identity.capacity.disk_bytes = Some(5 << 30);
        assert_eq!(offered(&identity), Some("5242880Ki".into()));
    }
}
