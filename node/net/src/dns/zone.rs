//! What the cluster's names mean, computed from the snapshot at the moment of the question. Pure.
//!
//! Follows the Kubernetes DNS specification 1.1.0: services, headless services with a record per ready endpoint, SRV for
//! named ports, ExternalName, pod records by address, and reverse records. Names compare without case; a name that
//! exists without the asked type gets an empty answer, any other "no such name", both with the zone's SOA.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::address::Cidr;
use crate::service::Index;
use crate::snapshot::{Endpoint, Protocol, Service};

/// Seconds for which a client may keep an answer: as CoreDNS, short, because endpoints come and go.
const TTL_SECONDS: u32 = 5;

/// The version of the specification that the zone follows.
const DNS_VERSION: &str = "1.1.0";

/// Aliases that are followed for one address: two services that name each other must not keep us.
const MAX_ALIASES: usize = 8;

/// Everything that answers depend on.
pub(crate) struct Zone<'a> {
    pub(crate) index: &'a Index,
    pub(crate) domain: &'a Name,
    pub(crate) dns_ip: IpAddr,
    pub(crate) pod_cidrs: &'a [Cidr],
    pub(crate) service_cidrs: &'a [Cidr],
    /// The namespace of the pod at an address.
    pub(crate) namespace_of_pod: &'a dyn Fn(IpAddr) -> Option<String>,
}

/// An answer, section by section.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    pub(crate) authoritative: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authority: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Answer {
    /// An answer that is only a code.
    pub(crate) fn code(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            answers: vec![],
            authority: vec![],
            additionals: vec![],
        }
    }
}

/// What stands at a name.
#[derive(Debug, Default)]
struct Node {
    addresses: Vec<IpAddr>,
    services: Vec<Target>,
    alias: Option<Name>,
    other: Vec<RData>,
}

/// What an SRV record points to.
#[derive(Debug)]
struct Target {
    name: Name,
    port: u16,
    addresses: Vec<IpAddr>,
}

impl Zone<'_> {
    /// Answers a question of class IN.
    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let lower = name.to_lowercase();
        if self.domain.zone_of(&lower) {
            return self.forward(name, &lower, kind);
        }
        match self.reverse_node(&lower) {
            Some((apex, node)) => self.finish(name, &apex, node, kind),
            None => Answer::code(ResponseCode::Refused),
        }
    }

    /// The addresses of an absolute name, with aliases followed; none where it does not exist.
    pub(crate) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let mut name = Name::from_utf8(name).ok()?.to_lowercase();
        name.set_fqdn(true);
        for _ in 0..MAX_ALIASES {
            if !self.domain.zone_of(&name) {
                return None;
            }
            let node = self.node(&self.labels(&name)?)?;
            match node.alias {
                Some(alias) => name = alias.to_lowercase(),
                None => return Some(node.addresses),
            }
        }
        None
    }

    fn forward(&self, asked: &Name, lower: &Name, kind: RecordType) -> Answer {
        let node = self.labels(lower).and_then(|labels| self.node(&labels));
        let alias = node.as_ref().and_then(|node| node.alias.clone());
        let mut answer = self.finish(asked, self.domain, node, kind);
        // An alias within the zone is followed, so that the client need not ask again.
        if let Some(mut target) = alias.filter(|_| matches!(kind, RecordType::A | RecordType::AAAA)) {
            for _ in 0..MAX_ALIASES {
                let lower = target.to_lowercase();
                if !self.domain.zone_of(&lower) {
                    break;
                }
                let Some(node) = self.labels(&lower).and_then(|labels| self.node(&labels)) else {
                    break;
                };
                answer.answers.extend(records(&target, &node, kind));
                match node.alias {
                    Some(next) => target = next,
                    None => break,
                }
            }
        }
        answer
    }

    fn finish(&self, asked: &Name, apex: &Name, node: Option<Node>, kind: RecordType) -> Answer {
        let exists = node.is_some();
        let node = node.unwrap_or_default();
        let answers = records(asked, &node, kind);
        let mut authority = Vec::new();
        if answers.is_empty() {
            authority.push(Record::from_rdata(apex.clone(), TTL_SECONDS, self.soa()));
        }
        let mut additionals = Vec::new();
        if !answers.is_empty() && kind == RecordType::SRV {
            let mut named: Vec<&Name> = Vec::new();
            for target in &node.services {
                // Several ports of one target share its address record.
                if !named.contains(&&target.name) {
                    named.push(&target.name);
                    additionals.extend(target.addresses.iter().map(|ip| address(&target.name, *ip)));
                }
            }
        }
        let code = if exists {
            ResponseCode::NoError
        } else {
            ResponseCode::NXDomain
        };
        Answer {
            code,
            authoritative: true,
            answers,
            authority,
            additionals,
        }
    }

    fn soa(&self) -> RData {
        let at = |label: &str| self.under(&[label]).unwrap_or_else(|| self.domain.clone());
        RData::SOA(SOA::new(
            at("ns"),
            at("hostmaster"),
            self.index.serial,
            7200,
            1800,
            86_400,
            TTL_SECONDS,
        ))
    }

    /// The labels of a lower-case name before the cluster domain, from the left.
    fn labels(&self, name: &Name) -> Option<Vec<String>> {
        let depth = usize::from(name.num_labels().checked_sub(self.domain.num_labels())?);
        name.iter()
            .take(depth)
            .map(|label| String::from_utf8(label.to_vec()).ok())
            .collect()
    }

    /// A name of these labels under the cluster domain.
    fn under(&self, labels: &[&str]) -> Option<Name> {
        Name::from_labels(labels.iter().map(|label| label.as_bytes()))
            .ok()?
            .append_domain(self.domain)
            .ok()
    }

    /// What stands at the name of these labels under the cluster domain.
    fn node(&self, labels: &[String]) -> Option<Node> {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match *labels.as_slice() {
            [] => Some(self.apex()),
            ["ns"] => Some(Node {
                addresses: vec![self.dns_ip],
                ..Node::default()
            }),
            ["dns-version"] => {
                let text = RData::TXT(TXT::new(vec![DNS_VERSION.to_owned()]));
                Some(Node {
                    other: vec![text],
                    ..Node::default()
                })
            }
            ["svc"] | ["pod"] => Some(Node::default()),
            [namespace, "svc"] => self.index.has_namespace(namespace).then(Node::default),
            [name, namespace, "svc"] => self.service_node(self.index.service(namespace, name)?),
            [label, name, namespace, "svc"] => {
                let service = self.index.service(namespace, name)?;
                if let Some(protocol) = protocol(label) {
                    let some = service.ports.iter().any(|port| port.protocol == protocol);
                    return some.then(Node::default);
                }
                self.endpoint_node(service, label)
            }
            [port, proto, name, namespace, "svc"] => {
                let service = self.index.service(namespace, name)?;
                self.port_node(service, port.strip_prefix('_')?, protocol(proto)?)
            }
            [dashed, _namespace, "pod"] => {
                let ip = undash(dashed)?;
                let ours = self.pod_cidrs.iter().any(|network| network.contains(ip));
                ours.then(|| Node {
                    addresses: vec![ip],
                    ..Node::default()
                })
            }
            _ => None,
        }
    }

    fn apex(&self) -> Node {
        let server = self.under(&["ns"]).map(|name| RData::NS(NS(name)));
        Node {
            other: server.into_iter().chain([self.soa()]).collect(),
            ..Node::default()
        }
    }

    fn service_node(&self, service: &Service) -> Option<Node> {
        if let Some(external) = &service.external_name {
            let mut alias = Name::from_utf8(external).ok()?;
            alias.set_fqdn(true);
            return Some(Node {
                alias: Some(alias),
                ..Node::default()
            });
        }
        let mut node = Node {
            addresses: service.cluster_ips.clone(),
            ..Node::default()
        };
        if service.headless {
            node.addresses = published(service).map(|endpoint| endpoint.address).collect();
            node.addresses.sort_unstable();
            node.addresses.dedup();
            if node.addresses.is_empty() {
                return None;
            }
        }
        for port in &service.ports {
            node.services.extend(self.targets(service, &port.name, port.protocol));
        }
        Some(node)
    }

    fn endpoint_node(&self, service: &Service, label: &str) -> Option<Node> {
        let here = published(service).filter(|endpoint| endpoint_label(endpoint) == label);
        let addresses: Vec<IpAddr> = here.map(|endpoint| endpoint.address).collect();
        (service.headless && !addresses.is_empty()).then(|| Node {
            addresses,
            ..Node::default()
        })
    }

    fn port_node(&self, service: &Service, port: &str, protocol: Protocol) -> Option<Node> {
        let services = self.targets(service, port, protocol);
        (!services.is_empty()).then(|| Node {
            services,
            ..Node::default()
        })
    }

    /// What the SRV records of a port point to: the service, or where it is headless its endpoints.
    fn targets(&self, service: &Service, port: &str, protocol: Protocol) -> Vec<Target> {
        let is_it = |candidate: &&crate::ServicePort| {
            candidate.name.eq_ignore_ascii_case(port) && candidate.protocol == protocol
        };
        let Some(port) = service.ports.iter().find(is_it) else {
            return Vec::new();
        };
        if !service.headless {
            let name = self.under(&[&service.name, &service.namespace, "svc"]);
            let target = |name| Target {
                name,
                port: port.port,
                addresses: service.cluster_ips.clone(),
            };
            return name.map(target).into_iter().collect();
        }
        let of_endpoint = |endpoint: &Endpoint| {
            let same = |candidate: &&crate::EndpointPort| candidate.name == port.name && candidate.protocol == protocol;
            let number = endpoint.ports.iter().find(same)?.port;
            let name = self.under(&[&endpoint_label(endpoint), &service.name, &service.namespace, "svc"])?;
            Some(Target {
                name,
                port: number,
                addresses: vec![endpoint.address],
            })
        };
        published(service).filter_map(of_endpoint).collect()
    }

    /// The apex of the reverse zone, and what stands at the reverse name of an address, where that is ours to say.
    fn reverse_node(&self, name: &Name) -> Option<(Name, Option<Node>)> {
        let network = name.parse_arpa_name().ok()?;
        let ip = network.addr();
        let target = self.name_of(ip);
        let ours = self
            .pod_cidrs
            .iter()
            .chain(self.service_cidrs)
            .any(|network| network.contains(ip));
        if !ours && target.is_none() {
            return None;
        }
        let apex = Name::from_ascii(if ip.is_ipv4() { "in-addr.arpa." } else { "ip6.arpa." }).ok()?;
        if network.prefix_len() != network.max_prefix_len() {
            return Some((apex, Some(Node::default())));
        }
        let node = target.map(|target| Node {
            other: vec![RData::PTR(PTR(target))],
            ..Node::default()
        });
        Some((apex, node))
    }

    fn name_of(&self, ip: IpAddr) -> Option<Name> {
        if let Some(service) = self.index.by_cluster_ip(ip) {
            return self.under(&[&service.name, &service.namespace, "svc"]);
        }
        if let Some((service, endpoint)) = self.index.by_endpoint(ip) {
            return self.under(&[&endpoint_label(endpoint), &service.name, &service.namespace, "svc"]);
        }
        let namespace = (self.namespace_of_pod)(ip)?;
        self.under(&[&dash(ip), &namespace, "pod"])
    }
}

/// The records of one type at a node; an alias answers for every type.
fn records(owner: &Name, node: &Node, kind: RecordType) -> Vec<Record> {
    let record = |data| Record::from_rdata(owner.clone(), TTL_SECONDS, data);
    if let Some(alias) = &node.alias {
        return vec![record(RData::CNAME(CNAME(alias.clone())))];
    }
    let addresses = node.addresses.iter().map(|ip| address(owner, *ip));
    let services = node
        .services
        .iter()
        .map(|target| record(RData::SRV(srv(target, node.services.len()))));
    let other = node.other.iter().cloned().map(record);
    let wanted = |record: &Record| kind == RecordType::ANY || record.record_type() == kind;
    addresses.chain(services).chain(other).filter(wanted).collect()
}

fn srv(target: &Target, among: usize) -> SRV {
    // Equal shares of 100, as CoreDNS gives them; never zero, which would mean "hardly ever".
    let weight = u16::try_from(100 / among.max(1)).unwrap_or(1).max(1);
    SRV::new(0, weight, target.port, target.name.clone())
}

fn address(owner: &Name, ip: IpAddr) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(owner.clone(), TTL_SECONDS, data)
}

fn protocol(label: &str) -> Option<Protocol> {
    match label {
        "_tcp" => Some(Protocol::Tcp),
        "_udp" => Some(Protocol::Udp),
        _ => None,
    }
}

/// The endpoints that DNS names.
fn published(service: &Service) -> impl Iterator<Item = &Endpoint> {
    service
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.ready || service.publish_not_ready)
}

/// The label of an endpoint under its service: its hostname, or its address.
fn endpoint_label(endpoint: &Endpoint) -> String {
    match &endpoint.hostname {
        Some(hostname) => hostname.to_ascii_lowercase(),
        None => dash(endpoint.address),
    }
}

/// An address as one label: `10-244-0-7`, `fd00--7`.
fn dash(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

fn undash(label: &str) -> Option<IpAddr> {
    let v4 = || label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    v4().or_else(v6)
}
