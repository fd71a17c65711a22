//! Port-forward: a client's connections to a pod's own loopback, through the node that runs it.
//!
//! Three ways in: SPDY, SPDY inside a WebSocket (what kubectl does), and the older WebSocket channels. Behind the first
//! two is one session; a pair of streams (error, data) with the same request id is one connection.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_api::status::ApiError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::spdy::{Incoming, session, session_over};
use super::upgrade::{self, Wanted};
use super::{ports, target, websocket};
use crate::chain::Call;
use crate::dial::{Duplex, NodeDialer, PodTarget};
use crate::document;
use crate::registry::Scope;
use crate::respond::Answer;

const PROTOCOL: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const CHANNELS: &str = "v4.channel.k8s.io";
/// Connections whose second stream has not come yet. A client opens both at once.
const HALVES: usize = 256;
/// How much is read from a pod at a time.
const PIECE_BYTES: usize = 32 * 1024;

/// A pod to connect to.
#[derive(Clone)]
pub(super) struct Target {
    nodes: Arc<dyn NodeDialer>,
    node: String,
    pod: PodTarget,
}

impl Target {
    pub(super) async fn connect(&self, port: u16) -> Result<Box<dyn Duplex>, ApiError> {
        self.nodes.connect(&self.node, &self.pod, port).await
    }

    /// Why a connection failed, in the words that clients print.
    pub(super) fn explain(&self, port: u16, error: &ApiError) -> String {
        let PodTarget { namespace, pod, uid } = &self.pod;
        format!(
            "error forwarding port {port} to pod {namespace}/{pod}, uid {uid}: {}",
            error.message
        )
    }
}

/// Answers `pods/NAME/portforward`.
pub(crate) async fn answer(call: &mut Call<'_>, scope: Scope<'_>, name: &str) -> Result<Answer, ApiError> {
    target::may_connect(call)?;
    let target = self::target(call, scope, name).await?;
    let stop = call.core.closing.child_token();
    match upgrade::wanted(&call.parts.headers) {
        Some(Wanted::Spdy) => spdy(call, target, stop),
        Some(Wanted::WebSocket) => web_socket(call, target, stop),
        None => Err(ApiError::bad_request("Upgrade request required")),
    }
}

async fn target(call: &Call<'_>, scope: Scope<'_>, name: &str) -> Result<Target, ApiError> {
    let pod = document::tree(&*scope.record(name).await?)?;
    Ok(Target {
        nodes: call.core.nodes.clone(),
        node: target::node(&pod)?.to_owned(),
        pod: target::pod(&pod),
    })
}

fn spdy(call: &mut Call<'_>, target: Target, stop: CancellationToken) -> Result<Answer, ApiError> {
    let (protocol, mut answer) = upgrade::agree(&call.parts.headers, &[PROTOCOL]);
    if protocol.is_none() {
        return Ok(answer);
    }
    let upgrade = upgrade::take(call.parts)?;
    tokio::spawn(async move {
        match upgrade.await {
            Err(error) => debug!(%error, "upgrade failed"),
            Ok(upgraded) => {
                let opened = session_over(upgraded, stop);
                pair(opened, target).await;
            }
        }
    });
    upgrade::confirm(&mut answer, PROTOCOL);
    Ok(answer)
}

fn web_socket(call: &mut Call<'_>, target: Target, stop: CancellationToken) -> Result<Answer, ApiError> {
    let offered = websocket::offered(&call.parts.headers);
    let tunnel = offered.contains(&TUNNEL);
    let protocol = match () {
        () if tunnel => TUNNEL,
        () if offered.contains(&CHANNELS) => CHANNELS,
        () if offered.is_empty() => "",
        () => {
            return Err(ApiError::bad_request(format!(
                "none of the offered WebSocket protocols is spoken here: {TUNNEL}, {CHANNELS}"
            )));
        }
    };
    let list = if tunnel { Vec::new() } else { ports::parse(call.query)? };
    let answer = websocket::accept(&call.parts.headers, protocol)?;
    let upgrade = upgrade::take(call.parts)?;
    tokio::spawn(async move {
        match upgrade.await {
            Err(error) => debug!(%error, "upgrade failed"),
            Ok(upgraded) => {
                let (incoming, outgoing) = websocket::split(websocket::socket(upgraded).await);
                if tunnel {
                    pair(session(incoming, outgoing, stop), target).await;
                } else {
                    ports::serve(incoming, outgoing, target, list, stop).await;
                }
            }
        }
    });
    Ok(answer)
}

/// Joins streams to connections, until the session ends.
async fn pair(mut opened: mpsc::Receiver<Incoming>, target: Target) {
    let mut halves: HashMap<String, (Option<Incoming>, Option<Incoming>)> = HashMap::new();
    while let Some(stream) = opened.recv().await {
        let id = stream.header("requestid").to_owned();
        if halves.len() >= HALVES {
            halves.clear();
        }
        let half = halves.entry(id.clone()).or_default();
        match stream.header("streamtype") {
            "error" => half.0 = Some(stream),
            "data" => half.1 = Some(stream),
            _ => continue,
        }
        if let (Some(_), Some(_)) = half
            && let Some((Some(error), Some(data))) = halves.remove(&id)
        {
            tokio::spawn(forward(target.clone(), error, data));
        }
    }
}

/// One connection.
async fn forward(target: Target, error: Incoming, data: Incoming) {
    let port = data.header("port").parse::<u16>().ok().filter(|port| *port > 0);
    let connected = match port {
        Some(port) => target
            .connect(port)
            .await
            .map_err(|failed| target.explain(port, &failed)),
        None => Err(format!("invalid port {:?}", data.header("port"))),
    };
    match connected {
        Ok(connection) => copy(connection, data).await,
        Err(text) => {
            error.writer.send(text.as_bytes()).await;
            data.writer.finish().await;
        }
    }
    error.writer.finish().await;
}

/// Copies both ways until the pod has said all it had to say, or the client went away.
async fn copy(connection: Box<dyn Duplex>, data: Incoming) {
    let Incoming { mut reader, writer, .. } = data;
    let (mut from_pod, mut to_pod) = tokio::io::split(connection);
    let up = async {
        while let Some(bytes) = reader.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // The pod may have closed first.
        let _ = to_pod.shutdown().await;
    };
    let down = async {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(count) = from_pod.read(&mut buffer).await {
            if count == 0 || !writer.send(buffer.get(..count).unwrap_or_default()).await {
                break;
            }
        }
        writer.finish().await;
    };
    tokio::pin!(up);
    tokio::pin!(down);
    tokio::select! {
        () = &mut down => {}
        // The client has sent everything; the answer may still come.
        () = &mut up => down.await,
    }
}
