//! The network that joins all pods of the node, the services and the host side.
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::{Connecting, HostService, NetError, PodIdentity, PodNet, Snapshot, Stream};

/// A network in prefix notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr;
impl std::str::FromStr for Cidr {
    type Err = NetError;
    fn from_str(_: &str) -> Result<Self, NetError> { unimplemented!() }
}

/// What the fabric must know before its first pod.
#[derive(Debug, Clone)]
pub struct FabricConfig {
    /// Suffix of all cluster names, `cluster.local`.
    pub cluster_domain: String,
    /// The cluster DNS address, `10.96.0.10`.
    pub dns_ip: IpAddr,
    /// Networks from which pods get addresses.
    pub pod_cidrs: Vec<Cidr>,
    /// Networks from which services get addresses.
    pub service_cidrs: Vec<Cidr>,
    /// The address that pods see as the peer of what comes from the host.
    pub host_ip: IpAddr,
    /// How long a connect waits at a full backlog.
    pub connect_timeout: std::time::Duration,
}
impl Default for FabricConfig { fn default() -> Self { unimplemented!() } }

/// The pod network of one node; clones share it.
#[derive(Clone)]
pub struct Fabric;
impl Fabric {
    /// An empty network.
    pub fn new(_config: FabricConfig) -> Self { unimplemented!() }
    /// Adds a pod with its addresses.
    pub fn add_pod(&self, _identity: PodIdentity, _ips: Vec<IpAddr>) -> Result<Arc<PodNet>, NetError> { unimplemented!() }
    /// Removes a pod; resets its connections, closes its listeners.
    pub fn remove_pod(&self, _uid: &str) { unimplemented!() }
    /// The pod at an address.
    pub fn pod(&self, _ip: IpAddr) -> Option<Arc<PodNet>> { unimplemented!() }
    /// Replaces what the network knows of services.
    pub fn update(&self, _snapshot: Arc<Snapshot>) { unimplemented!() }
    /// The latest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> { unimplemented!() }
    /// Connects from the host into a pod: its loopback (port-forward) or its own address (probes).
    pub async fn dial_pod(&self, _pod_ip: IpAddr, _to: SocketAddr) -> Result<Stream, NetError> { unimplemented!() }
    /// Connects from the host to a service port.
    pub async fn dial_service(&self, _namespace: &str, _name: &str, _port: u16) -> Result<Stream, NetError> { unimplemented!() }
    /// Connects from the host to a cluster name or address.
    pub async fn dial(&self, _host: &str, _port: u16) -> Result<Stream, NetError> { unimplemented!() }
    /// Answers connections to `at` by a handler on the host; ends when the returned guard drops.
    pub fn serve_host<F, Fut>(&self, _at: SocketAddr, _handler: F) -> Result<HostService, NetError>
    where F: Fn(Stream) -> Fut + Send + Sync + 'static, Fut: Future<Output = ()> + Send + 'static { unimplemented!() }
}
#[allow(dead_code)]
fn unused(_: Connecting) {}
