//! A whole server in memory, driven from the outside: through the chain in this process, and over TLS.

// The allowances for tests cover functions marked as tests only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod access;
mod admission;
mod aggregate;
mod apply;
mod audit;
mod certificates;
mod conversion;
mod custom;
mod encodings;
mod equivalent;
mod exec;
mod forward;
mod hostile;
mod kinds;
mod net;
mod parts;
mod patches;
mod policies;
mod presence;
mod proxy;
mod reads;
mod replay;
mod rights;
mod services;
mod tokens;
mod usage;
mod watching;
mod webhooks;
mod wire;
mod world;
mod writes;
