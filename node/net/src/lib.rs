//! The pod network, all in user space: a loopback and an address per pod, services, DNS and node ports.
//!
//! Streams and datagrams between pods are queues in memory. The network is told a [`Snapshot`] of the services and asks
//! nobody; a service address becomes an endpoint once, when a connection is made. It never opens a host socket for a
//! guest: the only host sockets are the node ports' and the DNS listeners, which the operator asked for.

mod account;
mod error;
mod fabric;
mod pod;
mod snapshot;
mod skeleton;

pub use account::{MAX_SOCKETS_PER_POD, MemoryCharge, SOCKET_BYTES, SocketSlot};
pub use error::NetError;
pub use fabric::{Cidr, Fabric, FabricConfig};
pub use pod::{PodIdentity, PodNet};
pub use snapshot::{Endpoint, EndpointPort, Protocol, Service, ServicePort, Snapshot};
pub use skeleton::*;
