//! Exposed ports: listeners on the host that follow the snapshot and lead into services, as node ports and as load
//! balancers, and that follow the pods of this process and lead to these, as host ports.
//!
//! The only way from the host's network into pods that opens by itself, and only at the address that the operator chose, or
//! for a pod that wants no more at a loopback address. A port that something else holds is tried again when what is wanted
//! changes, and now and then: nobody tells when it is free. What is open and what failed can be watched.

mod datagrams;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fabric::Fabric;
use crate::{ExposedAs, ExposedPort, NetError, Protocol};
use plan::{Asked, Place, plan};

/// Connections that all exposed ports carry at a time: each takes one of the process's file descriptors, of which the
/// rest of the node needs some too. Further clients wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 2048;

/// Bytes that are moved at a time in each direction of a connection.
const COPY_BYTES: usize = 64 * 1024;

/// Pause after a failed accept. It fails when the process is out of file descriptors, and at once again until something
/// else closes one: long enough not to burn a core meanwhile, short enough not to be noticed afterwards.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Between two tries to have a port that something else on the machine holds.
const RETRY: Duration = Duration::from_secs(2);

/// What became of the ports that services and pods ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposed {
    /// Those that listen.
    pub open: BTreeSet<ExposedPort>,
    /// Those that do not, and why in words for the user.
    pub failed: BTreeMap<ExposedPort, String>,
}

/// The listeners of exposed ports, before they run.
#[derive(Debug)]
pub struct ExposedPorts {
    fabric: Fabric,
    bind_ip: IpAddr,
    services: bool,
    beside: bool,
    state: watch::Sender<Exposed>,
}

impl ExposedPorts {
    /// Listeners at `bind_ip`, one for each port of the host that services and pods ask for.
    pub fn new(fabric: Fabric, bind_ip: IpAddr) -> Self {
        Self {
            fabric,
            bind_ip,
            services: true,
            beside: false,
            state: watch::Sender::default(),
        }
    }

    /// Leaves services to another process of this machine.
    #[must_use]
    pub fn for_pods_only(mut self) -> Self {
        self.services = false;
        self
    }

    /// Leaves other addresses than its own to other listeners of this network.
    #[must_use]
    pub fn beside_others(mut self) -> Self {
        self.beside = true;
        self
    }

    /// What became of the ports; each failure is logged as well, once for each reason.
    pub fn state(&self) -> watch::Receiver<Exposed> {
        self.state.subscribe()
    }

    /// Serves until `shutdown`, which also ends the connections.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut changes = self.fabric.changes();
        let mut pods = self.fabric.inner().host_ports.subscribe();
        let acceptor = Acceptor {
            fabric: self.fabric.clone(),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            shutdown: shutdown.clone(),
        };
        let mut open: BTreeMap<Place, Listening> = BTreeMap::new();
        loop {
            changes.borrow_and_update();
            pods.borrow_and_update();
            let held = open.iter().map(|(place, held)| (*place, held.port.clone())).collect();
            let (asked, astray) = self.asked();
            let mut plan = plan(&held, asked);
            plan.refused.extend(astray);
            for place in &plan.close {
                if let Some(held) = open.remove(place) {
                    held.close().await;
                }
            }
            let mut failed = plan.refused;
            let refused = failed.len();
            for asked in plan.open {
                match self.open(&asked, &acceptor).await {
                    Ok(listening) => {
                        open.insert(asked.place(), listening);
                    }
                    Err(message) => {
                        failed.insert(asked.port, message);
                    }
                }
            }
            let again = failed.len() > refused;
            self.tell(Exposed {
                open: open.values().map(|held| held.port.clone()).collect(),
                failed,
            });
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                changed = pods.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if again => {}
            }
        }
    }

    /// What is asked of these listeners, and what is asked of an address at which there are none.
    fn asked(&self) -> (Vec<Asked>, BTreeMap<ExposedPort, String>) {
        let services = self.services.then(|| self.fabric.exposed());
        let all = services.into_iter().flatten().chain(self.fabric.host_ports());
        let (mut asked, mut astray) = (Vec::new(), BTreeMap::new());
        for port in all {
            match self.address(&port) {
                Some(Ok(ip)) => asked.push(Asked { port, ip }),
                Some(Err(message)) => drop(astray.insert(port, message)),
                None => {}
            }
        }
        (asked, astray)
    }

    /// At which address a port is to listen; none where others see to that.
    fn address(&self, port: &ExposedPort) -> Option<Result<IpAddr, String>> {
        let ExposedAs::HostPort { ip: Some(ip), .. } = port.exposed_as else {
            return Some(Ok(self.bind_ip));
        };
        let config = self.fabric.config();
        if ip == self.bind_ip {
            Some(Ok(ip))
        } else if self.beside || config.node_ips.contains(&ip) {
            None
        } else if ip.is_loopback() {
            Some(Ok(ip))
        } else {
            let known: Vec<String> = [self.bind_ip]
                .iter()
                .chain(&config.node_ips)
                .map(IpAddr::to_string)
                .collect();
            let message = format!("{ip} is no address at which this node listens ({})", known.join(", "));
            Some(Err(message))
        }
    }

    async fn open(&self, asked: &Asked, acceptor: &Acceptor) -> Result<Listening, String> {
        let port = &asked.port;
        let at = SocketAddr::new(asked.ip, port.port);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => format!("{at} is in use by another program on this machine"),
            io::ErrorKind::PermissionDenied => format!("{at}: only a privileged user may listen on this port"),
            _ => format!("cannot listen on {at}: {error}"),
        };
        let closed = CancellationToken::new();
        let task = match port.protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(at).await.map_err(failed)?;
                tokio::spawn(acceptor.clone().accept(listener, port.clone(), closed.clone()))
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(at).await.map_err(failed)?;
                let (fabric, stop) = (self.fabric.clone(), acceptor.shutdown.clone());
                let (port, closed) = (port.clone(), closed.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = closed.cancelled() => {}
                        () = stop.cancelled() => {}
                        () = datagrams::carry(fabric, socket, port) => {}
                    }
                })
            }
        };
        tracing::debug!(%at, name = %port.name, namespace = %port.namespace, "exposed port open");
        Ok(Listening {
            port: port.clone(),
            closed: closed.drop_guard(),
            task,
        })
    }

    fn tell(&self, now: Exposed) {
        let before = self.state.borrow().clone();
        for (port, message) in &now.failed {
            if before.failed.get(port) != Some(message) {
                tracing::warn!(namespace = %port.namespace, name = %port.name, port = port.port, "not exposed: {message}");
            }
        }
        self.state.send_if_modified(|state| {
            let changed = *state != now;
            *state = now;
            changed
        });
    }
}

/// A port that listens; its socket is free again once it is closed.
struct Listening {
    port: ExposedPort,
    closed: DropGuard,
    task: JoinHandle<()>,
}

impl Listening {
    async fn close(self) {
        drop(self.closed);
        // A task that failed holds its socket as little as one that ended.
        let _ = self.task.await;
    }
}

#[derive(Clone)]
struct Acceptor {
    fabric: Fabric,
    places: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Acceptor {
    async fn accept(self, listener: TcpListener, port: ExposedPort, closed: CancellationToken) {
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
                    let (fabric, shutdown, port) = (self.fabric.clone(), self.shutdown.clone(), port.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = shutdown.cancelled() => {}
                            () = carry(fabric, client, from.ip(), &port) => {}
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(port = port.port, %error, "exposed port: a connection was not accepted");
                    tokio::select! {
                        () = closed.cancelled() => return,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
    }
}

/// Joins a client of the host with the service or pod.
async fn carry(fabric: Fabric, mut client: TcpStream, from: IpAddr, port: &ExposedPort) {
    match fabric.dial_exposed(port, from).await {
        Ok(mut stream) => {
            // Neither failure concerns anybody but the two ends, which see it.
            let _ = client.set_nodelay(true);
            let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut stream, COPY_BYTES, COPY_BYTES).await;
        }
        Err(error) => {
            refuse(client, port.port, error);
        }
    }
}

/// Tells the client what a closed port would: a reset.
fn refuse(client: TcpStream, port: u16, error: NetError) {
    tracing::debug!(port, %error, "exposed port: no endpoint took the connection");
    let _ = client.set_zero_linger();
}
