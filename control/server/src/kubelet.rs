//! Nodes in other processes, reached by the API that a kubelet serves: logs, exec, attach, ports and what it tells of itself.
//!
//! Where a node listens stands in its object. Each request has a connection of its own, over TLS: the node proves that it is
//! the node that is meant by a certificate of the cluster's authority for its name, and this server shows one of its own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use coracle_api::node::serving_name;
use coracle_api::status::ApiError;
use coracle_api::{object, time};
use coracle_store::Store;
use futures::{SinkExt, StreamExt, TryStreamExt};
use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::dial::{
    ContainerTarget, Duplex, LogOptions, LogStream, NodeAnswer, NodeDialer, PodTarget, ProcessStreams, TerminalSize,
    WantedImage,
};
use crate::identity::MASTERS;
use crate::outbound::{self, OutboundError, Trust};
use crate::proxy::pass;
use crate::{Pki, PkiError, document};

/// Who this server is towards nodes, as kubeadm names it.
const CLIENT: &str = "kube-apiserver-kubelet-client";
/// Connections by which a client's request becomes a stream of bytes to a port of a pod.
const PORT_FORWARD: &str = "coracle.dev/port-forward";
/// The stream protocol of exec and attach: the newest, in which the end of the input can be told.
const CHANNELS: &str = "v5.channel.k8s.io";
/// How long a node may take to take a connection. Longer than a SYN that was lost twice.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest answer that is taken whole: metrics of a thousand pods are a few hundred KiB.
const ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// The longest explanation of a failure.
const ERROR_BYTES: usize = 64 * 1024;
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Why nodes elsewhere cannot be spoken to at all.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// No certificate could be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The certificates cannot be used.
    #[error("TLS towards nodes: {0}")]
    Tls(String),
}

impl From<OutboundError> for KubeletError {
    fn from(error: OutboundError) -> Self {
        Self::Tls(error.to_string())
    }
}

/// The nodes that say in their objects where they listen.
#[derive(Clone)]
pub struct Kubelets {
    store: Store,
    tls: TlsConnector,
}

impl Kubelets {
    /// Nodes of the cluster whose objects are in `store` and whose authority is `pki`'s.
    ///
    /// # Errors
    /// When no certificate can be made or used.
    pub fn new(store: Store, pki: &Pki) -> Result<Self, KubeletError> {
        let (certificate, key) = pki.issue_client(CLIENT, &[MASTERS])?;
        let authorities = Trust::Authorities(pki.ca_pem().as_bytes());
        let tls = outbound::connector(authorities, Some((&certificate, &key)))?;
        Ok(Self { store, tls })
    }

    async fn connect_to(&self, node: &str) -> Result<Box<dyn Duplex>, ApiError> {
        let snapshot = self.store.snapshot();
        let record = snapshot.get(&format!("nodes//{node}"));
        let record = record.ok_or_else(|| unreachable(node, "there is no such node"))?;
        let (host, port) =
            address(&document::tree(record)?).ok_or_else(|| unreachable(node, "it does not say where it listens"))?;
        let dial = async {
            let stream = TcpStream::connect((host.as_str(), port)).await;
            let stream = stream.map_err(|error| unreachable(node, &format!("dial tcp {host}:{port}: {error}")))?;
            // What is typed must not wait for more.
            let _ = stream.set_nodelay(true);
            let secured = outbound::secure(&self.tls, Box::new(stream), &serving_name(node)).await;
            secured.map_err(|error| unreachable(node, &format!("{host}:{port}: {error}")))
        };
        match tokio::time::timeout(CONNECT, dial).await {
            Ok(connected) => connected,
            Err(_) => Err(unreachable(node, &format!("dial tcp {host}:{port}: i/o timeout"))),
        }
    }

    async fn ask(&self, node: &str, path: &str, headers: HeaderMap) -> Result<Response<Incoming>, ApiError> {
        let stream = self.connect_to(node).await?;
        let mut headers = headers;
        headers.insert(HOST, HeaderValue::from_static("node"));
        let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = pass::request(&Method::GET, path, headers, nothing)?;
        pass::exchange(stream, request).await
    }

    /// Asks for something else than HTTP on the connection.
    async fn upgrade(
        &self,
        node: &str,
        path: &str,
        headers: HeaderMap,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>, ApiError> {
        let answer = self.ask(node, path, headers).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(failure(answer).await);
        }
        let upgraded = hyper::upgrade::on(answer).await;
        upgraded
            .map(TokioIo::new)
            .map_err(|error| unreachable(node, &error.to_string()))
    }

    async fn run(&self, node: &str, path: String, streams: ProcessStreams) -> Result<i32, ApiError> {
        let upgraded = self.upgrade(node, &path, web_socket()).await?;
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
        join(socket, streams).await
    }
}

#[async_trait]
impl NodeDialer for Kubelets {
    async fn get(&self, node: &str, path: &str) -> Result<NodeAnswer, ApiError> {
        let answer = self.ask(node, path, HeaderMap::new()).await?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| unreachable(node, &error.to_string()))?.to_bytes();
        let content_type = parts.headers.get(http::header::CONTENT_TYPE);
        let content_type = content_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or("text/plain");
        Ok(NodeAnswer {
            status: parts.status.as_u16(),
            content_type: content_type.to_owned(),
            body,
        })
    }

    async fn logs(&self, node: &str, target: &ContainerTarget, options: &LogOptions) -> Result<LogStream, ApiError> {
        let answer = self.ask(node, &logs_path(target, options), HeaderMap::new()).await?;
        if !answer.status().is_success() {
            return Err(failure(answer).await);
        }
        let frames = TryStreamExt::map_err(BodyStream::new(answer.into_body()), std::io::Error::other);
        Ok(frames
            .try_filter_map(|frame| std::future::ready(Ok(frame.into_data().ok())))
            .boxed())
    }

    async fn connect(&self, node: &str, target: &PodTarget, port: u16) -> Result<Box<dyn Duplex>, ApiError> {
        let PodTarget { namespace, pod, uid } = target;
        let path = format!("/portForward/{namespace}/{pod}/{uid}?port={port}");
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(PORT_FORWARD));
        Ok(Box::new(self.upgrade(node, &path, headers).await?))
    }

    async fn exec(
        &self,
        node: &str,
        target: &ContainerTarget,
        command: &[String],
        streams: ProcessStreams,
    ) -> Result<i32, ApiError> {
        self.run(node, command_path("exec", target, command, &streams), streams)
            .await
    }

    async fn attach(&self, node: &str, target: &ContainerTarget, streams: ProcessStreams) -> Result<i32, ApiError> {
        self.run(node, command_path("attach", target, &[], &streams), streams)
            .await
    }
}

fn unreachable(node: &str, why: &str) -> ApiError {
    ApiError::service_unavailable(format!("node {node:?} cannot be reached: {why}"))
}

/// Where a node listens: a node that names no port serves no such API.
fn address(node: &Value) -> Option<(String, u16)> {
    let port = object::get(node, "status.daemonEndpoints.kubeletEndpoint.Port")?.as_u64()?;
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    let addresses = object::list(node, "status.addresses");
    let of = |kind: &str| {
        let mut all = addresses.iter();
        let found = all.find(|address| object::text(address, "type") == kind)?;
        Some(object::text(found, "address").to_owned())
    };
    Some((of("InternalIP").or_else(|| of("Hostname"))?, port))
}

fn logs_path(target: &ContainerTarget, options: &LogOptions) -> String {
    let ContainerTarget {
        namespace,
        pod,
        uid,
        container,
    } = target;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("uid", uid);
    for (name, wanted) in [
        ("follow", options.follow),
        ("previous", options.previous),
        ("timestamps", options.timestamps),
    ] {
        if wanted {
            query.append_pair(name, "true");
        }
    }
    let numbers = [
        ("sinceSeconds", options.since_seconds.map(|number| number.to_string())),
        ("sinceTime", options.since_micros.map(time::format_micros)),
        ("tailLines", options.tail_lines.map(|number| number.to_string())),
        ("limitBytes", options.limit_bytes.map(|number| number.to_string())),
    ];
    for (name, text) in numbers {
        if let Some(text) = text {
            query.append_pair(name, &text);
        }
    }
    format!("/containerLogs/{namespace}/{pod}/{container}?{}", query.finish())
}

fn command_path(verb: &str, target: &ContainerTarget, command: &[String], streams: &ProcessStreams) -> String {
    let ContainerTarget {
        namespace,
        pod,
        uid,
        container,
    } = target;
    let mut query = form_urlencoded::Serializer::new(String::new());
    for word in command {
        query.append_pair("command", word);
    }
    for (name, wanted) in [
        ("input", streams.stdin.is_some()),
        ("output", streams.stdout.is_some()),
        ("error", streams.stderr.is_some()),
        ("tty", streams.terminal.is_some()),
    ] {
        if wanted {
            query.append_pair(name, "1");
        }
    }
    format!("/{verb}/{namespace}/{pod}/{uid}/{container}?{}", query.finish())
}

fn web_socket() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(CHANNELS));
    if let Ok(key) = HeaderValue::from_str(&generate_key()) {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    headers
}

/// What a node refused, in its own words.
async fn failure(answer: Response<Incoming>) -> ApiError {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ERROR_BYTES).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(&body).trim().to_owned();
    match status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => ApiError::bad_request(text),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ApiError::internal(format!("the node does not trust this server: {text}"))
        }
        StatusCode::SERVICE_UNAVAILABLE => ApiError::service_unavailable(text),
        _ => ApiError::internal(text),
    }
}

/// Joins a client's streams to those that the node serves, until the node says how it ended.
async fn join<S>(socket: WebSocketStream<S>, streams: ProcessStreams) -> Result<i32, ApiError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut sink, mut source) = socket.split();
    let ProcessStreams {
        stdin,
        stdout,
        stderr,
        terminal,
    } = streams;
    let send = async {
        let (mut stdin, mut sizes) = (stdin, terminal);
        while let Some(message) = next_input(&mut stdin, &mut sizes).await {
            if sink.send(message).await.is_err() {
                break;
            }
        }
        // The end of the input is not the end of the program.
        std::future::pending::<Infallible>().await
    };
    let receive = async {
        while let Some(message) = source.next().await {
            let message = message.map_err(|error| ApiError::internal(format!("the node went away: {error}")))?;
            let Message::Binary(mut bytes) = message else { continue };
            let Some(channel) = bytes.first().copied() else {
                continue;
            };
            let rest = bytes.split_off(1);
            let to = match channel {
                STDOUT => &stdout,
                STDERR => &stderr,
                ERROR => return verdict(&rest),
                _ => continue,
            };
            if let Some(to) = to.as_ref().filter(|_| !rest.is_empty()) {
                // A client that does not listen any more is seen by whoever runs this.
                let _ = to.send(rest).await;
            }
        }
        Err(ApiError::internal("the node went away before the program ended"))
    };
    tokio::select! {
        ended = receive => ended,
        never = send => match never {},
    }
}

/// The next message of a client's input; never again once all has been said.
async fn next_input(
    stdin: &mut Option<mpsc::Receiver<Bytes>>,
    sizes: &mut Option<mpsc::Receiver<TerminalSize>>,
) -> Option<Message> {
    loop {
        tokio::select! {
            Some(bytes) = receive(stdin) => return Some(match bytes {
                Some(bytes) => message(STDIN, &bytes),
                None => {
                    *stdin = None;
                    message(CLOSE, &[STDIN])
                }
            }),
            Some(size) = receive(sizes) => match size {
                Some(TerminalSize { width, height }) => {
                    let text = json!({"Width": width, "Height": height}).to_string();
                    return Some(message(RESIZE, text.as_bytes()));
                }
                None => *sizes = None,
            },
            else => return None,
        }
    }
}

/// What a channel brings, `Some(None)` at its end; `None` where there is no channel.
async fn receive<T>(channel: &mut Option<mpsc::Receiver<T>>) -> Option<Option<T>> {
    match channel {
        Some(channel) => Some(channel.recv().await),
        None => None,
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(channel);
    message.extend_from_slice(bytes);
    Message::Binary(message.into())
}

/// How a program ended, from the Status that a node ends with.
fn verdict(status: &[u8]) -> Result<i32, ApiError> {
    let status: Value = serde_json::from_slice(status).unwrap_or_default();
    if object::text(&status, "status") == "Success" {
        return Ok(0);
    }
    let causes = object::list(&status, "details.causes").iter();
    let code = causes
        .filter(|cause| object::text(cause, "reason") == "ExitCode")
        .find_map(|cause| object::text(cause, "message").parse().ok());
    code.ok_or_else(|| ApiError::internal(object::text(&status, "message")))
}

/// Nodes of this process first, and the others where they listen.
pub struct Everywhere {
    /// Those of this process.
    pub here: Arc<dyn NodeDialer>,
    /// Which those are.
    pub is_here: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// The others.
    pub elsewhere: Kubelets,
}

impl Everywhere {
    fn of(&self, node: &str) -> &dyn NodeDialer {
        match (self.is_here)(node) {
            true => self.here.as_ref(),
            false => &self.elsewhere,
        }
    }
}

#[async_trait]
impl NodeDialer for Everywhere {
    /// Of nodes elsewhere nobody asks: there the container tells.
    async fn refusal(&self, wanted: WantedImage<'_>) -> Option<String> {
        self.here.refusal(wanted).await
    }

    async fn get(&self, node: &str, path: &str) -> Result<NodeAnswer, ApiError> {
        self.of(node).get(node, path).await
    }

    async fn logs(&self, node: &str, target: &ContainerTarget, options: &LogOptions) -> Result<LogStream, ApiError> {
        self.of(node).logs(node, target, options).await
    }

    async fn connect(&self, node: &str, target: &PodTarget, port: u16) -> Result<Box<dyn Duplex>, ApiError> {
        self.of(node).connect(node, target, port).await
    }

    async fn exec(
        &self,
        node: &str,
        target: &ContainerTarget,
        command: &[String],
        streams: ProcessStreams,
    ) -> Result<i32, ApiError> {
        self.of(node).exec(node, target, command, streams).await
    }

    async fn attach(&self, node: &str, target: &ContainerTarget, streams: ProcessStreams) -> Result<i32, ApiError> {
        self.of(node).attach(node, target, streams).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_port_serves_nothing() {
        let addresses = json!([{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "10.0.0.1"}]);
        let mut node = json!({"status": {"addresses": addresses}});
        assert_eq!(address(&node), None);
        node["status"]["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": 10250}});
        assert_eq!(address(&node), Some(("10.0.0.1".to_owned(), 10250)));
    }

    #[test]
    fn the_end_of_a_program_is_read() {
        assert_eq!(verdict(br#"{"status":"Success"}"#).unwrap(), 0);
        let failed = json!({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
        assert_eq!(verdict(failed.to_string().as_bytes()).unwrap(), 3);
        let broken = verdict(br#"{"status":"Failure","message":"no such program"}"#).unwrap_err();
        assert!(broken.message.ends_with("no such program"), "{}", broken.message);
        assert!(verdict(b"nonsense").is_err());
    }

    #[test]
    fn options_become_a_query() {
        let target = ContainerTarget {
            namespace: "n".into(),
            pod: "p".into(),
            uid: "u".into(),
            container: "c".into(),
        };
        let options = LogOptions {
            follow: true,
            tail_lines: Some(3),
            since_micros: Some(0),
            ..LogOptions::default()
        };
        assert_eq!(
            logs_path(&target, &options),
            "/containerLogs/n/p/c?uid=u&follow=true&sinceTime=1970-01-01T00%3A00%3A00.000000Z&tailLines=3"
        );
        let path = command_path(
            "exec",
            &target,
            &["echo".into(), "a b".into()],
            &ProcessStreams::default(),
        );
        assert_eq!(path, "/exec/n/p/u/c?command=echo&command=a+b");
    }
}
