//! Whole clusters in the process, on free ports and in directories of their own, driven over TLS as their users drive them.

// The allowances for tests cover functions marked as tests only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod access;
mod additions;
mod administration;
mod apply;
mod autoscaling;
mod custom;
mod devices;
mod examples;
mod gateway;
mod images;
mod ingress;
mod kubectl;
mod mesh;
mod names;
mod network;
mod pods;
mod policies;
mod refused;
mod restart;
mod rights;
mod scheduling;
mod services;
mod stories;
mod streams;
mod terminals;
mod tools;
mod verbs;
mod volumes;
mod workloads;
mod world;
