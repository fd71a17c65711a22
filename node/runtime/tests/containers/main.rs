//! Real guests in real sandboxes over the real network.

// The parts that the tests share lie outside test functions, where the lints do not look for tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod diagnosis;
mod files;
mod greedy;
mod http;
mod limits;
mod modules;
mod network;
mod process;
mod processes;
mod shell;
mod terminal;
mod tls;
mod world;
