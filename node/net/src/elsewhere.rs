//! Other nodes: what the network is told of them, and the way there that somebody else provides.
//!
//! An [`Elsewhere`] is complete and replaces the one before. The network decides which node an address is on, and asks
//! policies on both sides: the sender's for what its pod may begin, the receiver's for what its pod takes, by the true source.
//! How bytes get there is the business of an [`Uplink`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::address::{Cidr, canonical};
use crate::connect::Connecting;
use crate::fabric::{Fabric, Inner};
use crate::listener::{Incoming, Offer};
use crate::pod::PodNet;
use crate::policy::PodFacts;
use crate::policy::rules::{End, Flow};
use crate::stream::{Conn, Link, Side};
use crate::sync::oneshot;
use crate::{NetError, Protocol, Stream};

/// How long what arrives waits until the network has been told of who sends it: a pod that has just started may speak before
/// the watch here has brought it. A second is many times what a watch takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// The nodes of other processes at one moment, and their pods.
#[derive(Debug, Clone, Default)]
pub struct Elsewhere {
    /// The nodes, each with addresses that no other has.
    pub nodes: Vec<Arc<RemoteNode>>,
    /// What policies see of their pods.
    pub pods: HashMap<IpAddr, Arc<RemotePod>>,
    /// Where the host ports of their pods lead: from an address of their node to the pod.
    pub host_ports: HashMap<(SocketAddr, Protocol), SocketAddr>,
}

/// A node of another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteNode {
    /// As who it proves itself: the node's name, or that of another node of its process.
    pub name: String,
    /// Where it is reached.
    pub address: SocketAddr,
    /// From where its pods, and its host's side, have addresses.
    pub networks: Vec<Cidr>,
}

impl RemoteNode {
    fn has(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(ip))
    }

    /// Whether an address is the one that pods see where the node itself speaks to them.
    fn is_host(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.host_ip() == ip)
    }
}

/// A pod of another node, as policies see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemotePod {
    /// Its namespace.
    pub namespace: String,
    /// Its labels and named ports.
    pub facts: PodFacts,
}

/// The way to other nodes.
pub trait Uplink: Send + Sync {
    /// Carries a connection. Never waits; what comes of it is told by [`Outgoing::answer`].
    fn connect(&self, outgoing: Outgoing);

    /// Carries a datagram, or loses it.
    fn send(&self, node: &RemoteNode, from: SocketAddr, to: SocketAddr, data: Bytes);
}

/// A connection that somebody here begins to an address on another node. Dropping it unanswered breaks it.
#[derive(Debug)]
pub struct Outgoing {
    /// The node.
    pub node: Arc<RemoteNode>,
    /// The address that the other side sees.
    pub from: SocketAddr,
    /// Where it leads.
    pub to: SocketAddr,
    /// The end whose bytes are to be carried.
    pub conn: Conn,
    answer: oneshot::Sender<Result<(), NetError>>,
}

impl Outgoing {
    /// Waits until whoever connects has given up.
    pub async fn abandoned(&mut self) {
        self.answer.closed().await;
    }

    /// Tells whoever connects what the other node says. Gives the end to carry where the connection stands and is wanted.
    pub fn answer(self, outcome: Result<(), NetError>) -> Option<Conn> {
        let stands = outcome.is_ok();
        let told = self.answer.send(outcome).is_ok();
        (stands && told).then_some(self.conn)
    }
}

impl Inner {
    /// The node elsewhere that an address is on, where there is a way to it.
    pub(crate) fn node_of(&self, ip: IpAddr) -> Option<Arc<RemoteNode>> {
        self.uplink.get()?;
        let elsewhere = self.elsewhere.borrow();
        elsewhere.nodes.iter().find(|node| node.has(ip)).cloned()
    }

    /// What policies see of a pod elsewhere.
    pub(crate) fn remote_pod(&self, ip: IpAddr) -> Option<Arc<RemotePod>> {
        self.elsewhere.borrow().pods.get(&ip).cloned()
    }

    /// Hands the far end of a new connection over, which comes from `from`.
    pub(crate) fn carry(&self, node: Arc<RemoteNode>, from: SocketAddr, to: SocketAddr, conn: Conn) -> Offer {
        let Some(uplink) = self.uplink.get() else {
            return Offer::Refused;
        };
        let (answer, answered) = oneshot::channel();
        uplink.connect(Outgoing {
            node,
            from,
            to,
            conn,
            answer,
        });
        Offer::Wait(answered)
    }

    /// Loses a datagram, or has it carried.
    pub(crate) fn send_away(&self, node: &RemoteNode, from: SocketAddr, to: SocketAddr, data: Bytes) {
        if let Some(uplink) = self.uplink.get() {
            uplink.send(node, from, to, data);
        }
    }

    /// Whether the node that calls itself `name` may speak for an address, and whether it then speaks for itself.
    fn speaks_for(&self, name: &str, ip: IpAddr) -> Option<bool> {
        let elsewhere = self.elsewhere.borrow();
        let mut own = elsewhere.nodes.iter().filter(|node| node.name == name);
        own.find(|node| node.has(ip)).map(|node| node.is_host(ip))
    }

    /// Whether policies let what comes from elsewhere into a pod. `known` tells whether the sender was known.
    fn lets_in(&self, pod: &PodNet, from: SocketAddr, to: SocketAddr, protocol: Protocol) -> (bool, bool) {
        let policies = self.policies();
        if policies.is_empty() {
            return (true, true);
        }
        let (facts, sender) = (pod.facts(), self.remote_pod(from.ip()));
        let flow = Flow {
            from: End {
                ip: from.ip(),
                pod: sender.as_ref().map(|pod| (pod.namespace.as_str(), &pod.facts)),
            },
            to: End {
                ip: to.ip(),
                pod: Some((&pod.identity().namespace, &facts)),
            },
            port: to.port(),
            protocol,
        };
        (pod.rules(&policies).let_in(&flow), sender.is_some())
    }

    /// Whether a node may send this to a pod here. What is not known yet is waited for.
    async fn admit(&self, node: &str, from: SocketAddr, to: SocketAddr) -> Result<Arc<PodNet>, NetError> {
        let pod = self.pod_at(to.ip()).ok_or(NetError::HostUnreachable)?;
        let mut told = self.elsewhere.subscribe();
        let known = async {
            loop {
                told.borrow_and_update();
                match self.speaks_for(node, from.ip()) {
                    Some(true) => return Ok(()),
                    Some(false) => match self.lets_in(&pod, from, to, Protocol::Tcp) {
                        (true, _) => return Ok(()),
                        (false, true) => return Err(NetError::Denied),
                        (false, false) => {}
                    },
                    None => {}
                }
                if told.changed().await.is_err() {
                    return Err(NetError::Denied);
                }
            }
        };
        let decided = tokio::time::timeout(PATIENCE, known).await;
        decided.unwrap_or(Err(NetError::Denied)).map(|()| pod)
    }
}

impl Fabric {
    /// Gives the network a way to other nodes, once.
    pub fn set_uplink(&self, uplink: Arc<dyn Uplink>) {
        // A second one would be a second way to the same nodes; the first goes on.
        let _ = self.inner().uplink.set(uplink);
    }

    /// Replaces what the network knows of other nodes, for what begins from now on.
    pub fn update_elsewhere(&self, told: Elsewhere) {
        self.inner().elsewhere.send_replace(Arc::new(told));
    }

    /// What the network knows of other nodes.
    pub fn elsewhere(&self) -> Arc<Elsewhere> {
        self.inner().elsewhere.borrow().clone()
    }

    /// Takes a connection that the node `node` has brought, to a pod of this process.
    ///
    /// # Errors
    /// [`NetError::Denied`] where the source is not that node's, or a policy forbids it; [`NetError::HostUnreachable`]
    /// without such a pod, [`NetError::ConnectionRefused`], [`NetError::TimedOut`].
    pub async fn arrive(&self, node: &str, from: SocketAddr, to: SocketAddr) -> Result<Stream, NetError> {
        let (from, to) = (canonical(from), canonical(to));
        let inner = self.inner();
        let pod = inner.admit(node, from, to).await?;
        let connecting = {
            let listener = pod.listener(to)?;
            let link = Link::new(None, listener.account().clone());
            let conn = Conn::new(link.clone(), Side::Client, from, to, None);
            let offer = listener.offer(Incoming::new(link, to, from));
            Connecting::offered(conn, offer, inner.connect_timeout())
        };
        connecting.stream().await
    }

    /// Takes a datagram that the node `node` has brought, or loses it.
    pub fn arrive_datagram(&self, node: &str, from: SocketAddr, to: SocketAddr, data: Bytes) {
        let (from, to) = (canonical(from), canonical(to));
        let inner = self.inner();
        let Some(is_host) = inner.speaks_for(node, from.ip()) else {
            return;
        };
        if let Some(flow) = inner.flow_at(to) {
            flow.take_datagram(data, from, |_| {});
            return;
        }
        let Some(pod) = inner.pod_at(to.ip()) else { return };
        let Some(mailbox) = pod.mailbox(to) else { return };
        if inner.has_policies() {
            let welcome = is_host || mailbox.has_asked(from) || inner.lets_in(&pod, from, to, Protocol::Udp).0;
            if !welcome {
                return;
            }
            // Its answer goes back whatever policies say.
            mailbox.ask(from);
        }
        mailbox.deliver(data, from);
    }
}
