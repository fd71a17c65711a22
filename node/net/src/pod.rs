//! One pod's part of the network.
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::{Binding, Connecting, MemoryCharge, NetError, SocketSlot, UdpBinding};

/// Who a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodIdentity {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

/// One pod's network: what a network namespace is to a Linux pod.
pub struct PodNet;
impl PodNet {
    /// Who the pod is.
    pub fn identity(&self) -> &PodIdentity { unimplemented!() }
    /// The pod's addresses.
    pub fn ips(&self) -> &[IpAddr] { unimplemented!() }
    /// Takes a place in the pod's socket quota (at `create-tcp-socket`); `account` pays for the buffers.
    pub fn claim(&self, _account: Option<Arc<dyn MemoryCharge>>) -> Result<SocketSlot, NetError> { unimplemented!() }
    /// Binds a TCP address; port 0 takes a free one. Same as `bind_with(claim(None)?, addr)`.
    pub fn bind(self: &Arc<Self>, _addr: SocketAddr) -> Result<Binding, NetError> { unimplemented!() }
    /// Binds a TCP address for a socket that already has its slot.
    pub fn bind_with(self: &Arc<Self>, _slot: SocketSlot, _addr: SocketAddr) -> Result<Binding, NetError> { unimplemented!() }
    /// Connects to an address: own loopback, a pod, or a service.
    pub fn connect(self: &Arc<Self>, _to: SocketAddr) -> Connecting { unimplemented!() }
    /// Connects for a socket that already has its slot.
    pub fn connect_with(self: &Arc<Self>, _slot: SocketSlot, _to: SocketAddr) -> Connecting { unimplemented!() }
    /// Binds a UDP address.
    pub fn bind_udp(self: &Arc<Self>, _addr: SocketAddr) -> Result<UdpBinding, NetError> { unimplemented!() }
    /// Binds a UDP address for a socket that already has its slot.
    pub fn bind_udp_with(self: &Arc<Self>, _slot: SocketSlot, _addr: SocketAddr) -> Result<UdpBinding, NetError> { unimplemented!() }
    /// Looks a name up as the pod's resolv.conf would.
    pub fn resolve(self: &Arc<Self>, _name: &str) -> impl Future<Output = Result<Vec<IpAddr>, NetError>> + Send + 'static { async { unimplemented!() } }
    /// Replaces the extra names of /etc/hosts (hostname, hostAliases).
    pub fn set_hosts(&self, _entries: Vec<(IpAddr, Vec<String>)>) { unimplemented!() }
}
