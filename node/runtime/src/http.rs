//! `wasi:http`: requests into a guest, and requests that a guest makes. Both go through the pod's network.

mod connections;
pub(crate) mod incoming;
pub(crate) mod outgoing;
pub(crate) mod tls;
pub(crate) mod weights;
