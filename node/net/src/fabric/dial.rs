//! Connections from the host's side into the network: probes, port-forward, node ports, the API server's proxy.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Destination, Fabric, Inner, Reach};
use crate::address::canonical;
use crate::connect::Connecting;
use crate::listener::Incoming;
use crate::service::{Backend, ExposedAs, ExposedPort};
use crate::stream::{Conn, Link, Side};
use crate::sync::atomic::Ordering;
use crate::{NetError, Protocol, ServicePort, Stream};

impl Inner {
    pub(super) fn host_addr(&self, ip: IpAddr) -> SocketAddr {
        // Only what the pod sees as its peer's port: nothing is looked up by it.
        let port = self
            .next_host_port
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |port| {
                Some(if port >= 60_999 { 32_768 } else { port + 1 })
            });
        SocketAddr::new(ip, port.unwrap_or(32_768))
    }

    /// The service behind a port of the host, for a client that it lets in.
    pub(super) fn exposed_backend(&self, exposed: &ExposedPort, client: IpAddr) -> Result<Arc<Backend>, NetError> {
        let index = self.index.load();
        let (namespace, name) = (&exposed.namespace, &exposed.name);
        let service = index.service(namespace, name).ok_or(NetError::NameNotFound)?;
        let balancer = service
            .balancer
            .as_ref()
            .filter(|_| exposed.exposed_as == ExposedAs::Balancer);
        let ranges = balancer.map_or(&[][..], |balancer| &balancer.source_ranges);
        if !ranges.is_empty() && !ranges.iter().any(|range| range.contains(client)) {
            return Err(NetError::Denied);
        }
        let backend = index.backend(namespace, name, exposed.target_port, exposed.protocol);
        backend.cloned().ok_or(NetError::ConnectionRefused)
    }

    /// The pod behind a port of the host.
    pub(super) fn exposed_pod(&self, exposed: &ExposedPort) -> Result<Destination, NetError> {
        let at = self.led_to(exposed).ok_or(NetError::HostUnreachable)?;
        self.plain(at).ok_or(NetError::HostUnreachable)
    }

    /// Connects from the host, seen by the server as `local` and showing `peer` to the host; `redirected` through the
    /// pod's sidecar where it has that, as everything but what the node itself wants.
    fn connect(&self, destination: Destination, local: SocketAddr, peer: SocketAddr, redirected: bool) -> Connecting {
        let offer = || match destination {
            Destination::Pod(pod, at) => {
                let listener = pod.listener(if redirected { pod.inbound_at(at) } else { at })?;
                let link = Link::new(None, listener.account().clone());
                let conn = Conn::new(link.clone(), Side::Client, local, peer, None);
                pod.arrives(&link, local, at);
                let offer = listener.offer(Incoming::new(link, at, local));
                Ok(Connecting::offered(conn, offer, self.config.connect_timeout))
            }
            Destination::Far(node, at) => {
                let link = Link::new(None, None);
                let conn = Conn::new(link.clone(), Side::Client, local, peer, None);
                // Another node knows this one by its own address, whoever it speaks for.
                let from = SocketAddr::new(self.config.host_ip, local.port());
                let offer = self.carry(node, from, at, Conn::new(link, Side::Server, at, from, None));
                Ok(Connecting::offered(conn, offer, self.config.connect_timeout))
            }
            Destination::Host(service, _) => {
                let link = Link::new(None, None);
                let conn = Conn::new(link.clone(), Side::Client, local, peer, None);
                service.take_stream(Conn::new(link, Side::Server, peer, local, None).into())?;
                Ok(Connecting::done(Ok(conn)))
            }
        };
        offer().unwrap_or_else(|error| Connecting::done(Err(error)))
    }
}

/// An endpoint that a service has chosen for a connection of the host's side, before that is made.
pub struct Picked {
    destination: Destination,
    at: SocketAddr,
    /// What the connection shows as its peer: the host's own endpoints are hidden behind the host's address.
    peer: SocketAddr,
    source: SocketAddr,
}

impl Picked {
    /// The address of the endpoint.
    pub fn at(&self) -> SocketAddr {
        self.at
    }
}

impl Fabric {
    /// Connects from the host into the pod at `pod_ip`: to its loopback, as port-forward does, or to its own address, as
    /// probes do.
    ///
    /// # Errors
    /// [`NetError::HostUnreachable`] without such a pod, [`NetError::AddrNotAvailable`] for an address that is not the
    /// pod's, [`NetError::ConnectionRefused`], [`NetError::TimedOut`].
    pub async fn dial_pod(&self, pod_ip: IpAddr, to: SocketAddr) -> Result<Stream, NetError> {
        let pod = self.pod(pod_ip).ok_or(NetError::HostUnreachable)?;
        let to = canonical(to);
        if !to.ip().is_loopback() && !pod.ips().contains(&to.ip()) {
            return Err(NetError::AddrNotAvailable);
        }
        let source = if to.ip().is_loopback() {
            to.ip()
        } else {
            self.0.config.host_ip
        };
        let local = self.0.host_addr(source);
        self.0
            .connect(Destination::Pod(pod, to), local, to, false)
            .stream()
            .await
    }

    /// Connects from the host to a service port by its number.
    ///
    /// # Errors
    /// [`NetError::NameNotFound`] without such a service, [`NetError::ConnectionRefused`] without such a port or a ready
    /// endpoint, [`NetError::TimedOut`].
    pub async fn dial_service(&self, namespace: &str, name: &str, port: u16) -> Result<Stream, NetError> {
        let picked = self.pick_service(namespace, name, port)?;
        self.dial_picked(picked).await
    }

    /// The endpoint to which [`Fabric::dial_service`] would connect now: each call takes a turn. For who keeps connections
    /// to endpoints and still wants the service to choose among these for each request.
    ///
    /// # Errors
    /// [`NetError::NameNotFound`] without such a service, [`NetError::ConnectionRefused`] without such a port or a ready
    /// endpoint.
    pub fn pick_service(&self, namespace: &str, name: &str, port: u16) -> Result<Picked, NetError> {
        let index = self.0.index.load();
        index.service(namespace, name).ok_or(NetError::NameNotFound)?;
        let backend = index
            .backend(namespace, name, port, Protocol::Tcp)
            .ok_or(NetError::ConnectionRefused)?;
        self.pick_backend(backend, self.0.config.host_ip, port, Reach::All)
    }

    /// Connects to an endpoint that was picked.
    ///
    /// # Errors
    /// [`NetError::ConnectionRefused`], [`NetError::TimedOut`].
    pub async fn dial_picked(&self, picked: Picked) -> Result<Stream, NetError> {
        let connecting = self.0.connect(picked.destination, picked.source, picked.peer, true);
        connecting.stream().await
    }

    /// The TCP port of a service that `is_it` chooses.
    pub fn service_port(
        &self,
        namespace: &str,
        name: &str,
        is_it: impl Fn(&ServicePort) -> bool,
    ) -> Option<ServicePort> {
        let index = self.0.index.load();
        let mut ports = index.service(namespace, name)?.ports.iter();
        ports
            .find(|port| port.protocol == Protocol::Tcp && is_it(port))
            .cloned()
    }

    /// Connects from the host to the service or pod behind one of its ports, for a client at `client`.
    pub(crate) async fn dial_exposed(&self, exposed: &ExposedPort, client: IpAddr) -> Result<Stream, NetError> {
        let picked = match exposed.exposed_as {
            // Nothing stands between client and pod that would have to be seen in the client's place.
            ExposedAs::HostPort { .. } => self.picked(self.0.exposed_pod(exposed)?, client, exposed.port, true)?,
            _ => {
                let backend = self.0.exposed_backend(exposed, client)?;
                self.pick_backend(&backend, client, exposed.port, backend.reach())?
            }
        };
        self.dial_picked(picked).await
    }

    fn pick_backend(&self, backend: &Backend, client: IpAddr, port: u16, reach: Reach) -> Result<Picked, NetError> {
        let destination = self.0.pick(backend, client, (None, None), Protocol::Tcp, reach)?;
        self.picked(destination, client, port, backend.shows_client)
    }

    fn picked(&self, destination: Destination, client: IpAddr, port: u16, shows: bool) -> Result<Picked, NetError> {
        self.0.permit_outside(client, &destination, Protocol::Tcp)?;
        let (at, peer) = match &destination {
            Destination::Pod(_, at) | Destination::Far(_, at) => (*at, *at),
            Destination::Host(_, at) => (*at, SocketAddr::new(self.0.config.host_ip, port)),
        };
        // A loopback address would mean the pod itself.
        let source = match shows && !client.is_loopback() {
            true => client,
            false => self.0.config.host_ip,
        };
        Ok(Picked {
            destination,
            at,
            peer,
            source: self.0.host_addr(source),
        })
    }

    /// Connects from the host to a name or address of the cluster, such as `web.demo.svc`.
    ///
    /// # Errors
    /// [`NetError::NameNotFound`], [`NetError::ConnectionRefused`], [`NetError::TimedOut`], and the errors of a missing
    /// route; the host's own network is not tried.
    pub async fn dial(&self, host: &str, port: u16) -> Result<Stream, NetError> {
        let mut last = NetError::NameNotFound;
        for ip in self.host_lookup(host) {
            let to = SocketAddr::new(ip.to_canonical(), port);
            let source = self.0.config.host_ip;
            let connecting = self
                .0
                .route(None, source, to, Protocol::Tcp)
                .map(|destination| self.0.connect(destination, self.0.host_addr(source), to, true));
            match connecting {
                Ok(connecting) => match connecting.stream().await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                },
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Addresses of a name for the host's side: as given, or within the cluster domain.
    fn host_lookup(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(ip) = host.parse() {
            return vec![ip];
        }
        let within = format!("{}.{}.", host.trim_end_matches('.'), self.0.config.cluster_domain);
        self.0
            .addresses(host)
            .or_else(|| self.0.addresses(&within))
            .unwrap_or_default()
    }
}
