//! The network that joins all pods of the node, the services and the host's side.
//!
//! [`Inner::route`] is the single place that decides where an address leads. Whatever it does not name does not exist:
//! there is no way from a pod to a socket of the host.

mod dial;
mod flow;
mod permit;

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hickory_proto::rr::Name;
use tokio::sync::watch;

use crate::address::{Cidr, canonical, loopback};
use crate::dns::zone::Zone;
use crate::elsewhere::{Elsewhere, RemoteNode, Uplink};
use crate::host::{HostEntry, HostService};
use crate::host_ports::Led;
use crate::pod::{PodIdentity, PodNet};
use crate::policy::PodFacts;
use crate::policy::rules::Compiled;
use crate::service::{Backend, Index};
use crate::snapshot::{Protocol, Snapshot};
use crate::sync::atomic::AtomicU16;
use crate::sync::{Mutex, RwLock};
use crate::{NetError, Stream};

pub use dial::Picked;
pub(crate) use flow::HostFlow;

/// What the network must know before its first pod.
#[derive(Debug, Clone)]
pub struct FabricConfig {
    /// Suffix of all cluster names, without a dot at either end.
    pub cluster_domain: String,
    /// The cluster DNS address.
    pub dns_ip: IpAddr,
    /// Networks from which pods get addresses, on all nodes.
    pub pod_cidrs: Vec<Cidr>,
    /// Networks from which services get addresses.
    pub service_cidrs: Vec<Cidr>,
    /// Addresses of this node at which pods reach node ports.
    pub node_ips: Vec<IpAddr>,
    /// The address that pods see as the peer of probes and node ports; never given to a pod.
    pub host_ip: IpAddr,
    /// How long a connect waits at a full backlog. Linux gives up after about two minutes of SYNs.
    pub connect_timeout: Duration,
}

impl Default for FabricConfig {
    fn default() -> Self {
        let v4 = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        Self {
            cluster_domain: "cluster.local".to_owned(),
            dns_ip: v4(10, 96, 0, 10),
            pod_cidrs: vec![Cidr::new(v4(10, 244, 0, 0), 16)],
            service_cidrs: vec![Cidr::new(v4(10, 96, 0, 0), 12)],
            node_ips: Vec::new(),
            host_ip: v4(10, 244, 0, 1),
            connect_timeout: Duration::from_secs(127),
        }
    }
}

/// The pod network of one node; clones share it.
#[derive(Clone)]
pub struct Fabric(Arc<Inner>);

pub(crate) struct Inner {
    config: FabricConfig,
    dns_facts: PodFacts,
    domain: Name,
    pods: RwLock<Pods>,
    hosts: RwLock<HashMap<(SocketAddr, Protocol), Arc<HostEntry>>>,
    index: ArcSwap<Index>,
    policies: ArcSwap<Compiled>,
    /// One `update` at a time; readers never wait for it.
    updating: Mutex<()>,
    changes: watch::Sender<u32>,
    next_host_port: AtomicU16,
    /// Ports of the host that pods have, the oldest first.
    pub(crate) host_ports: watch::Sender<Vec<Led>>,
    pub(crate) elsewhere: watch::Sender<Arc<Elsewhere>>,
    pub(crate) uplink: OnceLock<Arc<dyn Uplink>>,
}

#[derive(Default)]
struct Pods {
    by_ip: HashMap<IpAddr, Arc<PodNet>>,
    by_uid: HashMap<String, Arc<PodNet>>,
}

/// Which endpoints of a service are chosen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those of all nodes.
    All,
    /// Those of this process.
    Here,
}

/// Where an address leads.
pub(crate) enum Destination {
    /// To a pod, at an address of its own or its loopback.
    Pod(Arc<PodNet>, SocketAddr),
    /// To a handler on the host, at this address.
    Host(Arc<HostEntry>, SocketAddr),
    /// To another node.
    Far(Arc<RemoteNode>, SocketAddr),
}

impl Inner {
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.config.connect_timeout
    }

    /// Decides where `to` leads for a pod, or for the host where `from` is none. `client` is the source address, by which
    /// services tell clients apart.
    pub(crate) fn route(
        &self,
        from: Option<&Arc<PodNet>>,
        client: IpAddr,
        to: SocketAddr,
        protocol: Protocol,
    ) -> Result<Destination, NetError> {
        if to.ip().is_loopback() || to.ip().is_unspecified() {
            // The own loopback; the host's is not part of this network.
            let pod = from.ok_or(NetError::NetworkUnreachable)?;
            let ip = if to.ip().is_unspecified() {
                loopback(to.ip())
            } else {
                to.ip()
            };
            return Ok(Destination::Pod(pod.clone(), SocketAddr::new(ip, to.port())));
        }
        if let Some(entry) = self.hosts.read().get(&(to, protocol)) {
            return Ok(Destination::Host(entry.clone(), to));
        }
        let index = self.index.load();
        if let Some(backend) = self.backend_at(&index, to, protocol) {
            let facts = from.filter(|_| backend.asks_node()).map(|pod| pod.facts());
            let node = facts.as_ref().and_then(|facts| facts.node.as_deref());
            let zone = node.and_then(|node| index.zone(node));
            return self.pick(backend, client, (node, zone), protocol, Reach::All);
        }
        if let Some(at) = self.host_port_at(to, protocol) {
            return self.plain(at).ok_or(NetError::ConnectionRefused);
        }
        self.plain(to).ok_or_else(|| self.absent(&index, to.ip()))
    }

    /// Whether pods know this node by an address.
    pub(crate) fn is_node(&self, ip: IpAddr) -> bool {
        self.config.node_ips.contains(&ip) || ip == self.config.host_ip
    }

    /// The service port at `to`: a service address, or a node port at an address of the node.
    fn backend_at<'i>(&self, index: &'i Index, to: SocketAddr, protocol: Protocol) -> Option<&'i Arc<Backend>> {
        index.at_address(to, protocol).or_else(|| {
            let node = self.is_node(to.ip());
            node.then(|| index.at_node_port(to.port(), protocol)).flatten()
        })
    }

    /// An endpoint of a service port; one whose pod is gone is passed over while another lives.
    fn pick(
        &self,
        backend: &Backend,
        client: IpAddr,
        near: (Option<&str>, Option<&str>),
        protocol: Protocol,
        reach: Reach,
    ) -> Result<Destination, NetError> {
        let lives = |at: SocketAddr| {
            self.pods.read().by_ip.contains_key(&at.ip())
                || self.hosts.read().contains_key(&(at, protocol))
                || (reach == Reach::All && self.node_of(at.ip()).is_some())
        };
        let at = backend.pick(client, near, lives).ok_or(NetError::ConnectionRefused)?;
        if let Some(entry) = self.hosts.read().get(&(at, protocol)) {
            return Ok(Destination::Host(entry.clone(), at));
        }
        self.plain(at).ok_or(NetError::ConnectionRefused)
    }

    fn plain(&self, to: SocketAddr) -> Option<Destination> {
        match self.pod_at(to.ip()) {
            Some(pod) => Some(Destination::Pod(pod, to)),
            None => Some(Destination::Far(self.node_of(to.ip())?, to)),
        }
    }

    /// The pod of this process at an address.
    pub(crate) fn pod_at(&self, ip: IpAddr) -> Option<Arc<PodNet>> {
        self.pods.read().by_ip.get(&ip).cloned()
    }

    /// Who takes the answers of a flow at an address of the host's side.
    pub(crate) fn flow_at(&self, at: SocketAddr) -> Option<Arc<HostEntry>> {
        let entry = self.hosts.read().get(&(at, Protocol::Udp)).cloned();
        entry.filter(|entry| entry.is_flow())
    }

    /// Why an address that nobody has cannot be reached.
    fn absent(&self, index: &Index, ip: IpAddr) -> NetError {
        let within = |networks: &[Cidr]| networks.iter().any(|network| network.contains(ip));
        let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        let of_host = ip == self.config.dns_ip || self.is_node(ip);
        if index.has_address(ip) || of_host || self.has_host(ip) {
            NetError::ConnectionRefused
        } else if within(&self.config.pod_cidrs) || within(&self.config.service_cidrs) {
            NetError::HostUnreachable
        } else if ip.is_multicast() || broadcast {
            NetError::Denied
        } else {
            NetError::NetworkUnreachable
        }
    }

    /// Whether `endpoint` still takes what is sent to `to`, a service's address or a host port.
    pub(crate) fn serves(&self, to: SocketAddr, endpoint: SocketAddr, protocol: Protocol) -> bool {
        let index = self.index.load();
        let takes = match self.backend_at(&index, to, protocol) {
            Some(backend) => backend.serves(endpoint),
            None => self.host_port_at(to, protocol) == Some(endpoint),
        };
        takes && self.plain(endpoint).is_some()
    }

    fn has_host(&self, ip: IpAddr) -> bool {
        self.hosts.read().keys().any(|(at, _)| at.ip() == ip)
    }

    pub(crate) fn remove_host(&self, at: (SocketAddr, Protocol)) {
        let removed = self.hosts.write().remove(&at);
        drop(removed);
    }

    /// Works on the zone as it is now.
    pub(crate) fn with_zone<R>(&self, work: impl FnOnce(&Zone<'_>) -> R) -> R {
        let index = self.index.load();
        let pod_at = |ip: IpAddr| {
            let here = self.pod_at(ip).map(|pod| pod.identity().namespace.clone());
            here.or_else(|| Some(self.remote_pod(ip)?.namespace.clone()))
        };
        work(&Zone {
            index: &index,
            domain: &self.domain,
            dns_ip: self.config.dns_ip,
            pod_cidrs: &self.config.pod_cidrs,
            service_cidrs: &self.config.service_cidrs,
            namespace_of_pod: &pod_at,
        })
    }

    /// The addresses of an absolute name; none where it does not exist.
    pub(crate) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.with_zone(|zone| zone.addresses(name))
    }
}

impl Fabric {
    /// An empty network.
    pub fn new(config: FabricConfig) -> Self {
        let mut domain = Name::from_ascii(&config.cluster_domain)
            .unwrap_or_default()
            .to_lowercase();
        domain.set_fqdn(true);
        Self(Arc::new(Inner {
            config,
            domain,
            pods: RwLock::default(),
            hosts: RwLock::default(),
            index: ArcSwap::default(),
            policies: ArcSwap::default(),
            dns_facts: permit::dns_facts(),
            updating: Mutex::default(),
            changes: watch::Sender::new(0),
            next_host_port: AtomicU16::new(32_768),
            host_ports: watch::Sender::default(),
            elsewhere: watch::Sender::default(),
            uplink: OnceLock::new(),
        }))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// What the network was told at its creation.
    pub fn config(&self) -> &FabricConfig {
        &self.0.config
    }

    /// Adds a pod with its addresses.
    ///
    /// # Errors
    /// [`NetError::AddrInUse`] where the uid or an address is taken; [`NetError::AddrNotAvailable`] for an address that a
    /// pod cannot have: loopback, unspecified, multicast, a service's or the host's.
    pub fn add_pod(&self, identity: PodIdentity, ips: Vec<IpAddr>) -> Result<Arc<PodNet>, NetError> {
        let config = &self.0.config;
        let ips: Vec<IpAddr> = ips.into_iter().map(|ip| ip.to_canonical()).collect();
        let unusable = |ip: &IpAddr| {
            let service = config.service_cidrs.iter().any(|network| network.contains(*ip));
            let special = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
            special || service || *ip == config.dns_ip || *ip == config.host_ip
        };
        if ips.iter().any(unusable) {
            return Err(NetError::AddrNotAvailable);
        }
        let mut pods = self.0.pods.write();
        if pods.by_uid.contains_key(&identity.uid) || ips.iter().any(|ip| pods.by_ip.contains_key(ip)) {
            return Err(NetError::AddrInUse);
        }
        let pod = PodNet::new(identity, ips, Arc::downgrade(&self.0), &config.cluster_domain);
        pods.by_uid.insert(pod.identity().uid.clone(), pod.clone());
        for ip in pod.ips() {
            pods.by_ip.insert(*ip, pod.clone());
        }
        Ok(pod)
    }

    /// Removes a pod: its listeners close, its connections are reset on both sides, its addresses are free.
    pub fn remove_pod(&self, uid: &str) {
        let removed = {
            let mut pods = self.0.pods.write();
            let removed = pods.by_uid.remove(uid);
            for ip in removed.iter().flat_map(|pod| pod.ips()) {
                pods.by_ip.remove(ip);
            }
            removed
        };
        self.0.forget_host_ports(uid);
        if let Some(pod) = removed {
            pod.remove();
        }
    }

    /// The pod at an address.
    pub fn pod(&self, ip: IpAddr) -> Option<Arc<PodNet>> {
        self.0.pods.read().by_ip.get(&ip.to_canonical()).cloned()
    }

    /// The pod with a uid.
    pub fn pod_by_uid(&self, uid: &str) -> Option<Arc<PodNet>> {
        self.0.pods.read().by_uid.get(uid).cloned()
    }

    /// Replaces what the network knows of services. Connections that exist are not touched.
    pub fn update(&self, snapshot: Arc<Snapshot>) {
        let serial = {
            let _one = self.0.updating.lock();
            let index = Index::build(snapshot, &self.0.index.load());
            let serial = index.serial;
            self.0.index.store(Arc::new(index));
            serial
        };
        self.0.changes.send_replace(serial);
    }

    /// What the network knows of services.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.index.load().snapshot.clone()
    }

    /// The ports of the host that services ask for.
    pub(crate) fn exposed(&self) -> Vec<crate::ExposedPort> {
        self.0.index.load().exposed.clone()
    }

    /// Changes whenever the snapshot has; the value counts the snapshots.
    pub fn changes(&self) -> watch::Receiver<u32> {
        self.0.changes.subscribe()
    }

    /// Answers connections of pods and of the host's side to `at` by `handler`, on the current tokio runtime, until the
    /// result drops. It comes before a service with the same address.
    ///
    /// # Errors
    /// [`NetError::AddrInUse`]; [`NetError::NotSupported`] outside a tokio runtime.
    pub fn serve_host<F, Fut>(&self, at: SocketAddr, handler: F) -> Result<HostService, NetError>
    where
        F: Fn(Stream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.add_host((canonical(at), Protocol::Tcp), HostEntry::streams(handler)?)
    }

    /// Answers datagrams of pods to `at` by `handler`, which returns the reply if there is one; else as `serve_host`.
    ///
    /// # Errors
    /// As [`Fabric::serve_host`].
    pub fn serve_host_datagrams<F, Fut>(&self, at: SocketAddr, handler: F) -> Result<HostService, NetError>
    where
        F: Fn(Bytes, SocketAddr) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Bytes>> + Send + 'static,
    {
        self.add_host((canonical(at), Protocol::Udp), HostEntry::datagrams(handler)?)
    }

    fn add_host(&self, at: (SocketAddr, Protocol), entry: Arc<HostEntry>) -> Result<HostService, NetError> {
        let mut hosts = self.0.hosts.write();
        if hosts.contains_key(&at) {
            return Err(NetError::AddrInUse);
        }
        hosts.insert(at, entry);
        Ok(HostService {
            fabric: Arc::downgrade(&self.0),
            at,
        })
    }
}

impl std::fmt::Debug for Fabric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fabric")
            .field("pods", &self.0.pods.read().by_uid.len())
            .finish_non_exhaustive()
    }
}
