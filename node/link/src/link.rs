//! All connections of a node to others: dialled when they are wanted, used whoever dialled, replaced when they break.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_net::{Fabric, NetError, Outgoing, RemoteNode, Uplink};
use parking_lot::{Mutex, RwLock};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::identity::{Keys, serving_name};
use crate::session::{ENCRYPTED_BYTES, Far, Session};
use crate::wire::Datagram;

/// The pause after a node could not be reached, doubled up to [`PAUSE_MOST`]: connects meanwhile fail at once, as they would
/// at a host that is down.
const PAUSE_LEAST: Duration = Duration::from_millis(100);
/// The longest such pause: a node that comes back is not kept waiting for longer than a person would.
const PAUSE_MOST: Duration = Duration::from_secs(5);
/// How often a connect is tried when the link that stood turns out to be gone: once on that, once on a new one.
const ATTEMPTS: usize = 2;
/// Datagrams that may wait for a connection at a time; others are lost. The first ones of a resolver are worth it.
const WAITING_DATAGRAMS: usize = 64;

/// How patient a link is.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often a side that says nothing else says that it lives.
    pub heartbeat: Duration,
    /// After how long without a sign of life the other side is taken for gone, and what stood with it is broken.
    pub silence: Duration,
    /// How long a node may take to take a connection.
    pub connect: Duration,
}

impl Default for Timing {
    /// A partition is noticed after twenty seconds, well before the control plane takes the node for lost.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            silence: Duration::from_secs(20),
            connect: Duration::from_secs(10),
        }
    }
}

/// A node's way to others; clones share it.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    /// As who this node proves itself.
    name: String,
    keys: Arc<Keys>,
    fabric: Fabric,
    timing: Timing,
    runtime: Handle,
    /// Connections that stand, for who only looks.
    live: RwLock<HashMap<Arc<str>, Arc<Session>>>,
    /// Whoever changes a peer's connection holds its slot.
    slots: Mutex<HashMap<Arc<str>, Arc<tokio::sync::Mutex<Slot>>>>,
    datagrams: Arc<Semaphore>,
}

/// What came of dialling a node.
#[derive(Default)]
struct Slot {
    failed: Option<Failed>,
}

struct Failed {
    address: SocketAddr,
    until: Instant,
    pause: Duration,
}

impl Link {
    /// The links of the node that proves itself as `name`, on the current tokio runtime. What comes from others goes to the
    /// fabric; give that the link with [`Fabric::set_uplink`].
    #[must_use]
    pub fn new(name: &str, keys: Arc<Keys>, fabric: Fabric, timing: Timing) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            keys,
            fabric,
            timing,
            runtime: Handle::current(),
            live: RwLock::default(),
            slots: Mutex::default(),
            datagrams: Arc::new(Semaphore::new(WAITING_DATAGRAMS)),
        }))
    }

    /// The nodes to which a connection stands.
    #[must_use]
    pub fn peers(&self) -> Vec<String> {
        let live = self.0.live.read();
        let standing = live.iter().filter(|(_, session)| session.stands());
        standing.map(|(name, _)| name.to_string()).collect()
    }

    /// Ends all connections.
    pub fn close(&self) {
        for session in self.0.live.write().drain().map(|(_, session)| session) {
            session.closed.cancel();
        }
    }

    /// Serves a connection that another node has dialled, to its end.
    pub(crate) async fn accept<S>(&self, node: &str, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        if node == self.0.name {
            return tracing::warn!(node, "another node proves itself by the name of this one");
        }
        let node: Arc<str> = node.into();
        let session = Session::start(stream, false, self.0.far(&node));
        tracing::info!(%node, "linked: the node has dialled");
        self.0.adopt(&node, &session);
        session.ended().await;
    }
}

impl Inner {
    fn far(&self, node: &Arc<str>) -> Far {
        Far {
            node: node.clone(),
            fabric: self.fabric.clone(),
            timing: self.timing,
        }
    }

    fn standing(&self, node: &str) -> Option<Arc<Session>> {
        let found = self.live.read().get(node).cloned();
        found.filter(|session| session.stands())
    }

    /// Makes a connection the one to a node. Two that were dialled at once by both sides are told apart by the names: both
    /// sides keep the one that the lesser name has dialled, and the other ends when it is done.
    fn adopt(&self, node: &Arc<str>, session: &Arc<Session>) -> Arc<Session> {
        let mut live = self.live.write();
        let Some(before) = live.get(node).filter(|before| before.stands()).cloned() else {
            live.insert(node.clone(), session.clone());
            return session.clone();
        };
        let preferred = self.name.as_str() < &**node;
        if before.dialled == session.dialled {
            // Who dials anew has lost the other one.
            before.closed.cancel();
            live.insert(node.clone(), session.clone());
        } else if session.dialled == preferred {
            before.retire();
            live.insert(node.clone(), session.clone());
        } else {
            session.retire();
            return before;
        }
        session.clone()
    }

    /// The connection to a node, dialled if there is none.
    async fn session(&self, node: &RemoteNode) -> Result<Arc<Session>, NetError> {
        if let Some(session) = self.standing(&node.name) {
            return Ok(session);
        }
        let name: Arc<str> = node.name.as_str().into();
        let slot = self.slots.lock().entry(name.clone()).or_default().clone();
        let mut slot = slot.lock().await;
        // Others may have dialled meanwhile, or failed to.
        if let Some(session) = self.standing(&node.name) {
            return Ok(session);
        }
        let failed = slot.failed.take().filter(|failed| failed.address == node.address);
        if let Some(failed) = &failed
            && Instant::now() < failed.until
        {
            slot.failed = Some(Failed { ..*failed });
            return Err(NetError::HostUnreachable);
        }
        match tokio::time::timeout(self.timing.connect, self.dial(&name, node.address)).await {
            Ok(Ok(session)) => {
                tracing::info!(node = %name, address = %node.address, "linked");
                Ok(self.adopt(&name, &session))
            }
            other => {
                let why = match other {
                    Ok(Err(error)) => error.to_string(),
                    _ => "no answer in time".to_owned(),
                };
                tracing::warn!(node = %name, address = %node.address, "the node cannot be reached: {why}");
                let pause = failed.map_or(PAUSE_LEAST, |failed| (failed.pause * 2).min(PAUSE_MOST));
                slot.failed = Some(Failed {
                    address: node.address,
                    until: Instant::now() + pause,
                    pause,
                });
                Err(NetError::HostUnreachable)
            }
        }
    }

    async fn dial(&self, node: &Arc<str>, address: SocketAddr) -> std::io::Result<Arc<Session>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(serving_name(node)).map_err(std::io::Error::other)?;
        let mut stream = TlsConnector::from(self.keys.client()).connect(name, stream).await?;
        stream.get_mut().1.set_buffer_limit(Some(ENCRYPTED_BYTES));
        Ok(Session::start(stream, true, self.far(node)))
    }
}

impl Uplink for Link {
    fn connect(&self, outgoing: Outgoing) {
        let inner = self.0.clone();
        self.0.runtime.spawn(async move {
            let mut outgoing = outgoing;
            for _ in 0..ATTEMPTS {
                match inner.session(&outgoing.node).await {
                    Ok(session) => match session.carry(outgoing).await {
                        Ok(()) => return,
                        Err(unanswered) => outgoing = unanswered,
                    },
                    Err(error) => return drop(outgoing.answer(Err(error))),
                }
            }
            drop(outgoing.answer(Err(NetError::HostUnreachable)));
        });
    }

    fn send(&self, node: &RemoteNode, from: SocketAddr, to: SocketAddr, data: Bytes) {
        let datagram = Datagram { from, to, data };
        if let Some(session) = self.0.standing(&node.name) {
            return session.send(datagram);
        }
        let Ok(place) = self.0.datagrams.clone().try_acquire_owned() else {
            return;
        };
        let (inner, node) = (self.0.clone(), node.clone());
        self.0.runtime.spawn(async move {
            if let Ok(session) = inner.session(&node).await {
                session.send(datagram);
            }
            drop(place);
        });
    }
}
