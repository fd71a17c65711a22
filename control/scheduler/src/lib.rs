//! The scheduler: gives each pod that has no node the best node that fits.
//!
//! It is a client of the Kubernetes API and relies on nothing else. It must never write to a pod except through its
//! binding and its status.

use tokio_util::sync::CancellationToken;

/// What the scheduler needs from whoever starts it.
#[derive(Clone)]
pub struct Config {
    /// Reaches the API server, with the rights of `system:kube-scheduler`.
    pub client: kube::Client,
    /// Pods that name this scheduler are scheduled; all others are left alone.
    pub scheduler_name: String,
}

impl Config {
    /// The defaults, for this client.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self { client, scheduler_name: "default-scheduler".to_owned() }
    }
}

/// Schedules pods until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) {
    drop(config);
    shutdown.cancelled().await;
}
