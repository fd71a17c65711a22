//! The edge: what of the cluster is shown at the host's own addresses, and what the API says of it.
//!
//! It is a client of the API like any add-on, under an identity of its own; the listeners for node ports and load
//! balancers are the pod network's.

mod balancer;
mod report;

use std::net::IpAddr;

use coracle_net::{Exposed, Fabric};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the edge is made of.
pub struct Config {
    /// The API, under the edge's identity.
    pub client: kube::Client,
    /// The pod network.
    pub fabric: Fabric,
    /// What became of the ports that services ask for.
    pub exposed: watch::Receiver<Exposed>,
    /// The address of the host at which those ports are.
    pub exposed_ip: IpAddr,
}

/// Runs until the shutdown.
pub async fn run(config: Config, shutdown: CancellationToken) {
    let balancers = balancer::run(config.client, config.fabric, config.exposed, config.exposed_ip);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = balancers => {}
    }
}
