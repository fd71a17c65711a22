//! Ports of the host that pods want for themselves: what a container's `hostPort` says.
//!
//! A port is a pod's from when the pod is told to have it until the pod is gone. It leads to the pod from the host, at a socket
//! of [`crate::ExposedPorts`], and from pods, which reach it at the address of its node without one. Policies see the pod.

use std::net::{IpAddr, SocketAddr};

use crate::fabric::{Fabric, Inner};
use crate::{ExposedAs, ExposedPort, Protocol};

/// A port of the host that a pod wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The one address of the host at which it is wanted; without one it is wherever the node listens.
    pub ip: Option<IpAddr>,
    /// The port of the host.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The port of the pod.
    pub target_port: u16,
}

/// A port that a pod has asked for, and where it leads.
#[derive(Debug, Clone)]
pub(crate) struct Led {
    port: ExposedPort,
    to: SocketAddr,
}

impl Led {
    fn is_at(&self, at: SocketAddr, protocol: Protocol) -> bool {
        let ExposedAs::HostPort { ip, .. } = &self.port.exposed_as else {
            return false;
        };
        let here = ip.is_none_or(|ip| ip == at.ip());
        here && self.port.port == at.port() && self.port.protocol == protocol
    }

    fn is_of(&self, pod: &str) -> bool {
        matches!(&self.port.exposed_as, ExposedAs::HostPort { uid, .. } if uid == pod)
    }
}

impl Inner {
    /// Where a host port leads, at an address of this node or of another. Of two pods with the same one the earlier has it.
    pub(crate) fn host_port_at(&self, at: SocketAddr, protocol: Protocol) -> Option<SocketAddr> {
        if self.is_node(at.ip()) {
            let led = self.host_ports.borrow();
            return led.iter().find(|led| led.is_at(at, protocol)).map(|led| led.to);
        }
        self.elsewhere.borrow().host_ports.get(&(at, protocol)).copied()
    }

    /// Where a port of the host leads, if it is a pod's and the pod is still there.
    pub(crate) fn led_to(&self, port: &ExposedPort) -> Option<SocketAddr> {
        let led = self.host_ports.borrow();
        led.iter().find(|led| led.port == *port).map(|led| led.to)
    }

    /// The pod has no port of the host any more.
    pub(crate) fn forget_host_ports(&self, uid: &str) {
        self.host_ports.send_if_modified(|led| {
            let before = led.len();
            led.retain(|led| !led.is_of(uid));
            led.len() != before
        });
    }
}

impl Fabric {
    /// Gives a pod ports of the host, until it is removed. Without such a pod nothing happens.
    pub fn lead_host_ports(&self, uid: &str, ports: Vec<HostPort>) {
        let Some(pod) = self.pod_by_uid(uid) else { return };
        let Some(ip) = pod.ips().first().copied() else { return };
        let identity = pod.identity();
        let led = ports.into_iter().map(|wanted| Led {
            port: ExposedPort {
                exposed_as: ExposedAs::HostPort {
                    uid: uid.to_owned(),
                    ip: wanted.ip,
                },
                namespace: identity.namespace.clone(),
                name: identity.name.clone(),
                protocol: wanted.protocol,
                port: wanted.port,
                target_port: wanted.target_port,
            },
            to: SocketAddr::new(ip, wanted.target_port),
        });
        let mut led: Vec<Led> = led.collect();
        if !led.is_empty() {
            self.inner().host_ports.send_modify(|all| all.append(&mut led));
        }
    }

    /// The ports of the host that pods ask for.
    pub(crate) fn host_ports(&self) -> Vec<ExposedPort> {
        let led = self.inner().host_ports.borrow();
        led.iter().map(|led| led.port.clone()).collect()
    }
}
