//! The sockets of listeners: one a port, opened while a listener names it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::objects::Gateway;
use crate::ingress::{IngressError, Shared, acceptor, serve};

/// Sockets at a time: a gateway has few ports, and each socket is a file descriptor with up to 2,048 connections.
const SOCKETS: usize = 64;

/// The sockets; see the module page.
pub struct Sockets {
    shared: Shared,
    provider: Arc<CryptoProvider>,
    open: HashMap<u16, Open>,
    failed: HashMap<u16, String>,
    serving: TaskTracker,
}

struct Open {
    secure: bool,
    stop: CancellationToken,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Sockets {
    /// None yet.
    pub fn new(shared: Shared, provider: Arc<CryptoProvider>) -> Self {
        Self {
            shared,
            provider,
            open: HashMap::new(),
            failed: HashMap::new(),
            serving: TaskTracker::new(),
        }
    }

    /// Where they are.
    pub fn address(&self) -> IpAddr {
        self.shared.ip
    }

    /// Opens the sockets that these gateways want and closes all others; false where one could not be opened.
    pub async fn listen(&mut self, gateways: &[Arc<Gateway>]) -> bool {
        let wanted = wanted(gateways);
        self.failed.clear();
        self.open.retain(|port, open| wanted.get(port) == Some(&open.secure));
        for (port, secure) in wanted {
            if self.open.contains_key(&port) || self.shared.ports.contains(&port) {
                continue;
            }
            if let Err(error) = self.open(port, secure).await {
                let address = self.shared.ip;
                self.failed
                    .insert(port, format!("port {port} of {address} cannot be listened on: {error}"));
            }
        }
        self.failed.is_empty()
    }

    async fn open(&mut self, port: u16, secure: bool) -> Result<(), IngressError> {
        if self.open.len() >= SOCKETS {
            return Err(io::Error::other(format!("{SOCKETS} ports are in use by gateways already")).into());
        }
        let tls: Option<TlsAcceptor> = match secure {
            true => Some(acceptor(port, &self.shared, None, &self.provider)?),
            false => None,
        };
        let listener = TcpListener::bind(SocketAddr::new(self.shared.ip, port)).await?;
        let stop = CancellationToken::new();
        let proxy = self.shared.proxy(None, stop.clone());
        self.serving.spawn(serve(listener, tls, proxy, stop.clone()));
        self.open.insert(port, Open { secure, stop });
        Ok(())
    }

    /// Whether a port is listened on for what is spoken there.
    pub fn bound(&self, port: u16, secure: bool) -> Result<(), String> {
        let spoken = |secure| if secure { "HTTPS" } else { "HTTP" };
        if let Some(failed) = self.failed.get(&port) {
            return Err(failed.clone());
        }
        let [plain, tls] = self.shared.ports;
        let here = match self.open.get(&port) {
            Some(open) => open.secure,
            None if port == tls => true,
            None if port == plain => false,
            None => return Err(format!("port {port} is not listened on")),
        };
        match here == secure {
            true => Ok(()),
            false => Err(format!("port {port} is one for {}", spoken(here))),
        }
    }

    /// Closes all and waits until their connections have ended.
    pub async fn drain(mut self) {
        self.open.clear();
        self.serving.close();
        self.serving.wait().await;
    }
}

/// The ports that gateways want, and whether for TLS: what the oldest says of a port holds.
fn wanted(gateways: &[Arc<Gateway>]) -> BTreeMap<u16, bool> {
    let mut wanted = BTreeMap::new();
    for listener in gateways.iter().flat_map(|gateway| &gateway.spec.listeners) {
        let secure = match listener.protocol.as_str() {
            "HTTP" => false,
            "HTTPS" => true,
            _ => continue,
        };
        wanted.entry(listener.port).or_insert(secure);
    }
    wanted
}
