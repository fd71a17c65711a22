//! The wire between nodes: one connection for each pair of nodes, secured on both sides, with many streams on it.
//!
//! [`Endpoint`] is the one port at which a node listens: what comes there says by ALPN whether it is another node or somebody
//! who wants the node's API. [`Link`] is the pod network's [`coracle_net::Uplink`]: it dials a node when the first stream is
//! wanted, uses one connection for both directions whoever dialled, and notices when the other side falls silent.
//!
//! A stream has its own window, so that a slow reader holds up nobody else. Datagrams are lost rather than waited for. Nobody
//! is believed who is not a node by its certificate, and a node only about its own addresses, which the pod network checks.

mod carry;
mod certificate;
mod endpoint;
mod identity;
mod link;
mod session;
mod wire;

pub use certificate::{Purpose, RequestError, Validity, authority_pin, node_of, request, validity};
pub use endpoint::{ApiHandler, Duplex, Endpoint};
pub use identity::{Credentials, KeyError, Keys, Peer, serving_name};
pub use link::{Link, Timing};
