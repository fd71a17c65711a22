//! The edge: what of the cluster is shown at the host's own addresses, and what the API says of it.
//!
//! It is a client of the API like any add-on, under an identity of its own; the listeners for node ports and load
//! balancers are the pod network's.

mod balancer;
mod follow;
mod gateway;
pub mod ingress;
mod report;

use std::net::IpAddr;

use coracle_net::{Exposed, Fabric};
use ingress::{Controller, IngressError, Sockets};
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
    /// The sockets of the ingress, where there is to be one.
    pub ingress: Option<Sockets>,
}

/// Runs until the shutdown.
///
/// # Errors
/// When the ingress cannot be set up.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), IngressError> {
    let (client, fabric) = (config.client, config.fabric);
    let balancers = balancer::run(client.clone(), fabric.clone(), config.exposed, config.exposed_ip);
    let balancers = async {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = balancers => {}
        }
    };
    match config.ingress {
        None => {
            balancers.await;
            Ok(())
        }
        Some(sockets) => {
            let controller = Controller::new(client, fabric, sockets)?;
            tokio::join!(balancers, controller.run(shutdown.clone())).1
        }
    }
}
