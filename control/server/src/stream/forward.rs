//! Port-forward: a client's connections to a pod's own loopback, through the node that runs it.
//!
//! Three ways in: SPDY, SPDY inside a WebSocket (what kubectl does), and the older WebSocket channels. Behind the first
//! two is one session; a pair of streams (error, data) with the same request id is one connection.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use coracle_api::object;
use coracle_api::status::ApiError;
use futures::sink;
use http::StatusCode;
use http::header::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::spdy::{Incoming, session};
use super::upgrade::{self, ACCEPTED_PROTOCOLS, STREAM_PROTOCOL, Wanted};
use super::{ports, websocket};
use crate::authz::{self, Attributes};
use crate::chain::Call;
use crate::dial::{Duplex, NodeDialer, PodTarget};
use crate::document;
use crate::registry::Scope;
use crate::respond::{self, Answer};

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
    may_connect(call)?;
    let target = target(call, scope, name)?;
    let stop = call.core.closing.child_token();
    match upgrade::wanted(&call.parts.headers) {
        Some(Wanted::Spdy) => spdy(call, target, stop),
        Some(Wanted::WebSocket) => web_socket(call, target, stop),
        None => Err(ApiError::bad_request("Upgrade request required")),
    }
}

/// A GET opens a connection as much as a POST does, so it needs the same right.
fn may_connect(call: &Call<'_>) -> Result<(), ApiError> {
    let Some(path) = call.info.resource.as_ref().filter(|_| call.info.verb == "get") else {
        return Ok(());
    };
    let attributes = Attributes {
        verb: "create",
        path: None,
        group: &path.group,
        resource: &path.resource,
        subresource: path.subresource.as_deref(),
        namespace: path.namespace.as_deref(),
        name: path.name.as_deref(),
    };
    authz::check(call.core, call.identity, &attributes)
}

fn target(call: &Call<'_>, scope: Scope<'_>, name: &str) -> Result<Target, ApiError> {
    let pod = document::tree(&*scope.record(name)?)?;
    let node = object::text(&pod, "spec.nodeName");
    if node.is_empty() {
        return Err(ApiError::bad_request(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    Ok(Target {
        nodes: call.core.nodes.clone(),
        node: node.to_owned(),
        pod: PodTarget {
            namespace: object::namespace(&pod).to_owned(),
            pod: name.to_owned(),
            uid: object::uid(&pod).to_owned(),
        },
    })
}

fn spdy(call: &mut Call<'_>, target: Target, stop: CancellationToken) -> Result<Answer, ApiError> {
    let offered: Vec<&str> = upgrade::tokens(&call.parts.headers, &STREAM_PROTOCOL).collect();
    if !offered.is_empty() && !offered.contains(&PROTOCOL) {
        let mut answer = respond::text(StatusCode::FORBIDDEN, "no stream protocol in common\n");
        answer
            .headers_mut()
            .insert(ACCEPTED_PROTOCOLS, HeaderValue::from_static(PROTOCOL));
        return Ok(answer);
    }
    let upgrade = upgrade::take(call.parts)?;
    tokio::spawn(async move {
        match upgrade.await {
            Err(error) => debug!(%error, "upgrade failed"),
            Ok(upgraded) => {
                let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
                let outgoing = sink::unfold(writer, |mut writer, bytes: Bytes| async move {
                    writer.write_all(&bytes).await?;
                    writer.flush().await?;
                    Ok::<_, std::io::Error>(writer)
                });
                let opened = session(ReaderStream::new(reader), Box::pin(outgoing), stop);
                pair(opened, target).await;
            }
        }
    });
    let mut answer = upgrade::switching("SPDY/3.1");
    answer
        .headers_mut()
        .insert(STREAM_PROTOCOL, HeaderValue::from_static(PROTOCOL));
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
