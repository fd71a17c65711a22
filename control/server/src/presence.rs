//! The lease by which this server says that it is there, as the servers of a Kubernetes cluster do.
//!
//! It is renewed far less often than it could be: a lease is good for an hour, and a settled cluster shall rest.

use std::sync::{Arc, Weak};
use std::time::Duration;

use coracle_api::status::ApiError;
use coracle_api::{object, time};
use http::Method;
use serde_json::json;

use crate::bootstrap;
use crate::core::{Core, new_uid};
use crate::respond;

/// Where the leases of servers are.
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
/// How long a lease is good, as in Kubernetes.
const GOOD_SECONDS: u64 = 3600;
/// How often it is renewed: five times before it would end.
const RENEWAL: Duration = Duration::from_secs(600);

/// Renews until the server is dropped or drains. The first lease is written when the server is built.
pub(crate) async fn keep(core: Weak<Core>) {
    loop {
        let Some(closing) = core.upgrade().map(|core| core.closing.clone()) else {
            return;
        };
        tokio::select! {
            () = closing.cancelled() => return,
            () = tokio::time::sleep(RENEWAL) => {}
        }
        let Some(core) = core.upgrade() else { return };
        if let Err(error) = announce(&core).await {
            tracing::warn!(%error, "the lease of the server could not be renewed");
        }
    }
}

/// Writes the lease as it is from now on; one that somebody took away is made again.
///
/// # Errors
/// When it cannot be written.
pub(crate) async fn announce(core: &Arc<Core>) -> Result<(), ApiError> {
    let name = name(core);
    let mut lease = json!({
        "metadata": {"name": name, "labels": {"apiserver.kubernetes.io/identity": "kube-apiserver"}},
        "spec": {
            "holderIdentity": format!("{name}_{}", new_uid()),
            "leaseDurationSeconds": GOOD_SECONDS,
            "renewTime": time::format_micros(core.now_micros()),
        },
    });
    let key = format!("leases.coordination.k8s.io/kube-system/{name}");
    if let Some(record) = core.store.snapshot().get(&key) {
        object::set_resource_version(&mut lease, &record.revision.to_string());
    }
    bootstrap::send(core, Method::PUT, &format!("{LEASES}/{name}"), &lease).await
}

/// The server's name, the same at every start.
fn name(core: &Core) -> String {
    let hash = respond::etag(core.pki.ca_pem().as_bytes()).to_lowercase();
    let short: String = hash.chars().filter(char::is_ascii_hexdigit).take(26).collect();
    format!("apiserver-{short}")
}
