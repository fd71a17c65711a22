//! A pod whose TCP traffic goes through its sidecar, as service meshes want it.
//!
//! What the pod's containers connect to arrives at the sidecar's outbound port, and what others connect to at its inbound
//! port. The sidecar finds where a connection was meant to go as the local address of the socket that it accepts. Its own
//! sockets reach others directly; so does everything on the pod's loopback, and the node itself, so that probes judge the
//! containers and not the sidecar.

use std::net::SocketAddr;
use std::sync::Arc;

use super::PodNet;
use crate::account::SocketSlot;
use crate::address::loopback;

/// Where a pod's traffic goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The port of the pod's loopback at which the sidecar takes what the pod's containers connect to.
    pub outbound: Option<u16>,
    /// The port at which it takes what others connect to.
    pub inbound: Option<u16>,
}

impl PodNet {
    /// Sends the pod's traffic through its sidecar from now on, or no more; connections that exist stay.
    pub fn set_redirect(&self, redirect: Option<Redirect>) {
        self.redirect.store(redirect.map(Arc::new));
    }

    /// Where a connection of the pod goes in place of `to`.
    pub(super) fn outbound_sidecar(&self, slot: &SocketSlot, to: SocketAddr) -> Option<SocketAddr> {
        let port = self.redirect.load().as_ref()?.outbound?;
        let own = to.ip().is_loopback() || to.ip().is_unspecified() || self.ips.contains(&to.ip());
        let direct = own || slot.is_sidecar();
        (!direct).then(|| SocketAddr::new(loopback(to.ip()), port))
    }

    /// Where a connection to the pod arrives in place of `at`.
    pub(crate) fn inbound_at(&self, at: SocketAddr) -> SocketAddr {
        let redirect = self.redirect.load();
        let port = redirect.as_ref().and_then(|redirect| redirect.inbound);
        match port {
            Some(port) if !at.ip().is_loopback() => SocketAddr::new(at.ip(), port),
            _ => at,
        }
    }
}
