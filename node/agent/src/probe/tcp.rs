//! The TCP probe: somebody accepts connections.

use super::{Answer, port};
use coracle_net::Fabric;
use k8s_openapi::api::core::v1::{Container, TCPSocketAction};
use std::net::{IpAddr, SocketAddr};

/// Connects and hangs up.
pub async fn connect(fabric: &Fabric, pod_ip: IpAddr, container: &Container, action: &TCPSocketAction) -> Answer {
    let Some(port) = port(container, &action.port) else {
        return Answer::Bad(format!("the container has no port {:?}", action.port));
    };
    let host = match action.host.as_deref() {
        None | Some("") => pod_ip,
        Some(host) => match host.parse() {
            Ok(host) => host,
            Err(_) => return Answer::Bad(format!("host {host:?} is not an IP address")),
        },
    };
    let address = SocketAddr::new(host, port);
    match fabric.dial_pod(pod_ip, address).await {
        Ok(_) => Answer::Good,
        Err(error) => Answer::Bad(format!("dial tcp {address}: {error}")),
    }
}
