//! The scheduler: gives each pod that has no node the best node that fits.
//!
//! It is a client of the Kubernetes API and relies on nothing else. It must never write to a pod except through its
//! binding and its status.

pub mod affinity;
pub mod attractions;
pub mod binding;
pub mod budgets;
pub mod candidate;
pub mod cluster;
pub mod crowds;
pub mod cycle;
pub mod devices;
pub mod domains;
pub mod granting;
pub mod happening;
pub mod images;
pub mod informers;
pub mod node_info;
pub mod nodes;
pub mod nominations;
pub mod plugins;
pub mod posting;
pub mod preemption;
pub mod queue;
pub mod report;
pub mod resources;
pub mod scheduler;
pub mod selection;
pub mod services;
pub mod spread;
pub mod volumes;

use std::sync::Arc;

use coracle_controllers::{clock::Clock, events::Recorder, world::Informers, writer::Writer};
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
    let scheduler = Arc::new(Scheduler::new(config.scheduler_name, config.clock, writer, recorder));
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = async {
            informers::follow(&scheduler, &config.client, config.informers.as_ref(), &tasks, &shutdown).await;
            scheduler.run(tasks.clone(), shutdown.clone()).await;
        } => {}
    }
    tasks.close();
    tasks.wait().await;
}
