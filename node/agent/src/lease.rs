//! The node's lease: a small object whose renewal says that the node is alive.
//!
//! Renewed every [`RENEW`]; others may take the node for lost after four times as long. A failed renewal is repeated at the next turn
//! and never stops the node: its pods run on.

use crate::clock::Clock;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where node leases are.
const NAMESPACE: &str = "kube-node-lease";
/// The kubelet's interval.
const RENEW: Duration = Duration::from_secs(10);
/// How long a renewal holds, in seconds.
const DURATION_SECONDS: u32 = 40;

/// Renews until the shutdown. `node_uid` makes the lease go with the node object.
pub async fn run(client: Client, clock: Arc<dyn Clock>, node: String, node_uid: String, shutdown: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    loop {
        if let Err(error) = renew(&api, &node, &node_uid, clock.now()).await {
            tracing::warn!(%node, %error, "the node's lease was not renewed");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RENEW) => {}
        }
    }
}

async fn renew(api: &Api<Lease>, node: &str, node_uid: &str, now: Timestamp) -> Result<(), kube::Error> {
    let lease = lease(node, node_uid, now);
    match api.patch(node, &PatchParams::default(), &Patch::Merge(&lease)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &lease).await.map(drop)
        }
        result => result.map(drop),
    }
}

fn lease(node: &str, node_uid: &str, now: Timestamp) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": node,
            "namespace": NAMESPACE,
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid }],
        },
        "spec": {
            "holderIdentity": node,
            "leaseDurationSeconds": DURATION_SECONDS,
            "renewTime": format!("{now:.6}"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_is_one() {
        let lease: Lease = serde_json::from_value(lease("n", "u", Timestamp::UNIX_EPOCH)).unwrap();
        let spec = lease.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("n"));
        assert_eq!(spec.renew_time.unwrap().0, Timestamp::UNIX_EPOCH);
    }
}
