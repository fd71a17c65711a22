//! The controllers: each watches a few kinds and keeps one thing true.
//!
//! Every controller is a pure function from a key and what is known of the world to a [`plan::Plan`]; one driver
//! carries all plans out. This crate is a client of the Kubernetes API and relies on nothing else: it runs against
//! any API server that the given client reaches. It must never keep state that a restart would miss.

pub mod amount;
pub mod ask;
pub mod autoscaler;
pub mod bootstrap;
pub mod carry;
pub mod certificate;
pub mod choice;
pub mod clock;
pub mod cluster_role;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod discovery;
pub mod disruption;
pub mod disruption_target;
pub mod doubt;
pub mod driver;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
pub mod events;
pub mod garbage;
pub mod graph;
pub mod guard;
pub mod history;
pub mod informer;
pub mod job;
pub mod key;
pub mod leader;
pub mod merge;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod node_ttl;
pub mod others;
pub mod owner;
pub mod placement;
pub mod plan;
pub mod pod_collector;
pub mod pods;
pub mod queue;
pub mod replicaset;
pub mod replication_controller;
pub mod resource;
pub mod resource_claim;
pub mod resource_quota;
pub mod root_ca;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod scene;
pub mod service;
pub mod service_account;
#[cfg(test)]
mod simulation;
pub mod stateful_set;
pub mod store;
pub mod taint_eviction;
pub mod template;
pub mod ttl_after_finished;
pub mod victims;
pub mod volume;
mod without;
pub mod world;
pub mod writer;

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    carry::Carrier,
    clock::Clock,
    driver::{Controller, Driver},
    events::Recorder,
    others::Others,
    world::{Facts, Informers, World},
    writer::Writer,
};

/// All controllers. A new one is a file and a line here.
pub static CONTROLLERS: [&Controller; 37] = [
    &deployment::CONTROLLER,
    &replicaset::CONTROLLER,
    &replication_controller::CONTROLLER,
    &job::CONTROLLER,
    &cron_job::CONTROLLER,
    &stateful_set::CONTROLLER,
    &daemon_set::CONTROLLER,
    &ttl_after_finished::CONTROLLER,
    &disruption::CONTROLLER,
    &endpointslice::CONTROLLER,
    &endpoints::CONTROLLER,
    &namespace::CONTROLLER,
    &service_account::CONTROLLER,
    &root_ca::CONTROLLER,
    &cluster_role::CONTROLLER,
    &garbage::CONTROLLER,
    &node_lifecycle::CONTROLLER,
    &taint_eviction::CONTROLLER,
    &pod_collector::CONTROLLER,
    &autoscaler::CONTROLLER,
    &node_ipam::CONTROLLER,
    &node_ttl::CONTROLLER,
    &volume::binder::CONTROLLER,
    &volume::reclaimer::CONTROLLER,
    &volume::provisioner::CONTROLLER,
    &volume::expander::CONTROLLER,
    &volume::ephemeral::CONTROLLER,
    &volume::protection::CLAIMS,
    &volume::protection::VOLUMES,
    &resource_claim::maker::CONTROLLER,
    &resource_claim::releaser::CONTROLLER,
    &endpointslice_mirroring::CONTROLLER,
    &resource_quota::CONTROLLER,
    &certificate::approver::CONTROLLER,
    &certificate::cleaner::CONTROLLER,
    &bootstrap::signer::CONTROLLER,
    &bootstrap::cleaner::CONTROLLER,
];

/// What the controllers need from whoever starts them.
#[derive(Clone)]
pub struct Config {
    /// Reaches the API server, with the rights of `system:kube-controller-manager`.
    pub client: kube::Client,
    /// What no object tells of the cluster.
    pub facts: Facts,
    /// What the controllers take for the time.
    pub clock: Clock,
    /// The informers to share with others in the process; they are started here.
    pub informers: Arc<Informers>,
    /// The controllers that run, of [`CONTROLLERS`].
    pub controllers: Vec<&'static Controller>,
}

impl Config {
    /// The defaults, for this client.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self {
            client,
            facts: Facts::default(),
            clock: Clock::system(),
            informers: Arc::new(Informers::new()),
            controllers: CONTROLLERS.to_vec(),
        }
    }
}

/// Runs the controllers until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = start(&config, &tasks, &shutdown) => {}
    }
    tasks.close();
    tasks.wait().await;
}

async fn start(config: &Config, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let informers = &config.informers;
    let world = informers.world(config.facts.clone());
    let recorder = Recorder::start(config.client.clone(), config.clock.clone(), tasks, shutdown.clone());
    let drivers: Vec<Arc<Driver>> = config
        .controllers
        .iter()
        .map(|controller| driver(controller, config, &world, &recorder))
        .collect();
    let offered = others::offered(&config.client).await;
    let fed = informers.feed(&world.graph, |kind| offered.contains(kind));
    informers.start(&offered, &config.client, tasks, shutdown);
    let graph = world.graph.clone();
    let others = Others::start(config.client.clone(), graph, fed, tasks.clone(), shutdown.clone()).await;
    world.synced().await;
    others.synced().await;
    let stop = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = others.keep() => {}
        }
    });
    tracing::info!(controllers = drivers.len(), "controllers are in sync");
    for driver in drivers {
        tasks.spawn(driver.run(shutdown.clone()));
    }
}

fn driver(controller: &'static Controller, config: &Config, world: &World, recorder: &Recorder) -> Arc<Driver> {
    let carrier = Carrier::new(Writer::new(config.client.clone()), recorder.clone(), controller.name);
    let driver = Arc::new(Driver::new(controller, world.clone(), carrier, config.clock.clone()));
    for watch in controller.watches {
        let queue = driver.queue().clone();
        config.informers.subscribe(watch, world, move |key| queue.add(key));
    }
    driver
}
