//! The network as its users see it: pods, the host's side, DNS messages and node ports.

// Clippy spares test functions by itself, but not the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod backlog;
mod datagrams;
mod exposed;
mod host_ports;
mod host_services;
mod limits;
mod model;
mod names;
mod observe;
mod policies;
mod removal;
mod services;
mod streams;
mod world;
