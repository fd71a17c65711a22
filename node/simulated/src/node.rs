//! The node objects: registered in three zones, with a label that says that their pods only pretend, and kept ready: who
//! has not heard of a node for long says so in its status, and the node has to say that it is there.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{Config, WRITES_LIMIT, addresses};

/// Nodes with this label run nothing. A pod that must really run asks for nodes without it.
const LABEL: &str = "coracle.dev/simulated";
/// Nodes are spread over so many zones.
const ZONES: u16 = 3;
/// The pause before a registration or a watch that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// The name of a node, counted from 0.
pub fn name(index: u16) -> String {
    format!("simulated-{}", index + 1)
}

/// The node of that name.
pub fn index(name: &str) -> Option<u16> {
    let number: u16 = name.strip_prefix("simulated-")?.parse().ok()?;
    number.checked_sub(1)
}

/// Registers the nodes, and returns their uids.
pub async fn register_all(config: &Config, writes: &Arc<Semaphore>) -> Vec<String> {
    let api: Api<Node> = Api::all(config.client.clone());
    stream::iter(config.nodes.clone())
        .map(|index| register(&api, index, config, writes))
        .buffered(WRITES_LIMIT)
        .collect()
        .await
}

async fn register(api: &Api<Node>, index: u16, config: &Config, writes: &Semaphore) -> String {
    loop {
        let _permit = writes.acquire().await;
        match try_register(api, index, (config.clock)()).await {
            Ok(uid) => return uid,
            Err(error) => tracing::warn!(node = %name(index), %error, "cannot register the node; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Tells of each node that is said not to be ready that it is, for ever.
pub async fn keep(config: &Config) {
    let api: Api<Node> = Api::all(config.client.clone());
    loop {
        if let Err(error) = follow(&api, config).await {
            tracing::warn!(%error, "the simulated nodes do not hear what is said of them");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Lists, and watches until the watch ends.
async fn follow(api: &Api<Node>, config: &Config) -> kube::Result<()> {
    let list = api.list(&ListParams::default().labels(LABEL)).await?;
    for node in &list.items {
        answer(api, node, config).await?;
    }
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut events = pin!(api.watch(&WatchParams::default().labels(LABEL), &version).await?);
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => answer(api, &node, config).await?,
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
        }
    }
    Ok(())
}

async fn answer(api: &Api<Node>, node: &Node, config: &Config) -> kube::Result<()> {
    let Some(index) = index(&node.name_any()).filter(|index| config.nodes.contains(index)) else {
        return Ok(());
    };
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True") {
        return Ok(());
    }
    match report(api, index, (config.clock)()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        reported => reported.map(drop),
    }
}

async fn report(api: &Api<Node>, index: u16, now: Timestamp) -> kube::Result<Node> {
    let status = json!({"status": node(index, now).get("status")});
    api.patch_status(&name(index), &PatchParams::default(), &Patch::Merge(status))
        .await
}

async fn try_register(api: &Api<Node>, index: u16, now: Timestamp) -> kube::Result<String> {
    let object: Node = serde_json::from_value(node(index, now)).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Ok(report(api, index, now).await?.uid().unwrap_or_default())
        }
        made => Ok(made?.uid().unwrap_or_default()),
    }
}

fn node(index: u16, now: Timestamp) -> Value {
    let (name, network) = (name(index), addresses::network(index));
    let amounts = json!({"cpu": "32", "memory": "64Gi", "ephemeral-storage": "1Ti", "pods": "110"});
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": std::env::consts::OS,
            "kubernetes.io/arch": "wasm32",
            "topology.kubernetes.io/zone": format!("zone-{}", index % ZONES + 1),
            LABEL: "true",
        }},
        "spec": {"podCIDR": network, "podCIDRs": [network]},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
            "nodeInfo": {
                "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "kubeProxyVersion": "",
                "osImage": concat!("Coracle ", env!("CARGO_PKG_VERSION"), ", simulated"),
                "containerRuntimeVersion": "simulated://1",
                "kubeletVersion": "v1.36.2+coracle",
                "operatingSystem": std::env::consts::OS,
                "architecture": "wasm32",
            },
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the node is simulated",
                "lastHeartbeatTime": seconds(now), "lastTransitionTime": seconds(now),
            }],
        },
    })
}

/// The time without its fraction: what the API keeps.
pub fn seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_from_one() {
        assert_eq!(index(&name(0)), Some(0));
        assert_eq!(index("simulated-5000"), Some(4999));
        assert_eq!((index("simulated-0"), index("coracle-1")), (None, None));
        let zones: Vec<Value> = (0..4)
            .map(|n| node(n, Timestamp::UNIX_EPOCH)["metadata"]["labels"]["topology.kubernetes.io/zone"].clone())
            .collect();
        assert_eq!(zones, ["zone-1", "zone-2", "zone-3", "zone-1"]);
    }
}
