//! Exposed ports: listeners on the host that follow the snapshot and lead into services, as node ports and as load
//! balancers.
//!
//! The only way from the host's network into pods that opens by itself, and only at the address that the operator chose.
//! A port that something else holds is tried again when the snapshot changes, and now and then: nobody tells when it is free. What
//! is open and what failed can be watched.

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
use crate::{ExposedPort, NetError, Protocol};
use plan::{Place, place, plan};

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

/// What became of the ports that services ask for.
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
    state: watch::Sender<Exposed>,
}

impl ExposedPorts {
    /// Listeners at `bind_ip`, one for each port of the host that services ask for.
    pub fn new(fabric: Fabric, bind_ip: IpAddr) -> Self {
        Self {
            fabric,
            bind_ip,
            state: watch::Sender::default(),
        }
    }

    /// What became of the ports; each failure is logged as well, once for each reason.
    pub fn state(&self) -> watch::Receiver<Exposed> {
        self.state.subscribe()
    }

    /// Serves until `shutdown`, which also ends the connections.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut changes = self.fabric.changes();
        let acceptor = Acceptor {
            fabric: self.fabric.clone(),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            shutdown: shutdown.clone(),
        };
        let mut open: BTreeMap<Place, Listening> = BTreeMap::new();
        loop {
            changes.borrow_and_update();
            let held = open.iter().map(|(place, held)| (*place, held.port.clone())).collect();
            let plan = plan(&held, self.fabric.exposed());
            for place in &plan.close {
                if let Some(held) = open.remove(place) {
                    held.close().await;
                }
            }
            let mut failed = plan.refused;
            let refused = failed.len();
            for port in plan.open {
                match self.open(&port, &acceptor).await {
                    Ok(listening) => {
                        open.insert(place(&port), listening);
                    }
                    Err(message) => {
                        failed.insert(port, message);
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
                () = tokio::time::sleep(RETRY), if again => {}
            }
        }
    }

    async fn open(&self, port: &ExposedPort, acceptor: &Acceptor) -> Result<Listening, String> {
        let at = SocketAddr::new(self.bind_ip, port.port);
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
        tracing::debug!(%at, service = %port.service, namespace = %port.namespace, "exposed port open");
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
                tracing::warn!(namespace = %port.namespace, service = %port.service, port = port.port, "not exposed: {message}");
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

/// Joins a client of the host with the service.
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
