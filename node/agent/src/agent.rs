//! An agent: built from a `Config`, running until its shutdown.

use crate::address::{AddressError, AddressPool};
use crate::config::Config;
use crate::events;
use crate::handle::{AgentHandle, Cells};
use crate::image_files::ImageFiles;
use crate::logs::Logs;
use crate::node::{MAX_REQUESTS, Node};
use crate::objects::Objects;
use crate::pods;
use crate::{lease, policies, proxy, register};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The kubelet's part of one node.
pub struct Agent {
    node: Arc<Node>,
    cells: Cells,
    proxy_client: kube::Client,
    writer: events::Writer,
    static_pods: Option<watch::Receiver<Vec<Pod>>>,
    registered: watch::Sender<bool>,
}

/// An agent cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The pod network is none.
    #[error(transparent)]
    PodCidr(#[from] AddressError),
    /// A directory cannot be made.
    #[error("cannot make the directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Agent {
    /// Checks the configuration; starts nothing.
    ///
    /// # Errors
    /// When the pod network is none or a directory cannot be made.
    pub fn build(config: Config) -> Result<Self, BuildError> {
        for path in [&config.pods_dir, &config.logs_dir] {
            std::fs::create_dir_all(path).map_err(|source| BuildError::Directory {
                path: path.clone(),
                source,
            })?;
        }
        let addresses = AddressPool::new(&config.identity.pod_cidr)?;
        let mut identity = config.identity;
        identity.capacity.pods = identity.capacity.pods.min(u64::from(addresses.size()));
        let (recorder, writer) = events::channel(config.client.clone(), config.clock.clone(), identity.name.clone());
        let node = Node {
            objects: Objects::new(config.client.clone()),
            logs: Logs::new(config.logs_dir, config.clock.clone()),
            identity,
            client: config.client.clone(),
            fabric: config.fabric,
            addresses,
            images: config.images,
            image_files: ImageFiles::default(),
            runtime: config.runtime,
            recorder,
            pods_dir: config.pods_dir,
            volumes_dir: config.volumes_dir,
            host_paths: config.host_paths,
            restart_backoff: config.restart_backoff,
            create_backoff: config.create_backoff,
            started: config.clock.now(),
            clock: config.clock,
            ledger: Mutex::default(),
            requests: Semaphore::new(MAX_REQUESTS),
            modules: Mutex::new(HashMap::new()),
            verdicts: Mutex::default(),
        };
        Ok(Self {
            node: Arc::new(node),
            cells: Cells::default(),
            proxy_client: config.proxy_client.unwrap_or(config.client),
            writer,
            static_pods: config.static_pods,
            registered: watch::Sender::new(false),
        })
    }

    /// Asks the agent while it runs.
    #[must_use]
    pub fn handle(&self) -> AgentHandle {
        AgentHandle {
            node: self.node.clone(),
            cells: self.cells.clone(),
        }
    }

    /// Turns true when the node object is there and ready.
    #[must_use]
    pub fn registered(&self) -> watch::Receiver<bool> {
        self.registered.subscribe()
    }

    /// Runs until the shutdown. Containers end with it; the API is not told, so that they start again with the next agent.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self {
            node,
            cells,
            proxy_client,
            writer,
            static_pods,
            registered,
        } = self;
        let stop = shutdown.child_token();
        let tasks = TaskTracker::new();
        let (synced_sender, services_synced) = watch::channel(false);
        let (policies_sender, policies_synced) = watch::channel(false);
        tasks.spawn(writer.run(stop.clone()));
        tasks.spawn(proxy::run(
            proxy_client.clone(),
            node.fabric.clone(),
            synced_sender,
            stop.clone(),
        ));
        tasks.spawn(policies::run(
            proxy_client,
            node.fabric.clone(),
            policies_sender,
            stop.clone(),
        ));
        let synced = [services_synced, policies_synced];
        tasks.spawn(pods::run(node.clone(), cells, static_pods, synced, stop.clone()));
        if let Some(uid) = register::register(&node.client, &node.identity, &node.clock, &stop).await {
            tracing::info!(node = %node.identity.name, pods = node.identity.capacity.pods, "the node is registered");
            registered.send_replace(true);
            let name = node.identity.name.clone();
            tasks.spawn(lease::run(
                node.client.clone(),
                node.clock.clone(),
                name,
                uid,
                stop.clone(),
            ));
            let heartbeat = register::heartbeat(
                node.client.clone(),
                node.identity.clone(),
                node.clock.clone(),
                stop.clone(),
            );
            tasks.spawn(heartbeat);
        }
        tasks.close();
        tasks.wait().await;
    }
}
