//! Nodes whose pods only pretend: to watch controllers and the scheduler at a size that no laptop runs.
//!
//! All nodes together are one client of the Kubernetes API: one watch sees their pods, one timer tells when a pod is to
//! be ready or gone, and each such moment is one write. A pod is an entry in a table and no task. They rely on nothing
//! but the API, so they join any cluster; they never touch a pod of a node that is not theirs.

mod addresses;
mod delays;
mod lease;
mod node;
mod pods;
mod status;
mod timers;

use std::{ops::Range, sync::Arc};

use jiff::Timestamp;
use kube::Client;
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use delays::{Delay, Delays};

/// Writes under way at a time: enough to fill the server's group commit, few enough that other clients get their turn.
const WRITES_LIMIT: usize = 64;
/// As many as there are networks for their pods.
pub const MAX_NODES: u16 = 10_000;

/// What the simulation is told.
#[derive(Clone)]
pub struct Config {
    /// Reaches the API server, with the rights of all these nodes.
    pub client: Client,
    /// Which nodes, by their numbers counted from 0.
    pub nodes: Range<u16>,
    /// How long pods take.
    pub delays: Delays,
    /// What the nodes take for the time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Config {
    /// The first `count` nodes, whose pods take no time.
    #[must_use]
    pub fn new(client: Client, count: u16) -> Self {
        Self {
            client,
            nodes: 0..count,
            delays: Delays::default(),
            clock: Arc::new(Timestamp::now),
        }
    }
}

/// Runs the nodes until `shutdown`; `registered` turns true when all are registered.
pub async fn run(config: Config, registered: watch::Sender<bool>, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let writes = Arc::new(Semaphore::new(WRITES_LIMIT));
    let work = async {
        let nodes = node::register_all(&config, &writes).await;
        registered.send_replace(true);
        tokio::join!(
            pods::run(&config, &tasks, &writes),
            lease::keep(&config, &nodes, &tasks, &writes, &shutdown),
            node::keep(&config),
        );
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
    tasks.close();
    tasks.wait().await;
}
