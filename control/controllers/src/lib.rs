//! The controllers: each watches a few kinds and keeps one thing true.
//!
//! Every controller is a pure function from a key and what is known of the world to a [`plan::Plan`]; one driver
//! carries all plans out. This crate is a client of the Kubernetes API and relies on nothing else: it runs against
//! any API server that the given client reaches. It must never keep state that a restart would miss.

use tokio_util::sync::CancellationToken;

/// What the controllers need from whoever starts them.
#[derive(Clone)]
pub struct Config {
    /// Reaches the API server, with the rights of `system:kube-controller-manager`.
    pub client: kube::Client,
    /// PEM of the cluster's certificate authority; published in each namespace as ConfigMap `kube-root-ca.crt`.
    pub root_ca_pem: Option<String>,
}

impl Config {
    /// The defaults, for this client.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self { client, root_ca_pem: None }
    }
}

/// Runs all controllers until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) {
    drop(config);
    shutdown.cancelled().await;
}
