//! A snapshot, indexed by what connections and DNS ask for. Built once per change and then only read.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::Balancer;
use crate::snapshot::{Endpoint, Protocol, Service, ServicePort, Snapshot};

/// One service port with the endpoints that take its connections.
#[derive(Debug)]
pub(crate) struct Backend {
    endpoints: Vec<SocketAddr>,
    affinity: Option<Duration>,
    balancer: Arc<Balancer>,
}

impl Backend {
    pub(crate) fn pick(&self, client: IpAddr, usable: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
        self.balancer
            .pick(&self.endpoints, client, self.affinity, Instant::now(), usable)
    }

    pub(crate) fn serves(&self, endpoint: SocketAddr) -> bool {
        self.endpoints.contains(&endpoint)
    }
}

/// A host port that a service asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePort {
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

type ByName<T> = HashMap<String, HashMap<String, T>>;

/// The index; see the module page.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Counts the snapshots, for the serial number of the DNS zone.
    pub(crate) serial: u32,
    pub(crate) snapshot: Arc<Snapshot>,
    by_name: ByName<usize>,
    by_address: HashMap<(IpAddr, u16, Protocol), Arc<Backend>>,
    by_node_port: HashMap<(u16, Protocol), Arc<Backend>>,
    by_ip: HashMap<IpAddr, usize>,
    backends: ByName<HashMap<(u16, Protocol), Arc<Backend>>>,
    /// Services with an endpoint at this address that DNS names one by one.
    by_headless_endpoint: HashMap<IpAddr, (usize, usize)>,
    external_ips: HashSet<IpAddr>,
    pub(crate) node_ports: Vec<NodePort>,
}

impl Index {
    /// Indexes `snapshot`; turns and sessions go on from `before`.
    pub(crate) fn build(snapshot: Arc<Snapshot>, before: &Index) -> Self {
        let mut index = Index {
            serial: before.serial.wrapping_add(1),
            ..Index::default()
        };
        for (at, service) in snapshot.services.iter().enumerate() {
            index
                .by_name
                .entry(service.namespace.clone())
                .or_default()
                .insert(service.name.clone(), at);
            for ip in &service.cluster_ips {
                index.by_ip.insert(*ip, at);
            }
            index.external_ips.extend(&service.external_ips);
            if service.headless {
                for (number, endpoint) in service.endpoints.iter().enumerate() {
                    index.by_headless_endpoint.insert(endpoint.address, (at, number));
                }
            }
            for port in &service.ports {
                index.add_port(service, port, before);
            }
        }
        index.snapshot = snapshot;
        index
    }

    fn add_port(&mut self, service: &Service, port: &ServicePort, before: &Index) {
        let key = (port.port, port.protocol);
        let balancer = before
            .backend(&service.namespace, &service.name, port.port, port.protocol)
            .map_or_else(Arc::default, |backend| backend.balancer.clone());
        let backend = Arc::new(Backend {
            endpoints: endpoints_of(service, port),
            affinity: service
                .affinity_timeout_seconds
                .map(|seconds| Duration::from_secs(seconds.into())),
            balancer,
        });
        for ip in service.cluster_ips.iter().chain(&service.external_ips) {
            self.by_address.insert((*ip, port.port, port.protocol), backend.clone());
        }
        if let Some(node_port) = port.node_port.filter(|port| *port != 0) {
            self.by_node_port.insert((node_port, port.protocol), backend.clone());
            self.node_ports.push(NodePort {
                namespace: service.namespace.clone(),
                service: service.name.clone(),
                protocol: port.protocol,
                port: node_port,
            });
        }
        let of_name = self.backends.entry(service.namespace.clone()).or_default();
        of_name.entry(service.name.clone()).or_default().insert(key, backend);
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.snapshot.services.get(*self.by_name.get(namespace)?.get(name)?)
    }

    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        self.by_name.contains_key(namespace)
    }

    /// The port of a service by its number.
    pub(crate) fn backend(&self, namespace: &str, name: &str, port: u16, protocol: Protocol) -> Option<&Arc<Backend>> {
        self.backends.get(namespace)?.get(name)?.get(&(port, protocol))
    }

    /// Whether some service has this address, at whatever port.
    pub(crate) fn has_address(&self, ip: IpAddr) -> bool {
        self.by_ip.contains_key(&ip) || self.external_ips.contains(&ip)
    }

    /// The service port at an address.
    pub(crate) fn at_address(&self, at: SocketAddr, protocol: Protocol) -> Option<&Arc<Backend>> {
        self.by_address.get(&(at.ip(), at.port(), protocol))
    }

    /// The service port at a node port.
    pub(crate) fn at_node_port(&self, port: u16, protocol: Protocol) -> Option<&Arc<Backend>> {
        self.by_node_port.get(&(port, protocol))
    }

    /// The service that has a cluster address.
    pub(crate) fn by_cluster_ip(&self, ip: IpAddr) -> Option<&Service> {
        self.snapshot.services.get(*self.by_ip.get(&ip)?)
    }

    /// The headless service, and the endpoint of it, at an address.
    pub(crate) fn by_endpoint(&self, ip: IpAddr) -> Option<(&Service, &Endpoint)> {
        let (service, endpoint) = self.by_headless_endpoint.get(&ip)?;
        let service = self.snapshot.services.get(*service)?;
        Some((service, service.endpoints.get(*endpoint)?))
    }
}

/// The addresses that take connections to a service port: the ready endpoints, or where there is none those that still
/// serve while they terminate. An endpoint is never a loopback address: that would be the caller's own.
fn endpoints_of(service: &Service, port: &ServicePort) -> Vec<SocketAddr> {
    let select = |takes: fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
        let takers = service
            .endpoints
            .iter()
            .filter(|endpoint| takes(endpoint) && !endpoint.address.is_loopback());
        takers
            .filter_map(|endpoint| {
                let same = |candidate: &&crate::EndpointPort| {
                    candidate.name == port.name && candidate.protocol == port.protocol
                };
                let target = endpoint.ports.iter().find(same)?;
                Some(SocketAddr::new(endpoint.address, target.port))
            })
            .collect()
    };
    let ready = select(|endpoint| endpoint.ready);
    if ready.is_empty() {
        select(|endpoint| endpoint.serving)
    } else {
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EndpointPort;

    fn endpoint(last: u8, ready: bool, serving: bool, ports: &[(&str, u16)]) -> Endpoint {
        Endpoint {
            address: IpAddr::from([10, 244, 0, last]),
            ready,
            serving,
            hostname: None,
            ports: ports
                .iter()
                .map(|(name, port)| EndpointPort {
                    name: (*name).to_owned(),
                    protocol: Protocol::Tcp,
                    port: *port,
                })
                .collect(),
        }
    }

    fn web(endpoints: Vec<Endpoint>) -> Service {
        Service {
            namespace: "demo".into(),
            name: "web".into(),
            cluster_ips: vec![IpAddr::from([10, 96, 0, 20])],
            ports: vec![
                ServicePort {
                    name: "http".into(),
                    port: 80,
                    node_port: Some(30080),
                    ..ServicePort::default()
                },
                ServicePort {
                    name: "admin".into(),
                    port: 90,
                    ..ServicePort::default()
                },
            ],
            endpoints,
            ..Service::default()
        }
    }

    fn index(service: Service, before: &Index) -> Index {
        Index::build(
            Arc::new(Snapshot {
                services: vec![service],
            }),
            before,
        )
    }

    #[test]
    fn ports_match_by_name_and_only_ready_endpoints_take_connections() {
        let service = web(vec![
            endpoint(1, true, true, &[("http", 8080), ("admin", 9090)]),
            endpoint(2, true, true, &[("http", 8081)]),
            endpoint(3, false, true, &[("http", 8080)]),
        ]);
        let targets = |port: usize| -> Vec<String> {
            endpoints_of(&service, &service.ports[port])
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(targets(0), ["10.244.0.1:8080", "10.244.0.2:8081"]);
        assert_eq!(targets(1), ["10.244.0.1:9090"]);
    }

    #[test]
    fn terminating_endpoints_serve_where_none_is_ready_and_loopback_never() {
        let mut loopback = endpoint(1, true, true, &[("http", 80)]);
        loopback.address = "127.0.0.1".parse().unwrap();
        let service = web(vec![
            loopback,
            endpoint(2, false, true, &[("http", 80)]),
            endpoint(3, false, false, &[("http", 80)]),
        ]);
        assert_eq!(
            endpoints_of(&service, &service.ports[0]),
            ["10.244.0.2:80".parse().unwrap()]
        );
    }

    #[test]
    fn turns_go_on_across_snapshots() {
        let both = vec![
            endpoint(1, true, true, &[("http", 80)]),
            endpoint(2, true, true, &[("http", 80)]),
        ];
        let client = IpAddr::from([10, 244, 0, 9]);
        let first = index(web(both.clone()), &Index::default());
        let pick = |index: &Index| {
            index
                .backend("demo", "web", 80, Protocol::Tcp)
                .unwrap()
                .pick(client, |_| true)
        };
        let one = pick(&first);
        let second = index(web(both), &first);
        assert_ne!(pick(&second), one);
        assert_eq!(second.serial, 2);
    }

    #[test]
    fn a_port_is_found_by_address_and_by_node_port() {
        let index = index(web(vec![]), &Index::default());
        assert!(
            index
                .at_address("10.96.0.20:80".parse().unwrap(), Protocol::Tcp)
                .is_some()
        );
        assert!(
            index
                .at_address("10.96.0.20:80".parse().unwrap(), Protocol::Udp)
                .is_none()
        );
        assert!(
            index
                .at_address("10.96.0.20:81".parse().unwrap(), Protocol::Tcp)
                .is_none()
        );
        assert!(index.has_address(IpAddr::from([10, 96, 0, 20])));
        assert!(index.at_node_port(30080, Protocol::Tcp).is_some());
        assert_eq!(index.node_ports.len(), 1);
    }
}
