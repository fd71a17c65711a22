//! A snapshot, indexed by what connections and DNS ask for. Built once per change and then only read.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::Balancer;
use crate::fabric::Reach;
use crate::snapshot::{Endpoint, Protocol, Service, ServicePort, Snapshot};

/// One service port with the endpoints that take its connections.
#[derive(Debug)]
pub(crate) struct Backend {
    endpoints: Vec<SocketAddr>,
    /// Each node's own endpoints, where its pods are led to no others.
    by_node: Option<HashMap<String, Vec<SocketAddr>>>,
    /// Those that clients of a node or a zone are led to rather than to others.
    near: Option<Near>,
    affinity: Option<Duration>,
    balancer: Arc<Balancer>,
    /// Whether who comes from outside shows its own address.
    pub(crate) shows_client: bool,
}

/// The ready endpoints by the nodes and zones that they are for.
#[derive(Debug, Default)]
struct Near {
    nodes: HashMap<String, Vec<SocketAddr>>,
    /// Empty where an endpoint is for no zone: a zone's own would get the clients of all the others then.
    zones: HashMap<String, Vec<SocketAddr>>,
}

impl Backend {
    /// An endpoint for a client, which may be a pod of a node in a zone. The host itself belongs to all nodes of the
    /// process. What is near is only preferred: where nothing of it can be used, all endpoints are asked.
    pub(crate) fn pick(
        &self,
        client: IpAddr,
        (node, zone): (Option<&str>, Option<&str>),
        usable: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let pick = |endpoints: &Vec<SocketAddr>| {
            self.balancer
                .pick(endpoints, client, self.affinity, Instant::now(), &usable)
        };
        if let (Some(by_node), Some(node)) = (&self.by_node, node) {
            return pick(by_node.get(node)?);
        }
        let near = self.near.as_ref();
        let of_node = || pick(near?.nodes.get(node?)?);
        let of_zone = || pick(near?.zones.get(zone?)?);
        of_node().or_else(of_zone).or_else(|| pick(&self.endpoints))
    }

    /// Which endpoints are for who comes from outside: who is to see the client's own address is on the client's way in.
    pub(crate) fn reach(&self) -> Reach {
        match self.shows_client {
            true => Reach::Here,
            false => Reach::All,
        }
    }

    /// Whether the client's node matters.
    pub(crate) fn asks_node(&self) -> bool {
        self.by_node.is_some() || self.near.is_some()
    }

    pub(crate) fn serves(&self, endpoint: SocketAddr) -> bool {
        let nodes = self.by_node.iter().flat_map(HashMap::values);
        nodes.chain([&self.endpoints]).any(|all| all.contains(&endpoint))
    }
}

/// Why somebody wants a port of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExposedAs {
    /// It is the node port of a service.
    NodePort,
    /// It is the service's own port, of a LoadBalancer.
    Balancer,
    /// It is a host port of a pod.
    HostPort {
        /// The pod's uid.
        uid: String,
        /// The one address of the host at which it is wanted; without one it is wherever the node listens.
        ip: Option<IpAddr>,
    },
}

impl ExposedAs {
    /// Whose the port is: a service's or a pod's.
    pub(crate) fn owner(&self) -> &'static str {
        match self {
            Self::NodePort | Self::Balancer => "service",
            Self::HostPort { .. } => "pod",
        }
    }
}

/// A port of the host that leads, or is to lead, to a service or a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExposedPort {
    /// Why.
    pub exposed_as: ExposedAs,
    /// Namespace of the service or pod.
    pub namespace: String,
    /// Name of the service or pod.
    pub name: String,
    /// Transport protocol, at the host and behind it.
    pub protocol: Protocol,
    /// The port of the host.
    pub port: u16,
    /// The port of the service or pod.
    pub target_port: u16,
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
    /// The zones of nodes, as far as an endpoint of some service tells them.
    zones: HashMap<String, String>,
    external_ips: HashSet<IpAddr>,
    pub(crate) exposed: Vec<ExposedPort>,
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
            for endpoint in &service.endpoints {
                if let (Some(node), Some(zone)) = (&endpoint.node, &endpoint.topology.zone)
                    && !index.zones.contains_key(node)
                {
                    index.zones.insert(node.clone(), zone.clone());
                }
            }
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
        let affinity = service.affinity_timeout_seconds;
        let backend = |by_node| {
            Arc::new(Backend {
                endpoints: endpoints_of(service, port, |_| true),
                by_node,
                near: near(service, port),
                affinity: affinity.map(|seconds| Duration::from_secs(seconds.into())),
                balancer: balancer.clone(),
                shows_client: service.external_local,
            })
        };
        let outside = backend(None);
        let inside = match service.internal_local {
            true => backend(Some(by_node(service, port))),
            false => outside.clone(),
        };
        for (ips, backend) in [(&service.cluster_ips, &inside), (&service.external_ips, &outside)] {
            for ip in ips {
                self.by_address.insert((*ip, port.port, port.protocol), backend.clone());
            }
        }
        let exposed = |exposed_as, number| ExposedPort {
            exposed_as,
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            protocol: port.protocol,
            port: number,
            target_port: port.port,
        };
        if let Some(node_port) = port.node_port.filter(|port| *port != 0) {
            self.by_node_port.insert((node_port, port.protocol), outside.clone());
            self.exposed.push(exposed(ExposedAs::NodePort, node_port));
        }
        if service.balancer.is_some() {
            self.exposed.push(exposed(ExposedAs::Balancer, port.port));
        }
        let of_name = self.backends.entry(service.namespace.clone()).or_default();
        of_name.entry(service.name.clone()).or_default().insert(key, outside);
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.snapshot.services.get(*self.by_name.get(namespace)?.get(name)?)
    }

    /// The zone of a node.
    pub(crate) fn zone(&self, node: &str) -> Option<&str> {
        self.zones.get(node).map(String::as_str)
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

/// The addresses that take connections to a service port, of those that `among` chooses: the ready endpoints, or where
/// there is none those that still serve while they terminate. An endpoint is never a loopback address: that would be the
/// caller's own.
fn endpoints_of(service: &Service, port: &ServicePort, among: impl Fn(&Endpoint) -> bool) -> Vec<SocketAddr> {
    let select = |takes: fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
        let takers = service
            .endpoints
            .iter()
            .filter(|endpoint| among(endpoint) && takes(endpoint) && !endpoint.address.is_loopback());
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

/// The ready endpoints by whom they are for; none where the service prefers nothing.
fn near(service: &Service, port: &ServicePort) -> Option<Near> {
    let mut near = Near::default();
    let ready = || service.endpoints.iter().filter(|endpoint| endpoint.ready);
    let of = |chosen: &Endpoint| endpoints_of(service, port, |endpoint| endpoint == chosen);
    let zoned = ready().all(|endpoint| !endpoint.topology.for_zones.is_empty());
    for endpoint in ready() {
        let topology = &endpoint.topology;
        for node in &topology.for_nodes {
            near.nodes.entry(node.clone()).or_default().extend(of(endpoint));
        }
        for zone in topology.for_zones.iter().filter(|_| zoned) {
            near.zones.entry(zone.clone()).or_default().extend(of(endpoint));
        }
    }
    (!near.nodes.is_empty() || !near.zones.is_empty()).then_some(near)
}

/// The same for each node with endpoints.
fn by_node(service: &Service, port: &ServicePort) -> HashMap<String, Vec<SocketAddr>> {
    let nodes: HashSet<&String> = service.endpoints.iter().filter_map(|e| e.node.as_ref()).collect();
    let of_node = |node: &String| endpoints_of(service, port, |endpoint| endpoint.node.as_ref() == Some(node));
    nodes.into_iter().map(|node| (node.clone(), of_node(node))).collect()
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
            node: None,
            topology: crate::Topology::default(),
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
            endpoints_of(&service, &service.ports[port], |_| true)
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
            endpoints_of(&service, &service.ports[0], |_| true),
            ["10.244.0.2:80".parse().unwrap()]
        );
    }

    #[test]
    fn a_local_service_leads_each_node_to_its_own() {
        let on = |node: &str, endpoint: Endpoint| Endpoint {
            node: Some(node.to_owned()),
            ..endpoint
        };
        let mut service = web(vec![
            on("a", endpoint(1, true, true, &[("http", 80)])),
            on("b", endpoint(2, false, true, &[("http", 80)])),
            on("c", endpoint(3, false, false, &[("http", 80)])),
        ]);
        service.internal_local = true;
        let index = index(service, &Index::default());
        let client = IpAddr::from([10, 244, 0, 9]);
        let inside = index
            .at_address("10.96.0.20:80".parse().unwrap(), Protocol::Tcp)
            .unwrap();
        let from = |node| inside.pick(client, (node, None), |_| true).map(|at| at.to_string());
        assert_eq!(from(Some("a")).as_deref(), Some("10.244.0.1:80"));
        assert_eq!(
            from(Some("b")).as_deref(),
            Some("10.244.0.2:80"),
            "it still serves, and is the only one there"
        );
        assert_eq!(from(Some("c")), None);
        assert_eq!(from(Some("d")), None);
        assert_eq!(from(None).as_deref(), Some("10.244.0.1:80"));
        // At a node port all endpoints stand, whoever asks.
        let outside = index.at_node_port(30080, Protocol::Tcp).unwrap();
        assert_eq!(
            outside.pick(client, (Some("d"), None), |_| true).unwrap().to_string(),
            "10.244.0.1:80"
        );
    }

    #[test]
    fn clients_are_led_to_what_is_near_while_that_can_be_used() {
        let on = |last: u8, node: &str, zone: &str, for_nodes: &[&str], for_zones: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            Endpoint {
                node: Some(node.to_owned()),
                topology: crate::Topology {
                    zone: Some(zone.to_owned()),
                    for_nodes: owned(for_nodes),
                    for_zones: owned(for_zones),
                },
                ..endpoint(last, true, true, &[("http", 80)])
            }
        };
        let built = |endpoints: Vec<Endpoint>| index(web(endpoints), &Index::default());
        let client = IpAddr::from([10, 244, 0, 9]);
        let picks = |index: &Index, node: &str, dead: u8| {
            let backend = index
                .at_address("10.96.0.20:80".parse().unwrap(), Protocol::Tcp)
                .unwrap();
            let from = (Some(node), index.zone(node));
            let dead = IpAddr::from([10, 244, 0, dead]);
            let picked = (0..6).filter_map(|_| backend.pick(client, from, |at| at.ip() != dead));
            let picked: std::collections::BTreeSet<String> = picked.map(|at| at.ip().to_string()).collect();
            picked
                .into_iter()
                .map(|ip| ip.replace("10.244.0.", ""))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let zones = built(vec![
            on(1, "a", "east", &[], &["east"]),
            on(2, "b", "east", &[], &["east"]),
            on(3, "c", "west", &[], &["west"]),
        ]);
        assert_eq!(picks(&zones, "a", 0), "1 2");
        assert_eq!(picks(&zones, "c", 0), "3");
        assert_eq!(picks(&zones, "c", 3), "1 2", "what is near is only preferred");
        assert_eq!(picks(&zones, "unknown", 0), "1 2 3");
        let nodes = built(vec![
            on(1, "a", "east", &["a"], &["east"]),
            on(2, "b", "east", &["b"], &["east"]),
        ]);
        assert_eq!(picks(&nodes, "a", 0), "1");
        assert_eq!(picks(&nodes, "a", 1), "2");
        let unsure = built(vec![on(1, "a", "east", &[], &["east"]), on(2, "b", "west", &[], &[])]);
        assert_eq!(picks(&unsure, "a", 0), "1 2", "not all say whom they are for");
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
                .pick(client, (None, None), |_| true)
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
        assert_eq!(index.exposed.len(), 1);
    }
}
