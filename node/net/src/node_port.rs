//! Node ports: listeners on the host that follow the snapshot and lead into services.
//!
//! The only way from the host's network into pods that opens by itself, and only at the address that the operator chose.
//! A port that something else holds is reported and tried again when the snapshot changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fabric::Fabric;
use crate::service::NodePort;
use crate::{NetError, Protocol};

/// Connections that all node ports carry at a time: each takes one of the process's file descriptors, of which the rest
/// of the node needs some too. Further clients wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 2048;

/// Bytes that are moved at a time in each direction of a connection.
const COPY_BYTES: usize = 64 * 1024;

/// Pause after a failed accept. It fails when the process is out of file descriptors, and at once again until something
/// else closes one: long enough not to burn a core meanwhile, short enough not to be noticed afterwards.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A node port that is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePortFailure {
    /// Namespace of the service.
    pub namespace: String,
    /// Name of the service.
    pub service: String,
    /// The port.
    pub port: u16,
    /// Why, in words for the user.
    pub message: String,
}

type Report = Box<dyn Fn(&NodePortFailure) + Send + Sync>;

/// The listeners of node ports, before they run.
pub struct NodePorts {
    fabric: Fabric,
    bind_ip: IpAddr,
    report: Option<Report>,
}

impl NodePorts {
    /// Listeners at `bind_ip`, one for each node port of the snapshot.
    pub fn new(fabric: Fabric, bind_ip: IpAddr) -> Self {
        Self {
            fabric,
            bind_ip,
            report: None,
        }
    }

    /// Tells `report` of each port that cannot be served, once for each reason; it is logged as well.
    #[must_use]
    pub fn on_failure(mut self, report: impl Fn(&NodePortFailure) + Send + Sync + 'static) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    /// Serves until `shutdown`, which also ends the connections.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut changes = self.fabric.changes();
        let acceptor = Acceptor {
            fabric: self.fabric.clone(),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            shutdown: shutdown.clone(),
        };
        let mut open: BTreeMap<u16, DropGuard> = BTreeMap::new();
        let mut failed: HashMap<u16, String> = HashMap::new();
        loop {
            changes.borrow_and_update();
            let wanted = self.wanted();
            let held: BTreeSet<u16> = open.keys().copied().collect();
            let plan = plan(&held, &wanted);
            open.retain(|port, _| !plan.close.contains(port));
            failed.retain(|port, _| wanted.contains_key(port));
            for node_port in plan.open {
                match self.open(node_port, &acceptor).await {
                    Ok(guard) => {
                        failed.remove(&node_port.port);
                        open.insert(node_port.port, guard);
                    }
                    Err(message) if failed.get(&node_port.port) != Some(&message) => {
                        self.tell(node_port, &message);
                        failed.insert(node_port.port, message);
                    }
                    Err(_) => {}
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    fn wanted(&self) -> BTreeMap<u16, NodePort> {
        self.fabric
            .node_ports()
            .into_iter()
            .map(|node_port| (node_port.port, node_port))
            .collect()
    }

    async fn open(&self, node_port: &NodePort, acceptor: &Acceptor) -> Result<DropGuard, String> {
        if node_port.protocol != Protocol::Tcp {
            return Err("node ports carry TCP only; UDP reaches the service inside the cluster".to_owned());
        }
        let at = SocketAddr::new(self.bind_ip, node_port.port);
        let listener = TcpListener::bind(at).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => format!("{at} is in use by another program on this machine"),
            _ => format!("cannot listen on {at}: {error}"),
        })?;
        tracing::debug!(%at, service = %node_port.service, namespace = %node_port.namespace, "node port open");
        let closed = CancellationToken::new();
        tokio::spawn(acceptor.clone().accept(listener, node_port.port, closed.clone()));
        Ok(closed.drop_guard())
    }

    fn tell(&self, node_port: &NodePort, message: &str) {
        let failure = NodePortFailure {
            namespace: node_port.namespace.clone(),
            service: node_port.service.clone(),
            port: node_port.port,
            message: message.to_owned(),
        };
        tracing::warn!(namespace = %failure.namespace, service = %failure.service, port = failure.port, "node port: {message}");
        if let Some(report) = &self.report {
            report(&failure);
        }
    }
}

impl std::fmt::Debug for NodePorts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodePorts")
            .field("bind_ip", &self.bind_ip)
            .finish_non_exhaustive()
    }
}

struct Plan<'a> {
    close: BTreeSet<u16>,
    open: Vec<&'a NodePort>,
}

/// What to close and open so that exactly the wanted ports are held.
fn plan<'a>(held: &BTreeSet<u16>, wanted: &'a BTreeMap<u16, NodePort>) -> Plan<'a> {
    Plan {
        close: held.iter().filter(|port| !wanted.contains_key(port)).copied().collect(),
        open: wanted
            .values()
            .filter(|node_port| !held.contains(&node_port.port))
            .collect(),
    }
}

#[derive(Clone)]
struct Acceptor {
    fabric: Fabric,
    places: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Acceptor {
    async fn accept(self, listener: TcpListener, port: u16, closed: CancellationToken) {
        let next = async || {
            let place = self.places.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (client, from) = listener.accept().await?;
            Ok::<_, io::Error>((place, client, from))
        };
        loop {
            let accepted = tokio::select! {
                () = closed.cancelled() => return,
                () = self.shutdown.cancelled() => return,
                accepted = next() => accepted,
            };
            match accepted {
                Ok((place, client, from)) => {
                    let (fabric, shutdown) = (self.fabric.clone(), self.shutdown.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = shutdown.cancelled() => {}
                            () = carry(fabric, client, from.ip(), port) => {}
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(port, %error, "node port: a connection was not accepted");
                    tokio::select! {
                        () = closed.cancelled() => return,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
    }
}

/// Joins a client of the host with the service.
async fn carry(fabric: Fabric, mut client: TcpStream, from: IpAddr, port: u16) {
    match fabric.dial_node_port(port, from).await {
        Ok(mut stream) => {
            // Neither failure concerns anybody but the two ends, which see it.
            let _ = client.set_nodelay(true);
            let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut stream, COPY_BYTES, COPY_BYTES).await;
        }
        Err(error) => {
            refuse(client, port, error);
        }
    }
}

/// Tells the client what a closed port would: a reset.
fn refuse(client: TcpStream, port: u16, error: NetError) {
    tracing::debug!(port, %error, "node port: no endpoint took the connection");
    let _ = client.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn after_the_plan_exactly_the_wanted_ports_are_held(
            held: BTreeSet<u16>,
            ports: BTreeSet<u16>,
        ) {
            let of = |port: u16| NodePort {
                namespace: "demo".into(), service: "web".into(), protocol: Protocol::Tcp, port,
            };
            let wanted: BTreeMap<u16, NodePort> = ports.iter().map(|port| (*port, of(*port))).collect();
            let plan = plan(&held, &wanted);
            let mut after: BTreeSet<u16> = held.difference(&plan.close).copied().collect();
            for node_port in plan.open {
                prop_assert!(after.insert(node_port.port), "an open port is not opened again");
            }
            prop_assert_eq!(after, ports);
        }
    }
}
