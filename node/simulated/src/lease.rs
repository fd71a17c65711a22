//! The nodes' leases, whose renewal says that they are alive: one after the other, evenly over a round, so that no
//! moment has more to write than another.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::node;

/// How often each is renewed. A kubelet does it every 10 seconds and others wait for 50; thousands of nodes that cannot
/// fail on their own need to speak only as often as they are listened to.
const ROUND: Duration = Duration::from_secs(40);
/// Where node leases are.
const NAMESPACE: &str = "kube-node-lease";
/// How long a renewal holds.
const DURATION_SECONDS: u32 = 50;

/// Renews all leases for ever; `uids` are the nodes'.
pub async fn keep(client: &Client, uids: &[String], tasks: &TaskTracker, writes: &Arc<Semaphore>) {
    let api: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let count = u32::try_from(uids.len()).unwrap_or(u32::MAX).max(1);
    let mut turns = tokio::time::interval(ROUND / count);
    for (index, uid) in (0_u16..).zip(uids).collect::<Vec<_>>().into_iter().cycle() {
        let Ok(permit) = writes.clone().acquire_owned().await else {
            return;
        };
        turns.tick().await;
        let (api, body) = (api.clone(), lease(&node::name(index), uid, Timestamp::now()));
        tasks.spawn(async move {
            if let Err(error) = renew(&api, &node::name(index), body).await {
                tracing::warn!(node = %node::name(index), %error, "the node's lease was not renewed");
            }
            drop(permit);
        });
    }
    // Without nodes there is nothing to renew.
    std::future::pending().await
}

async fn renew(api: &Api<Lease>, name: &str, lease: Value) -> kube::Result<()> {
    match api.patch(name, &PatchParams::default(), &Patch::Merge(&lease)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &lease).await.map(drop)
        }
        result => result.map(drop),
    }
}

fn lease(node: &str, uid: &str, now: Timestamp) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node, "namespace": NAMESPACE,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}]},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": format!("{now:.6}")},
    })
}
