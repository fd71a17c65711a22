//! What a server is made from. Plain fields; nothing here acts.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::SystemTime;

use coracle_store::{Clock, Store};

use crate::{AuditLog, ClusterDialer, NodeDialer, Pki, Unconnected};

/// How long certificates are good that the server signs for others, unless it is told otherwise: a year, as in Kubernetes.
pub const SIGNING_SECONDS: u64 = 365 * 86_400;

/// Everything a [`crate::Server`] needs.
pub struct Config {
    /// Where objects live. Open it with [`crate::header_of`].
    pub store: Store,
    /// The certificate authority and the serving certificate.
    pub pki: Pki,
    /// How to reach nodes, for logs and port-forward.
    pub nodes: Arc<dyn NodeDialer>,
    /// How to reach the pod network.
    pub cluster: Arc<dyn ClusterDialer>,
    /// What `/version` says.
    pub version: Version,
    /// The first address of the service network.
    pub service_cidr: Ipv4Addr,
    /// The length of the service network's prefix, in bits: 12 to 30.
    pub service_cidr_prefix: u8,
    /// The ports that NodePort services get.
    pub node_ports: RangeInclusive<u16>,
    /// The address and port at which this server is reached, for the endpoints of the `kubernetes` service.
    /// Without it the service has none.
    pub advertise: Option<(std::net::IpAddr, u16)>,
    /// Where a line is written for every request; nowhere without it.
    pub audit: Option<AuditLog>,
    /// How long the certificates are good that it signs for others, at most; a request may want less.
    pub signing_seconds: u64,
    /// What the server takes for the time.
    pub clock: Clock,
}

impl Config {
    /// A configuration with the defaults of Kubernetes: services in 10.96.0.0/12, node ports 30000 to 32767, no nodes.
    pub fn new(store: Store, pki: Pki) -> Self {
        Self {
            store,
            pki,
            nodes: Arc::new(Unconnected),
            cluster: Arc::new(Unconnected),
            version: Version::default(),
            service_cidr: Ipv4Addr::new(10, 96, 0, 0),
            service_cidr_prefix: 12,
            node_ports: 30000..=32767,
            advertise: None,
            audit: None,
            signing_seconds: SIGNING_SECONDS,
            clock: Arc::new(SystemTime::now),
        }
    }
}

/// The version that clients see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// For instance `1`.
    pub major: String,
    /// For instance `36`.
    pub minor: String,
    /// For instance `v1.36.2+coracle`.
    pub git_version: String,
    /// The commit that was built, or empty.
    pub git_commit: String,
}

impl Default for Version {
    fn default() -> Self {
        Self {
            major: "1".into(),
            minor: "36".into(),
            git_version: concat!("v1.36.2+coracle.", env!("CARGO_PKG_VERSION")).into(),
            git_commit: String::new(),
        }
    }
}
