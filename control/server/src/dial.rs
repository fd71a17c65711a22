//! What the server asks of nodes and of the pod network, as two small traits.
//!
//! The server never imports the node's code. Whoever puts the cluster together wires these traits to a node in the same
//! process or to one elsewhere; [`Unconnected`] stands in where there is none, and says so in its errors.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use coracle_api::status::ApiError;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The bytes of a container's log, as they are to be shown.
pub type LogStream = BoxStream<'static, io::Result<Bytes>>;

/// A pod, named so that a successor with the same name is never meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTarget {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerTarget {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// The container's name, init containers included.
    pub container: String,
}

/// Which part of a container's log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what the container writes from now on, until it ends.
    pub follow: bool,
    /// The log of the container's previous run.
    pub previous: bool,
    /// Only what was written in the last so many seconds.
    pub since_seconds: Option<i64>,
    /// Only what was written at or after this time, in microseconds since 1970.
    pub since_micros: Option<i64>,
    /// Begin each line with its time (RFC 3339, nanoseconds).
    pub timestamps: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<u64>,
    /// End after so many bytes.
    pub limit_bytes: Option<u64>,
}

/// How large a client's terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// In columns.
    pub width: u16,
    /// In lines.
    pub height: u16,
}

/// A client's ends of the standard streams of a program. A stream that is `None` is not wanted.
#[derive(Debug, Default)]
pub struct ProcessStreams {
    /// What goes to standard input; it ends when the channel does.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// Takes standard output.
    pub stdout: Option<mpsc::Sender<Bytes>>,
    /// Takes standard error.
    pub stderr: Option<mpsc::Sender<Bytes>>,
    /// The sizes of the client's terminal, where it has one.
    pub terminal: Option<mpsc::Receiver<TerminalSize>>,
}

/// What a node's own API answered to a GET.
#[derive(Debug, Clone)]
pub struct NodeAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// An image as a container is to have it.
#[derive(Debug, Clone, Copy)]
pub struct WantedImage<'a> {
    /// Its name.
    pub image: &'a str,
    /// When it is pulled, as `Always`.
    pub pull_policy: &'a str,
    /// The pod's runtime class, or empty.
    pub runtime_class: &'a str,
}

/// What the server needs of nodes.
#[async_trait]
pub trait NodeDialer: Send + Sync {
    /// Asks the node's own API, the kubelet's, with a GET of `path`, which may have a query. 503 where the node has no
    /// such way to be asked, and then the API is looked for at the node's address.
    async fn get(&self, node: &str, path: &str) -> Result<NodeAnswer, ApiError> {
        Err(ApiError::service_unavailable(format!(
            "no connection to node {node:?} to ask it for {path}"
        )))
    }

    /// Why no container can run this image, where nodes have it and all of them say so. None: it can run, or nobody knows.
    async fn refusal(&self, wanted: WantedImage<'_>) -> Option<String> {
        let _ = wanted;
        None
    }

    /// Reads a container's log on `node`. The stream ends where the log ends, or with `follow` where the container does.
    async fn logs(&self, node: &str, target: &ContainerTarget, options: &LogOptions) -> Result<LogStream, ApiError>;

    /// Connects to `port` on the pod's own loopback, as port-forward does.
    async fn connect(&self, node: &str, target: &PodTarget, port: u16) -> Result<Box<dyn Duplex>, ApiError>;

    /// Runs a program in a container and returns its exit code. When the client goes away the future is dropped, and the
    /// program ends.
    async fn exec(
        &self,
        node: &str,
        target: &ContainerTarget,
        command: &[String],
        streams: ProcessStreams,
    ) -> Result<i32, ApiError>;

    /// Joins the streams of the container's own program and returns its exit code when it ends. When the client goes away
    /// the future is dropped, and the program goes on.
    async fn attach(&self, node: &str, target: &ContainerTarget, streams: ProcessStreams) -> Result<i32, ApiError>;
}

/// What the server needs of the pod network: webhooks, aggregated APIs and proxies live there.
#[async_trait]
pub trait ClusterDialer: Send + Sync {
    /// Connects to a name or address inside the cluster.
    async fn connect(&self, host: &str, port: u16) -> Result<Box<dyn Duplex>, ApiError>;
}

/// Both dialers of a control plane that has no nodes: each call answers 503 with the reason.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unconnected;

#[async_trait]
impl NodeDialer for Unconnected {
    async fn exec(&self, node: &str, _: &ContainerTarget, _: &[String], _: ProcessStreams) -> Result<i32, ApiError> {
        Err(ApiError::service_unavailable(format!("no connection to node {node:?}")))
    }

    async fn attach(&self, node: &str, _: &ContainerTarget, _: ProcessStreams) -> Result<i32, ApiError> {
        Err(ApiError::service_unavailable(format!("no connection to node {node:?}")))
    }

    async fn logs(&self, node: &str, _: &ContainerTarget, _: &LogOptions) -> Result<LogStream, ApiError> {
        Err(ApiError::service_unavailable(format!("no connection to node {node:?}")))
    }

    async fn connect(&self, node: &str, _: &PodTarget, _: u16) -> Result<Box<dyn Duplex>, ApiError> {
        Err(ApiError::service_unavailable(format!("no connection to node {node:?}")))
    }
}

#[async_trait]
impl ClusterDialer for Unconnected {
    async fn connect(&self, host: &str, port: u16) -> Result<Box<dyn Duplex>, ApiError> {
        Err(ApiError::service_unavailable(format!(
            "no pod network to reach {host}:{port} through"
        )))
    }
}
