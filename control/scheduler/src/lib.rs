//! The scheduler: gives each pod that has no node the best node that fits.
//!
//! It is a client of the Kubernetes API and relies on nothing else. It must never write to a pod except through its
//! binding and its status.

pub mod candidate;
pub mod cluster;
pub mod cycle;
pub mod plugins;
pub mod queue;
pub mod resources;
pub mod scheduler;

use std::{sync::Arc, time::Duration};

use coracle_controllers::{
    clock::Clock,
    events::Recorder,
    informer::{Informer, Scope},
    resource::{NODES, PODS},
    world::Informers,
    writer::Writer,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::scheduler::Scheduler;

/// What the scheduler needs from whoever starts it.
#[derive(Clone)]
pub struct Config {
    /// Reaches the API server, with the rights of `system:kube-scheduler`.
    pub client: kube::Client,
    /// Pods that name this scheduler are scheduled; all others are left alone.
    pub scheduler_name: String,
    /// What the scheduler takes for the time.
    pub clock: Clock,
    /// Informers that somebody else in the process runs; without them the scheduler runs its own.
    pub informers: Option<Arc<Informers>>,
}

impl Config {
    /// The defaults, for this client.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self {
            client,
            scheduler_name: "default-scheduler".to_owned(),
            clock: Clock::system(),
            informers: None,
        }
    }
}

/// Schedules pods until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let recorder = Recorder::start(config.client.clone(), config.clock.clone(), &tasks, shutdown.clone());
    let writer = Writer::new(config.client.clone());
    let (pods, nodes) = match &config.informers {
        Some(shared) => (shared.pods.clone(), shared.nodes.clone()),
        None => {
            let (pods, nodes) = (
                Arc::new(Informer::new(Scope::all(PODS))),
                Arc::new(Informer::new(Scope::all(NODES))),
            );
            let running = (pods.clone(), nodes.clone());
            let (client, stop) = (config.client.clone(), shutdown.clone());
            tasks.spawn(async move { running.0.run(client, stop).await });
            let (client, stop) = (config.client, shutdown.clone());
            tasks.spawn(async move { running.1.run(client, stop).await });
            (pods, nodes)
        }
    };
    let scheduler = Arc::new(Scheduler::new(config.scheduler_name, config.clock, writer, recorder));
    scheduler.listen(&pods, &nodes);
    // Deciding on half a world would crowd the nodes that were heard of first.
    let synced = async {
        nodes.store().wait_for(1, Duration::MAX).await;
        pods.store().wait_for(1, Duration::MAX).await;
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = synced => scheduler.run(tasks.clone(), shutdown.clone()).await,
    }
    tasks.close();
    tasks.wait().await;
}
