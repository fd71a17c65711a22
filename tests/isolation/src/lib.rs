//! The escape room: a cluster with a neighbour who only wants to serve, and guests that do their worst beside it.
//!
//! [`attacks`] is the table of them. The tests run all of it at once and look whether each was contained; `cargo run -p coracle-isolation` runs
//! one after the other, measures, and prints the table of docs/isolation.md.

// A test's helpers fail as tests do.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod attacks;
pub mod neighbour;
pub mod scene;

/// The cluster under test, as the end-to-end tests have it.
#[path = "../../e2e/world.rs"]
#[allow(dead_code)]
pub mod world;
