//! What the scheduler decides, over made-up clusters: scenarios that people can read, and laws.

// The allowances for tests cover functions marked as tests only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod properties;
mod scenarios;

use coracle_scheduler::cluster::Cluster;

/// The nodes by name, the pods on each, and the CPU that these ask for, in thousandths.
fn who_is_where(cluster: &Cluster) -> Vec<(String, Vec<String>, i64)> {
    let nodes = cluster.nodes().map(|(index, info, _)| {
        let mut pods: Vec<String> = cluster.on(index).map(|pod| pod.key.to_string()).collect();
        pods.sort();
        (info.name.to_string(), pods, info.requested.cpu_milli)
    });
    nodes.collect()
}
