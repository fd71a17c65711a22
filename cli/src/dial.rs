//! The two dialers of the API server, wired to the nodes and the pod network of this process.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use coracle_agent::{AgentHandle, LogError, Verdict};
use coracle_api::status::ApiError;
use coracle_net::Fabric;
use coracle_server::{
    ClusterDialer, ContainerTarget, Duplex, LogOptions, LogStream, NodeAnswer, NodeDialer, PodTarget, ProcessStreams,
    TerminalSize, WantedImage,
};
use futures::StreamExt as _;
use parking_lot::RwLock;

/// The nodes of this process by name; clones share them.
#[derive(Clone, Default)]
pub struct Nodes(Arc<RwLock<HashMap<String, AgentHandle>>>);

impl Nodes {
    /// Makes a node known.
    pub fn add(&self, name: String, handle: AgentHandle) {
        self.0.write().insert(name, handle);
    }

    /// Whether a node is one of this process.
    pub fn has(&self, name: &str) -> bool {
        self.0.read().contains_key(name)
    }

    fn find(&self, name: &str) -> Result<AgentHandle, ApiError> {
        let found = self.0.read().get(name).cloned();
        found.ok_or_else(|| ApiError::service_unavailable(format!("node {name:?} is not connected")))
    }
}

#[async_trait]
impl NodeDialer for Nodes {
    async fn refusal(&self, wanted: WantedImage<'_>) -> Option<String> {
        let nodes: Vec<_> = self.0.read().values().cloned().collect();
        let mut refusal = None;
        for node in nodes {
            match node
                .verdict(wanted.image, wanted.pull_policy, wanted.runtime_class)
                .await
            {
                Verdict::Unknown => {}
                Verdict::Fit => return None,
                Verdict::Unfit(why) => refusal = Some(why.to_string()),
            }
        }
        refusal
    }

    async fn get(&self, node: &str, path: &str) -> Result<NodeAnswer, ApiError> {
        let handle = self.find(node)?;
        let told = match handle.tell(path) {
            Some(told) => Some(told),
            None => handle.tell_traffic(path).await,
        };
        let told = told.ok_or_else(|| ApiError::service_unavailable(format!("node {node:?} does not tell {path}")))?;
        Ok(NodeAnswer {
            status: 200,
            content_type: told.content_type.to_owned(),
            body: told.body,
        })
    }

    async fn logs(&self, node: &str, target: &ContainerTarget, options: &LogOptions) -> Result<LogStream, ApiError> {
        let options = coracle_agent::LogOptions {
            follow: options.follow,
            previous: options.previous,
            since_seconds: options.since_seconds,
            since_micros: options.since_micros,
            timestamps: options.timestamps,
            tail_lines: options.tail_lines,
            limit_bytes: options.limit_bytes,
        };
        let node = self.find(node)?;
        let logs = node
            .logs(&target.namespace, &target.pod, &target.uid, &target.container, &options)
            .await;
        logs.map_err(|error: LogError| ApiError::bad_request(error.to_string()))
    }

    async fn connect(&self, node: &str, target: &PodTarget, port: u16) -> Result<Box<dyn Duplex>, ApiError> {
        let node = self.find(node)?;
        match node.dial(&target.namespace, &target.pod, &target.uid, port).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(ApiError::service_unavailable(error.to_string())),
        }
    }

    async fn exec(
        &self,
        node: &str,
        target: &ContainerTarget,
        command: &[String],
        streams: ProcessStreams,
    ) -> Result<i32, ApiError> {
        let node = self.find(node)?;
        let run = node.exec(place(target), &target.container, command.to_vec(), joined(streams));
        run.await.map_err(|error| ApiError::internal(error.to_string()))
    }

    async fn attach(&self, node: &str, target: &ContainerTarget, streams: ProcessStreams) -> Result<i32, ApiError> {
        let node = self.find(node)?;
        let run = node.attach(place(target), &target.container, joined(streams));
        run.await.map_err(|error| ApiError::internal(error.to_string()))
    }
}

fn place(target: &ContainerTarget) -> (&str, &str, &str) {
    (&target.namespace, &target.pod, &target.uid)
}

fn joined(streams: ProcessStreams) -> coracle_agent::Streams {
    coracle_agent::Streams {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        terminal: streams.terminal.map(|sizes| {
            let next = async |mut sizes: tokio::sync::mpsc::Receiver<TerminalSize>| {
                let size = sizes.recv().await?;
                Some(((size.width, size.height), sizes))
            };
            futures::stream::unfold(sizes, next).boxed()
        }),
    }
}

/// The pod network of this process.
pub struct PodNetwork(pub Fabric);

#[async_trait]
impl ClusterDialer for PodNetwork {
    async fn connect(&self, host: &str, port: u16) -> Result<Box<dyn Duplex>, ApiError> {
        match self.0.dial(host, port).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(ApiError::service_unavailable(format!("{host}:{port}: {error}"))),
        }
    }
}
