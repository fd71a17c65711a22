//! Coracle as a library: [`Cluster`](cluster::Cluster) is the whole of it in one process, for the commands and for tests.
//!
//! This is the only crate that sees both the control plane and the node; it wires them and decides nothing else.

mod allocator;
pub mod apart;
pub mod args;
pub mod build;
pub mod cluster;
mod context;
pub mod control_plane;
pub mod data_dir;
pub mod demo;
mod dial;
mod dockerfile;
pub mod end;
pub mod fuzz;
pub mod image;
mod join;
pub mod kubeconfig;
pub mod manifest;
mod membership;
pub mod net;
pub mod node;
pub mod processes;
mod renewal;
pub mod say;
pub mod server;
pub mod static_pods;
pub mod token;
pub mod up;
