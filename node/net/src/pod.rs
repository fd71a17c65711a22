//! One pod's part of the network: what a network namespace is to a pod on Linux.
//!
//! It has a loopback and addresses of its own, a table of ports per protocol, and knows every connection end that lives
//! in it, so that its removal can reset them. All containers of the pod share it.
//! The tables' lock is held for look-ups only: never while a socket is dropped, a task is woken or another pod is asked.

mod observe;
mod redirect;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::account::{SocketQuota, SocketSlot};
use crate::address::{canonical, loopback, mapped};
use crate::capture::Tap;
use crate::connect::Connecting;
use crate::datagram::{Mailbox, UdpBinding};
use crate::fabric::{Destination, Inner};
use crate::flows::{Direction, Flow, FlowLog};
use crate::listener::{Binding, Incoming, Listener};
use crate::policy::PodFacts;
use crate::policy::rules::{Compiled, PodRules};
use crate::ports::Ports;
use crate::resolve::{DnsConfig, Hosts};
use crate::stream::{Conn, Link, Side};
use crate::sync::Mutex;
use crate::{MAX_SOCKETS_PER_POD, MemoryCharge, NetError, Protocol};

pub use redirect::Redirect;

/// Who a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodIdentity {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Uid of the pod.
    pub uid: String,
}

/// One pod's network; see the module page.
pub struct PodNet {
    identity: PodIdentity,
    ips: Vec<IpAddr>,
    fabric: Weak<Inner>,
    quota: Arc<SocketQuota>,
    tables: Mutex<Tables>,
    hosts: ArcSwap<Hosts>,
    dns: ArcSwap<DnsConfig>,
    facts: ArcSwap<PodFacts>,
    rules: ArcSwapOption<Ruled>,
    pub(crate) flows: FlowLog,
    tap: ArcSwapOption<Tap>,
    redirect: ArcSwapOption<Redirect>,
}

/// The rules of a pod with what they were compiled from, by which their age is told.
struct Ruled {
    policies: Weak<Compiled>,
    facts: Arc<PodFacts>,
    rules: Arc<PodRules>,
}

#[derive(Default)]
struct Tables {
    removed: bool,
    tcp: Ports<Listener>,
    udp: Ports<Mailbox>,
    links: HashMap<u64, Held>,
    last_link: u64,
}

/// A connection end that lives in the pod.
struct Held {
    link: Arc<Link>,
    flow: Flow,
}

impl Tables {
    fn alive(&mut self) -> Result<&mut Self, NetError> {
        if self.removed {
            Err(NetError::NetworkDown)
        } else {
            Ok(self)
        }
    }

    fn add_link(&mut self, link: Arc<Link>, flow: Flow) -> u64 {
        self.last_link += 1;
        self.links.insert(self.last_link, Held { link, flow });
        self.last_link
    }
}

impl PodNet {
    pub(crate) fn new(identity: PodIdentity, ips: Vec<IpAddr>, fabric: Weak<Inner>, domain: &str) -> Arc<Self> {
        Arc::new(Self {
            hosts: ArcSwap::from_pointee(Hosts::of_pod(&identity.name, &ips)),
            dns: ArcSwap::from_pointee(DnsConfig::cluster_first(&identity.namespace, domain)),
            facts: ArcSwap::default(),
            rules: ArcSwapOption::empty(),
            flows: FlowLog::default(),
            tap: ArcSwapOption::empty(),
            redirect: ArcSwapOption::empty(),
            quota: SocketQuota::new(MAX_SOCKETS_PER_POD),
            tables: Mutex::default(),
            identity,
            ips,
            fabric,
        })
    }

    /// Who the pod is.
    pub fn identity(&self) -> &PodIdentity {
        &self.identity
    }

    /// The pod's own addresses; the loopback is not among them.
    pub fn ips(&self) -> &[IpAddr] {
        &self.ips
    }

    /// Sockets that the pod holds now.
    pub fn sockets(&self) -> usize {
        self.quota.used()
    }

    /// Takes a place in the pod's socket quota, where a guest creates a socket; `account` pays for its buffers.
    ///
    /// # Errors
    /// [`NetError::TooManySockets`], [`NetError::OutOfMemory`].
    pub fn claim(&self, account: Option<Arc<dyn MemoryCharge>>) -> Result<SocketSlot, NetError> {
        self.quota.claim(account)
    }

    /// Binds a TCP address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`NetError::AddrInUse`], [`NetError::AddrNotAvailable`] for an address that is not the pod's,
    /// [`NetError::TooManySockets`], [`NetError::NetworkDown`].
    pub fn bind(self: &Arc<Self>, addr: SocketAddr) -> Result<Binding, NetError> {
        self.bind_with(self.claim(None)?, addr)
    }

    /// As [`PodNet::bind`], for a socket that already has its place.
    ///
    /// # Errors
    /// As [`PodNet::bind`].
    pub fn bind_with(self: &Arc<Self>, slot: SocketSlot, addr: SocketAddr) -> Result<Binding, NetError> {
        let addr = self.bindable(addr)?;
        let listener = Listener::new(slot);
        let port = self.tables.lock().alive()?.tcp.bind(addr, listener.clone())?;
        Ok(Binding::new(self.clone(), listener, SocketAddr::new(addr.ip(), port)))
    }

    /// Connects to the own loopback, a pod or a service.
    pub fn connect(self: &Arc<Self>, to: SocketAddr) -> Connecting {
        match self.claim(None) {
            Ok(slot) => self.connect_with(slot, to),
            Err(error) => Connecting::done(Err(error)),
        }
    }

    /// As [`PodNet::connect`], for a socket that already has its place.
    pub fn connect_with(self: &Arc<Self>, slot: SocketSlot, to: SocketAddr) -> Connecting {
        self.connect_from(slot, None, to)
    }

    pub(crate) fn connect_from(
        self: &Arc<Self>,
        slot: SocketSlot,
        from: Option<Binding>,
        to: SocketAddr,
    ) -> Connecting {
        self.try_connect(slot, from, to).unwrap_or_else(|error| {
            self.flows.failed(Protocol::Tcp, canonical(to), error);
            Connecting::done(Err(error))
        })
    }

    fn try_connect(
        self: &Arc<Self>,
        slot: SocketSlot,
        from: Option<Binding>,
        shown: SocketAddr,
    ) -> Result<Connecting, NetError> {
        let fabric = self.fabric()?;
        let to = canonical(shown);
        let source_ip = self.source_ip(from.as_ref().map(|binding| binding.local_addr().ip()), to.ip());
        if let Some(sidecar) = self.outbound_sidecar(&slot, to) {
            // What the sidecar then asks for in its own name is subject to policies.
            let listener = self.listener(sidecar)?;
            let link = Link::new(slot.account().clone(), listener.account().clone());
            let (conn, local) = self.client_end(slot, from, source_ip, shown, link.clone())?;
            let offer = listener.offer(Incoming::new(link, to, local));
            return Ok(Connecting::offered(conn, offer, fabric.connect_timeout()));
        }
        let destination = fabric.route(Some(self), source_ip, to, Protocol::Tcp)?;
        fabric.permit(self, source_ip, &destination, Protocol::Tcp)?;
        let limit = fabric.connect_timeout();
        match destination {
            Destination::Pod(pod, at) => {
                let own = Arc::ptr_eq(&pod, self);
                let listener = pod.listener(if own { at } else { pod.inbound_at(at) })?;
                let link = Link::new(slot.account().clone(), listener.account().clone());
                let (conn, local) = self.client_end(slot, from, source_ip, shown, link.clone())?;
                pod.arrives(&link, local, at);
                let offer = listener.offer(Incoming::new(link, at, local));
                Ok(Connecting::offered(conn, offer, limit))
            }
            Destination::Far(node, at) => {
                let link = Link::new(slot.account().clone(), None);
                let (conn, local) = self.client_end(slot, from, source_ip, shown, link.clone())?;
                let offer = fabric.carry(node, local, at, Conn::new(link, Side::Server, at, local, None));
                Ok(Connecting::offered(conn, offer, limit))
            }
            Destination::Host(service, _) => {
                let link = Link::new(slot.account().clone(), None);
                let (conn, local) = self.client_end(slot, from, source_ip, shown, link.clone())?;
                service.take_stream(Conn::new(link, Side::Server, to, local, None).into())?;
                Ok(Connecting::done(Ok(conn)))
            }
        }
    }

    /// The client's end of `link`, with its port, and the address that the server sees.
    fn client_end(
        self: &Arc<Self>,
        slot: SocketSlot,
        from: Option<Binding>,
        ip: IpAddr,
        peer: SocketAddr,
        link: Arc<Link>,
    ) -> Result<(Conn, SocketAddr), NetError> {
        let registration = Registration::of_client(self, slot, from, link.clone(), (ip, canonical(peer)))?;
        let local = SocketAddr::new(ip, registration.port);
        let shown = if peer.is_ipv6() { mapped(local) } else { local };
        Ok((Conn::new(link, Side::Client, shown, peer, Some(registration)), local))
    }

    /// Who listens at an address of this pod.
    pub(crate) fn listener(&self, at: SocketAddr) -> Result<Arc<Listener>, NetError> {
        self.tables.lock().tcp.find(at).ok_or(NetError::ConnectionRefused)
    }

    /// Who receives datagrams at an address of this pod.
    pub(crate) fn mailbox(&self, at: SocketAddr) -> Option<Arc<Mailbox>> {
        self.tables.lock().udp.find(at)
    }

    /// Binds a UDP address; port 0 takes a free one.
    ///
    /// # Errors
    /// As [`PodNet::bind`].
    pub fn bind_udp(self: &Arc<Self>, addr: SocketAddr) -> Result<UdpBinding, NetError> {
        self.bind_udp_with(self.claim(None)?, addr)
    }

    /// As [`PodNet::bind_udp`], for a socket that already has its place.
    ///
    /// # Errors
    /// As [`PodNet::bind`].
    pub fn bind_udp_with(self: &Arc<Self>, slot: SocketSlot, addr: SocketAddr) -> Result<UdpBinding, NetError> {
        let addr = self.bindable(addr)?;
        let mailbox = Mailbox::new(slot);
        let port = self.tables.lock().alive()?.udp.bind(addr, mailbox.clone())?;
        Ok(UdpBinding::new(self.clone(), mailbox, SocketAddr::new(addr.ip(), port)))
    }

    /// Looks a name up as a program of the pod would: literal addresses, `/etc/hosts`, then the cluster's DNS along the
    /// search path. IPv4 addresses come first.
    ///
    /// # Errors
    /// [`NetError::NameNotFound`], [`NetError::NetworkDown`]; [`NetError::Denied`] where policies keep the pod from DNS.
    pub fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let fabric = self.fabric()?;
        crate::resolve::lookup(name, &self.hosts.load(), &self.dns.load(), |name| {
            fabric.permit_names(self)?;
            Ok(fabric.addresses(name))
        })
    }

    /// Replaces what policies and services see of the pod; until then it has no labels, no named ports and no node.
    pub fn describe(&self, facts: PodFacts) {
        self.facts.store(Arc::new(facts));
    }

    /// What policies and services see of the pod.
    pub(crate) fn facts(&self) -> Arc<PodFacts> {
        self.facts.load_full()
    }

    /// The pod's rules under these policies, compiled when they are asked for the first time.
    pub(crate) fn rules(&self, policies: &Arc<Compiled>) -> Arc<PodRules> {
        let facts = self.facts();
        if let Some(ruled) = &*self.rules.load()
            && std::ptr::eq(ruled.policies.as_ptr(), Arc::as_ptr(policies))
            && Arc::ptr_eq(&ruled.facts, &facts)
        {
            return ruled.rules.clone();
        }
        let rules = Arc::new(policies.rules(&self.identity.namespace, &facts));
        // Weak, so that the place of what it was compiled from is not taken by what comes later.
        let ruled = Ruled {
            policies: Arc::downgrade(policies),
            facts,
            rules: rules.clone(),
        };
        self.rules.store(Some(Arc::new(ruled)));
        rules
    }

    /// Replaces the names of `/etc/hosts`: the pod's hostname and its `hostAliases`. `localhost` always exists.
    pub fn set_hosts(&self, entries: Vec<(IpAddr, Vec<String>)>) {
        self.hosts.store(Arc::new(Hosts::new(entries)));
    }

    /// Replaces the search path and `ndots`, for a pod with `dnsConfig`.
    pub fn set_dns(&self, config: DnsConfig) {
        self.dns.store(Arc::new(config));
    }

    /// The search path and `ndots` of the pod, as its `/etc/resolv.conf` shows them.
    pub fn dns(&self) -> Arc<DnsConfig> {
        self.dns.load_full()
    }

    /// Ends everything: listeners close, connections reset, and nothing new begins.
    pub(crate) fn remove(&self) {
        let (listeners, mailboxes, links) = {
            let mut tables = self.tables.lock();
            tables.removed = true;
            (
                tables.tcp.clear(),
                tables.udp.clear(),
                std::mem::take(&mut tables.links),
            )
        };
        links.values().for_each(|held| held.link.reset());
        if let Some(tap) = self.tap.swap(None) {
            tap.end();
        }
        listeners.iter().for_each(|listener| listener.close());
        mailboxes.iter().for_each(|mailbox| mailbox.close());
    }

    pub(crate) fn fabric(&self) -> Result<Arc<Inner>, NetError> {
        self.fabric.upgrade().ok_or(NetError::NetworkDown)
    }

    pub(crate) fn unbind_tcp(&self, at: SocketAddr) {
        let unbound = self.tables.lock().tcp.unbind(at);
        drop(unbound);
    }

    pub(crate) fn unbind_udp(&self, at: SocketAddr) {
        let unbound = self.tables.lock().udp.unbind(at);
        drop(unbound);
    }

    /// The address from which the pod reaches `to`, unless it is bound to one.
    pub(crate) fn source_ip(&self, bound: Option<IpAddr>, to: IpAddr) -> IpAddr {
        if let Some(ip) = bound.filter(|ip| !ip.is_unspecified()) {
            return ip;
        }
        let own = self.ips.iter().find(|ip| ip.is_ipv4() == to.is_ipv4()).copied();
        if to.is_loopback() || to.is_unspecified() {
            loopback(to)
        } else {
            own.unwrap_or(to)
        }
    }

    fn bindable(&self, addr: SocketAddr) -> Result<SocketAddr, NetError> {
        let addr = canonical(addr);
        let ip = addr.ip();
        if ip.is_unspecified() || ip.is_loopback() || self.ips.contains(&ip) {
            Ok(addr)
        } else {
            Err(NetError::AddrNotAvailable)
        }
    }
}

impl fmt::Debug for PodNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodNet")
            .field("identity", &self.identity)
            .field("ips", &self.ips)
            .finish_non_exhaustive()
    }
}

/// What ties a connection end to its pod; dropping it gives port and place back.
pub(crate) struct Registration {
    pod: Arc<PodNet>,
    id: u64,
    flow: Flow,
    port: u16,
    client_port: Option<u16>,
    _bound: Option<Binding>,
    _slot: SocketSlot,
}

impl Registration {
    fn of_client(
        pod: &Arc<PodNet>,
        slot: SocketSlot,
        bound: Option<Binding>,
        link: Arc<Link>,
        (ip, peer): (IpAddr, SocketAddr),
    ) -> Result<Self, NetError> {
        let mut guard = pod.tables.lock();
        // On failure the guard is gone before `bound`, whose own drop takes this lock: locals drop before parameters.
        let tables = guard.alive()?;
        let client_port = if bound.is_some() {
            None
        } else {
            Some(tables.tcp.take_client_port()?)
        };
        let port = client_port.or_else(|| bound.as_ref().map(|binding| binding.local_addr().port()));
        let port = port.unwrap_or_default();
        let local = SocketAddr::new(ip, port);
        let flow = Flow {
            direction: Direction::Outbound,
            local,
            peer,
        };
        let id = tables.add_link(link.clone(), flow);
        drop(guard);
        if let Some(tap) = pod.tap() {
            link.taps.add(tap, local, peer, true);
        }
        pod.flows.opened(flow);
        Ok(Self {
            pod: pod.clone(),
            id,
            flow,
            port,
            client_port,
            _bound: bound,
            _slot: slot,
        })
    }

    pub(crate) fn of_server(
        pod: &Arc<PodNet>,
        slot: SocketSlot,
        link: Arc<Link>,
        flow: Flow,
    ) -> Result<Self, NetError> {
        let id = pod.tables.lock().alive()?.add_link(link, flow);
        pod.flows.opened(flow);
        Ok(Self {
            pod: pod.clone(),
            id,
            flow,
            port: 0,
            client_port: None,
            _bound: None,
            _slot: slot,
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let held = {
            let mut tables = self.pod.tables.lock();
            if let Some(port) = self.client_port {
                tables.tcp.free_client_port(port);
            }
            tables.links.remove(&self.id)
        };
        // A pod that was removed has let its links go and is told of nothing any more.
        let Some(held) = held else { return };
        let [client, server] = held.link.totals();
        let (sent, received) = match self.flow.direction {
            Direction::Outbound => (client, server),
            Direction::Inbound => (server, client),
        };
        self.pod.flows.closed(self.flow, sent, received);
    }
}
