//! What the network is told of the cluster: services and where their endpoints are.
//!
//! A snapshot is complete and replaces the one before. The network never asks back: whoever watches the API builds the
//! next snapshot and hands it to [`crate::Fabric::update`].

use std::net::IpAddr;

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
    /// Further addresses that lead to the service inside the network: `spec.externalIPs` and load balancer addresses.
    pub external_ips: Vec<IpAddr>,
    /// True where `spec.clusterIP` is `None`: DNS then answers with the endpoints themselves.
    pub headless: bool,
    /// `spec.externalName` of an ExternalName service: DNS answers with this alias.
    pub external_name: Option<String>,
    /// `spec.publishNotReadyAddresses`: DNS also names endpoints that are not ready.
    pub publish_not_ready: bool,
    /// Seconds for which a client address keeps its endpoint (`sessionAffinity: ClientIP`); none means no affinity.
    pub affinity_timeout_seconds: Option<u32>,
    /// The ports of the service.
    pub ports: Vec<ServicePort>,
    /// The endpoints of all slices of the service.
    pub endpoints: Vec<Endpoint>,
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
    /// `hostname` of the endpoint, for stable DNS names under a headless service.
    pub hostname: Option<String>,
    /// The ports, matched with the service's by name and protocol.
    pub ports: Vec<EndpointPort>,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Streams.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}
