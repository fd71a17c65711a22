//! Datagrams between clients of the host and a UDP service: a flow per client, which keeps its endpoint.
//!
//! Inside the network a flow is an address of the host with a port of its own, at which the endpoint's answers arrive.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::fabric::{Fabric, HostFlow};
use crate::{ExposedPort, MAX_DATAGRAM_BYTES};

/// Clients of one port at a time; a further one takes the place of the one that was quiet longest. As many as a small
/// NAT gateway keeps for one address.
const MAX_FLOWS: usize = 1024;

/// A flow that was quiet for so long is forgotten: what Linux grants a UDP stream (`nf_conntrack_udp_timeout_stream`).
const QUIET: Duration = Duration::from_secs(120);

struct Carried {
    flow: HostFlow,
    used: Instant,
}

/// Carries datagrams until it is dropped.
pub(super) async fn carry(fabric: Fabric, socket: UdpSocket, port: ExposedPort) {
    let socket = Arc::new(socket);
    let mut flows: HashMap<SocketAddr, Carried> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An answer that a client did not want comes back so on some systems.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
            Err(error) => {
                tracing::warn!(port = port.port, %error, "exposed port: no more datagrams");
                return;
            }
        };
        let data = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
        let now = Instant::now();
        if !flows.contains_key(&client) {
            make_room(&mut flows, now);
            match fabric.open_flow(answer_to(&socket, client)) {
                Ok(flow) => {
                    flows.insert(client, Carried { flow, used: now });
                }
                Err(error) => tracing::debug!(port = port.port, %error, "exposed port: a datagram is lost"),
            }
        }
        if let Some(carried) = flows.get_mut(&client) {
            carried.used = now;
            if let Err(error) = fabric.send_exposed(&carried.flow, &port, client.ip(), data) {
                tracing::debug!(port = port.port, %error, "exposed port: a datagram is lost");
            }
        }
    }
}

/// Sends what the endpoint answers to the client; what the socket cannot take now is lost, as datagrams are.
fn answer_to(socket: &Arc<UdpSocket>, client: SocketAddr) -> impl Fn(Bytes) + Send + Sync + 'static {
    let socket = socket.clone();
    move |data| {
        if let Err(error) = socket.try_send_to(&data, client) {
            tracing::debug!(%client, %error, "exposed port: an answer is lost");
        }
    }
}

fn make_room(flows: &mut HashMap<SocketAddr, Carried>, now: Instant) {
    if flows.len() < MAX_FLOWS {
        return;
    }
    flows.retain(|_, carried| now.saturating_duration_since(carried.used) < QUIET);
    if flows.len() >= MAX_FLOWS {
        let quietest = flows
            .iter()
            .min_by_key(|(_, carried)| carried.used)
            .map(|(client, _)| *client);
        quietest.and_then(|client| flows.remove(&client));
    }
}
