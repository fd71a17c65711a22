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

use std::sync::Arc;

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
    /// How many nodes.
    pub count: u16,
    /// How long pods take.
    pub delays: Delays,
}

/// Runs the nodes until `shutdown`; `registered` turns true when all are registered.
pub async fn run(config: Config, registered: watch::Sender<bool>, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let writes = Arc::new(Semaphore::new(WRITES_LIMIT));
    let work = async {
        let nodes = node::register_all(&config.client, config.count, &writes).await;
        registered.send_replace(true);
        tokio::join!(
            pods::run(&config, &tasks, &writes),
            lease::keep(&config.client, &nodes, &tasks, &writes),
        );
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
    tasks.close();
    tasks.wait().await;
}
