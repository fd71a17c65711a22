//! The ports of one pod and one protocol: who is bound where, and which ports its clients show. Pure.
//!
//! Streams are found by connection and not by their four addresses, so a client's port is only what its peer sees. It is
//! still unique among the pod's live sockets, because servers use (address, port) as the name of a client.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::NetError;
use crate::address::{clash, receives};

/// The ports that a bind to port 0 and clients take, as on Linux.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;

/// Who is bound where; `T` is what receives.
#[derive(Debug)]
pub(crate) struct Ports<T> {
    bound: HashMap<u16, Vec<(IpAddr, Arc<T>)>>,
    clients: HashSet<u16>,
    next: u16,
}

impl<T> Default for Ports<T> {
    fn default() -> Self {
        Self {
            bound: HashMap::new(),
            clients: HashSet::new(),
            next: *EPHEMERAL.start(),
        }
    }
}

impl<T> Ports<T> {
    /// Binds `socket` at `addr` and says at which port, which is a free one where `addr` has port 0.
    pub(crate) fn bind(&mut self, addr: SocketAddr, socket: Arc<T>) -> Result<u16, NetError> {
        let port = match addr.port() {
            0 => self.free_port()?,
            port => port,
        };
        let here = self.bound.entry(port).or_default();
        if here.iter().any(|(ip, _)| clash(*ip, addr.ip())) {
            return Err(NetError::AddrInUse);
        }
        here.push((addr.ip(), socket));
        Ok(port)
    }

    /// Frees what is bound at exactly `addr`. The caller drops the result after unlocking.
    pub(crate) fn unbind(&mut self, addr: SocketAddr) -> Option<Arc<T>> {
        let here = self.bound.get_mut(&addr.port())?;
        let at = here.iter().position(|(ip, _)| *ip == addr.ip())?;
        let (_, socket) = here.swap_remove(at);
        if here.is_empty() {
            self.bound.remove(&addr.port());
        }
        Some(socket)
    }

    /// Who receives what is sent to `to`.
    pub(crate) fn find(&self, to: SocketAddr) -> Option<Arc<T>> {
        let here = self.bound.get(&to.port())?;
        here.iter()
            .find(|(ip, _)| receives(*ip, to.ip()))
            .map(|(_, socket)| socket.clone())
    }

    /// Takes a port for a client's end.
    pub(crate) fn take_client_port(&mut self) -> Result<u16, NetError> {
        let port = self.free_port()?;
        self.clients.insert(port);
        Ok(port)
    }

    pub(crate) fn free_client_port(&mut self, port: u16) {
        self.clients.remove(&port);
    }

    /// Unbinds everything.
    pub(crate) fn clear(&mut self) -> Vec<Arc<T>> {
        self.clients.clear();
        self.bound
            .drain()
            .flat_map(|(_, here)| here)
            .map(|(_, socket)| socket)
            .collect()
    }

    fn free_port(&mut self) -> Result<u16, NetError> {
        for _ in EPHEMERAL {
            let port = self.next;
            self.next = if port == *EPHEMERAL.end() {
                *EPHEMERAL.start()
            } else {
                port + 1
            };
            if !self.bound.contains_key(&port) && !self.clients.contains(&port) {
                return Ok(port);
            }
        }
        Err(NetError::AddrInUse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn free_ports_skip_what_is_taken_and_come_back() {
        let mut ports = Ports::default();
        let first = ports.bind(addr("0.0.0.0:0"), Arc::new(1)).unwrap();
        let client = ports.take_client_port().unwrap();
        assert_ne!(first, client);
        for _ in 2..EPHEMERAL.len() {
            ports.take_client_port().unwrap();
        }
        assert_eq!(ports.take_client_port(), Err(NetError::AddrInUse));
        ports.unbind(SocketAddr::new(addr("0.0.0.0:0").ip(), first)).unwrap();
        assert_eq!(ports.take_client_port(), Ok(first));
        ports.free_client_port(client);
        assert_eq!(ports.bind(addr("127.0.0.1:0"), Arc::new(2)), Ok(client));
    }

    #[test]
    fn the_receiver_is_the_one_bound_to_the_destination() {
        let mut ports = Ports::default();
        ports.bind(addr("127.0.0.1:80"), Arc::new("loopback")).unwrap();
        ports.bind(addr("10.0.0.1:80"), Arc::new("own")).unwrap();
        ports.bind(addr("[::]:81"), Arc::new("all")).unwrap();
        assert_eq!(ports.find(addr("127.0.0.1:80")).as_deref(), Some(&"loopback"));
        assert_eq!(ports.find(addr("10.0.0.1:80")).as_deref(), Some(&"own"));
        assert_eq!(ports.find(addr("10.0.0.1:81")).as_deref(), Some(&"all"));
        assert_eq!(ports.find(addr("127.0.0.2:80")), None);
    }
}
