//! The pod network, all in user space: a loopback and an address per pod, services, DNS and node ports.
//!
//! Streams and datagrams between pods are queues in memory. The network is told a [`Snapshot`] of the services and asks
//! nobody; a service address becomes an endpoint once, when a connection is made, and then policies say whether it may be. It never opens a host socket for a
//! guest: the only host sockets are those of exposed ports and the DNS listeners, which the operator asked for.

// Under the model checker (see `sync`) there are locks in its models only, so the unit tests stay out.
#![cfg(not(all(interleavings, test)))]

mod account;
mod address;
mod balance;
pub mod capture;
mod connect;
mod datagram;
mod dns;
mod elsewhere;
mod error;
mod exposed;
mod fabric;
mod flows;
mod host;
mod host_ports;
mod labels;
mod listener;
mod pipe;
mod pod;
mod policy;
mod ports;
mod resolve;
mod service;
mod snapshot;
mod stream;
mod sync;
mod wakers;

pub use account::{MAX_SOCKETS_PER_POD, MemoryCharge, SOCKET_BYTES, SocketSlot};
pub use address::{Cidr, CidrError};
pub use connect::Connecting;
pub use datagram::{MAX_DATAGRAM_BYTES, UdpBinding};
pub use dns::{Dns, DnsError};
pub use elsewhere::{Elsewhere, Outgoing, RemoteNode, RemotePod, Uplink};
pub use error::NetError;
pub use exposed::{Exposed, ExposedPorts};
pub use fabric::{Fabric, FabricConfig, Picked};
pub use flows::{Direction, FlowCounts, FlowEvent, FlowRecord};
pub use host::HostService;
pub use host_ports::HostPort;
pub use labels::{LabelRequirement, LabelSelector, LabelValue, Labels};
pub use listener::{Binding, MAX_BACKLOG};
pub use pipe::{PIPE_CAPACITY, PIPE_FLOOR, TryRead};
pub use pod::{PodIdentity, PodNet, Redirect};
pub use policy::{NamedPort, NetworkPolicy, PodFacts, Policies, PolicyPeer, PolicyPort, PolicyRule, PortRange};
pub use resolve::DnsConfig;
pub use service::{ExposedAs, ExposedPort};
pub use snapshot::{Balancer, Endpoint, EndpointPort, Protocol, Service, ServicePort, Snapshot, Topology};
pub use stream::{Conn, Stream};
