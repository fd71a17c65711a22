//! What the rest of the process may ask a running agent: logs, connections into pods, counts.

use crate::cell::{Object, PodCell};
use crate::exec::{self, ExecError, Streams};
use crate::logs::{LogError, LogOptions, LogTarget};
use crate::node::Node;
use crate::stats::{self, NodeUse, PodUse, Told};
use crate::traffic::Question;
use crate::verdict::{self, Verdict};
use bytes::Bytes;
use coracle_net::{NetError, Stream};
use coracle_runtime::Usage;
use futures::stream::BoxStream;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The node's pods by uid.
pub(crate) type Cells = Arc<RwLock<HashMap<String, Arc<PodCell>>>>;

/// Asks a running agent; cheap to clone.
#[derive(Clone)]
pub struct AgentHandle {
    pub(crate) node: Arc<Node>,
    pub(crate) cells: Cells,
}

/// A pod cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The node does not have it.
    #[error("pod {pod:?} is not on this node")]
    NoPod {
        /// The pod's name.
        pod: String,
    },
    /// It has no network yet, or no more.
    #[error("pod {pod:?} has no address")]
    NoAddress {
        /// The pod's name.
        pod: String,
    },
    /// Nobody answers at the port.
    #[error("port {port} of pod {pod:?}: {source}")]
    Refused {
        /// The pod's name.
        pod: String,
        /// The port.
        port: u16,
        /// Why.
        source: NetError,
    },
}

/// What a container uses.
#[derive(Debug, Clone)]
pub struct ContainerUsage {
    /// The pod's uid.
    pub pod_uid: String,
    /// The container's name.
    pub container: String,
    /// CPU time and memory.
    pub usage: Usage,
}

impl AgentHandle {
    /// What the node knows of an image that a container with this pull policy and runtime class would have.
    pub async fn verdict(&self, image: &str, pull_policy: &str, runtime_class: &str) -> Verdict {
        verdict::verdict(&self.node, image, pull_policy, runtime_class).await
    }

    /// The log of a container. An empty `uid` means the pod that has the name now.
    ///
    /// # Errors
    /// When the pod or container is not here or has not run, or the file cannot be read.
    pub async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        uid: &str,
        container: &str,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, LogError> {
        let Some((uid, cell)) = self.find(namespace, pod, uid) else {
            return Err(LogError::NoPod { pod: pod.to_owned() });
        };
        let target = LogTarget {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            uid,
            container: container.to_owned(),
        };
        let log = cell.log(&target, options.previous)?;
        self.node.logs.read(&target, log, options)
    }

    /// A connection to a port of the pod's own loopback, as port-forward needs it.
    ///
    /// # Errors
    /// When the pod is not here or nobody listens at the port.
    pub async fn dial(&self, namespace: &str, pod: &str, uid: &str, port: u16) -> Result<Stream, DialError> {
        let name = || pod.to_owned();
        let (_, cell) = self
            .find(namespace, pod, uid)
            .ok_or_else(|| DialError::NoPod { pod: name() })?;
        let ip = cell.ip().ok_or_else(|| DialError::NoAddress { pod: name() })?;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let dialled = self.node.fabric.dial_pod(ip, loopback).await;
        dialled.map_err(|source| DialError::Refused {
            pod: name(),
            port,
            source,
        })
    }

    /// Runs a program in a container and returns its exit code. An empty `uid` means the pod that has the name now.
    /// Dropping the future ends the program.
    ///
    /// # Errors
    /// When the container does not run here or the program cannot be started.
    pub async fn exec(
        &self,
        place: (&str, &str, &str),
        container: &str,
        command: Vec<String>,
        streams: Streams,
    ) -> Result<i32, ExecError> {
        let cell = self.cell(place)?;
        exec::exec(&self.node, &cell, container, command, streams).await
    }

    /// Joins the streams of a container that runs, and returns its exit code when it ends. `place` is namespace, name and
    /// uid of the pod.
    ///
    /// # Errors
    /// When the container does not run here.
    pub async fn attach(&self, place: (&str, &str, &str), container: &str, streams: Streams) -> Result<i32, ExecError> {
        let cell = self.cell(place)?;
        exec::attach(&cell, container, streams).await
    }

    fn cell(&self, (namespace, pod, uid): (&str, &str, &str)) -> Result<Arc<PodCell>, ExecError> {
        let found = self.find(namespace, pod, uid);
        found
            .map(|(_, cell)| cell)
            .ok_or_else(|| ExecError::NoPod { pod: pod.to_owned() })
    }

    /// How many pods the node has, ended ones included.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.cells.read().len()
    }

    /// The pods that the node has, as it knows them.
    pub(crate) fn pod_list(&self) -> List<Pod> {
        let cells: Vec<Arc<PodCell>> = self.cells.read().values().cloned().collect();
        List {
            items: cells.iter().map(|cell| (*cell.wanted().pod).clone()).collect(),
            ..List::default()
        }
    }

    /// What all running containers use.
    #[must_use]
    pub fn usage(&self) -> Vec<ContainerUsage> {
        let cells = self.cells.read();
        let of = |(uid, cell): (&String, &Arc<PodCell>)| {
            let pod_uid = uid.clone();
            cell.usage().into_iter().map(move |(container, usage)| ContainerUsage {
                pod_uid: pod_uid.clone(),
                container,
                usage,
            })
        };
        cells.iter().flat_map(of).collect()
    }

    /// Answers a GET of the kubelet's API as far as it tells what pods use; `None` for a path that is not of that kind.
    #[must_use]
    pub fn tell(&self, path: &str) -> Option<Told> {
        let pods = || {
            let cells: Vec<Arc<PodCell>> = self.cells.read().values().cloned().collect();
            let mut pods: Vec<PodUse> = cells.iter().filter_map(|cell| PodUse::of(cell)).collect();
            pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
            pods
        };
        let node = NodeUse {
            name: &self.node.identity.name,
            since: self.node.started,
            memory_bytes: self.node.identity.capacity.memory_bytes,
        };
        stats::tell(path, &node, pods, self.node.clock.now())
    }

    /// Answers a GET that asks for a pod's traffic, as its flow log and captures tell it; `None` for a path that is not of
    /// that kind, or where the pod is not here.
    pub async fn tell_traffic(&self, path: &str) -> Option<Told> {
        let question = Question::parse(path)?;
        let (uid, _) = self.find(&question.namespace, &question.pod, "")?;
        let net = self.node.fabric.pod_by_uid(&uid)?;
        question.answer(net).await
    }

    fn find(&self, namespace: &str, pod: &str, uid: &str) -> Option<(String, Arc<PodCell>)> {
        let cells = self.cells.read();
        if !uid.is_empty() {
            let mirror = Object::Mirror(uid.to_owned());
            let shown = || cells.iter().find(|(_, cell)| cell.object() == mirror);
            let found = cells.get_key_value(uid).or_else(shown);
            return found.map(|(uid, cell)| (uid.clone(), cell.clone()));
        }
        let named = |cell: &PodCell| {
            let metadata = &cell.wanted().pod.metadata;
            metadata.name.as_deref() == Some(pod) && metadata.namespace.as_deref() == Some(namespace)
        };
        cells
            .iter()
            .find(|(_, cell)| named(cell))
            .map(|(uid, cell)| (uid.clone(), cell.clone()))
    }
}
