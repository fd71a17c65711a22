//! The two dialers of the API server, wired to the nodes and the pod network of this process.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use coracle_agent::{AgentHandle, LogError};
use coracle_api::status::ApiError;
use coracle_net::Fabric;
use coracle_server::{ClusterDialer, ContainerTarget, Duplex, LogOptions, LogStream, NodeDialer, PodTarget};
use parking_lot::RwLock;

/// The nodes of this process by name; clones share them.
#[derive(Clone, Default)]
pub struct Nodes(Arc<RwLock<HashMap<String, AgentHandle>>>);

impl Nodes {
    /// Makes a node known.
    pub fn add(&self, name: String, handle: AgentHandle) {
        self.0.write().insert(name, handle);
    }

    fn find(&self, name: &str) -> Result<AgentHandle, ApiError> {
        let found = self.0.read().get(name).cloned();
        found.ok_or_else(|| ApiError::service_unavailable(format!("node {name:?} is not connected")))
    }
}

#[async_trait]
impl NodeDialer for Nodes {
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
