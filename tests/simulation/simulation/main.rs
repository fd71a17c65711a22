//! A whole cluster in paused time, over and over: the real API server, controllers, scheduler and simulated nodes, with
//! users who do everything at random, and with faults wherever two parts speak to each other.
//!
//! Each seed is a process of its own, so that it repeats itself: chance ([`chance`]), time ([`time`]) and the order of all
//! that happens follow from the seed. The laws ([`laws`]) judge every write; at the end the faults stop, and the cluster must
//! come to rest as its objects ask ([`settled`]). See docs/simulation.md.

// The allowances for tests cover functions marked as tests only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod autoscalers;
mod chance;
mod crons;
mod faults;
mod laws;
mod ledger;
mod load;
mod parts;
mod seeds;
mod server;
mod settled;
mod story;
mod time;
mod user;
mod volumes;
