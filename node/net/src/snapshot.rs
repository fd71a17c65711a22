//! What the network is told of the cluster: services and where their endpoints are.
//!
//! A snapshot is complete and replaces the one before. The network never asks back: whoever watches the API builds the
//! next snapshot and hands it to [`crate::Fabric::update`].

use std::net::IpAddr;

use crate::Cidr;

/// Every service of the cluster at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The services, in any order; (namespace, name) is unique.
    pub services: Vec<Service>,
}

/// One service with its endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Namespace of the service.
    pub namespace: String,
    /// Name of the service.
    pub name: String,
    /// `spec.clusterIPs` as addresses; empty for headless and ExternalName services.
    pub cluster_ips: Vec<IpAddr>,
    /// Further addresses that lead to the service inside the network: `spec.externalIPs` and the addresses of load
    /// balancers elsewhere.
    pub external_ips: Vec<IpAddr>,
    /// True where `spec.clusterIP` is `None`: DNS then answers with the endpoints themselves.
    pub headless: bool,
    /// `spec.externalName` of an ExternalName service: DNS answers with this alias.
    pub external_name: Option<String>,
    /// `spec.publishNotReadyAddresses`: DNS also names endpoints that are not ready.
    pub publish_not_ready: bool,
    /// Seconds for which a client address keeps its endpoint (`sessionAffinity: ClientIP`); none means no affinity.
    pub affinity_timeout_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`: at the cluster addresses a pod is led to endpoints of its own node only.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`: who comes from outside is led to endpoints of this process's nodes only, and the
    /// endpoint sees the client's address.
    pub external_local: bool,
    /// How the service is shown at the ports of the host itself, where it is a LoadBalancer of this network.
    pub balancer: Option<Balancer>,
    /// The ports of the service.
    pub ports: Vec<ServicePort>,
    /// The endpoints of all slices of the service.
    pub endpoints: Vec<Endpoint>,
}

/// A service that wants its own ports at the host's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balancer {
    /// `loadBalancerSourceRanges`: only clients in these networks are let in; empty means all.
    pub source_ranges: Vec<Cidr>,
    /// The addresses that its status shows now.
    pub shown: Vec<IpAddr>,
}

/// One port of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// Name of the port; may be empty when it is the only one.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port at the service address.
    pub port: u16,
    /// Port on the host, for NodePort and LoadBalancer services.
    pub node_port: Option<u16>,
    /// `appProtocol`: what is spoken there, for who passes requests on.
    pub app_protocol: Option<String>,
}

/// One endpoint of a service: an address with the ports that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Address of the pod.
    pub address: IpAddr,
    /// `conditions.ready`: takes new connections.
    pub ready: bool,
    /// `conditions.serving` while terminating: takes connections only where no endpoint is ready.
    pub serving: bool,
    /// The node of the endpoint.
    pub node: Option<String>,
    /// Which clients it is for above others.
    pub topology: Topology,
    /// `hostname` of the endpoint, for stable DNS names under a headless service.
    pub hostname: Option<String>,
    /// The ports, matched with the service's by name and protocol.
    pub ports: Vec<EndpointPort>,
}

/// Where an endpoint is, and whom it is for above others: the hints of its slice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// The zone of its node.
    pub zone: Option<String>,
    /// Nodes whose clients are led here rather than elsewhere.
    pub for_nodes: Vec<String>,
    /// Zones whose clients are.
    pub for_zones: Vec<String>,
}

/// One port of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointPort {
    /// Name of the service port that this one serves.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port in the pod.
    pub port: u16,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Streams.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// The name that the API uses.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        }
    }
}
