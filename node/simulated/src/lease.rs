//! The nodes' leases, whose renewal says that they are alive: one after the other, evenly over a round, so that no
//! moment has more to write than another.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Config, node};

/// How often each is renewed. A kubelet does it every 10 seconds and others wait for 50; thousands of nodes that cannot
/// fail on their own need to speak only as often as they are listened to.
const ROUND: Duration = Duration::from_secs(40);
/// Where node leases are.
const NAMESPACE: &str = "kube-node-lease";
/// How long a renewal holds.
const DURATION_SECONDS: u32 = 50;
/// How often a renewal is tried, as a kubelet does it, and the pause between two tries: a node whose renewal failed once
/// must not wait for its next turn, for others would give it up before.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Renews all leases for ever; `uids` are the nodes'.
pub async fn keep(
    config: &Config,
    uids: &[String],
    tasks: &TaskTracker,
    writes: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) {
    let api: Api<Lease> = Api::namespaced(config.client.clone(), NAMESPACE);
    let count = u32::try_from(uids.len()).unwrap_or(u32::MAX).max(1);
    let mut turns = tokio::time::interval(ROUND / count);
    for (index, uid) in config.nodes.clone().zip(uids).cycle() {
        let Ok(permit) = writes.clone().acquire_owned().await else {
            return;
        };
        turns.tick().await;
        let (api, clock, uid, shutdown) = (api.clone(), config.clock.clone(), uid.clone(), shutdown.clone());
        tasks.spawn(async move {
            let name = node::name(index);
            let renewed = async {
                for _ in 0..TRIES {
                    match renew(&api, &name, lease(&name, &uid, clock())).await {
                        Ok(()) => break,
                        Err(error) => tracing::warn!(node = %name, %error, "the node's lease was not renewed"),
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            };
            shutdown.run_until_cancelled(renewed).await;
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
