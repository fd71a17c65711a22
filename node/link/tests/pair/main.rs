//! Two and more nodes in one process, linked over the loopback by real certificates.

// The allowances for tests cover functions marked as tests only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod datagrams;
mod faults;
mod policies;
mod streams;
mod trust;
mod world;
