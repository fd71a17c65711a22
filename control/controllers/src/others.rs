//! Follows the metadata of all kinds that no shared informer covers, for the graph of owners, and notices when kinds come
//! and go: those that users define must be collected and emptied out of namespaces like all others.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::Client;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    discovery,
    graph::Graph,
    informer::{Informer, Scope},
    resource::{DEFINITIONS, Resource},
    store::Metadata,
};

/// The pause before the server is asked again which kinds it offers, while it does not answer.
const DISCOVERY_RETRY: Duration = Duration::from_millis(100);

/// The informers of kinds that only the graph needs.
pub struct Others {
    client: Client,
    graph: Arc<Graph>,
    /// The kinds that shared informers cover.
    fed: Vec<Resource>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    running: HashMap<Resource, Running>,
    /// Told when a definition changes.
    changed: Arc<Notify>,
}

struct Running {
    informer: Arc<Informer<Metadata>>,
    stop: CancellationToken,
}

/// The kinds that the server offers; asks until it answers.
pub async fn offered(client: &Client) -> Vec<Resource> {
    loop {
        match discovery::deletable(client).await {
            Ok(offered) => return offered,
            // A group that goes between two questions is no failure, but the answer has to be a whole one.
            Err(error) => {
                tracing::warn!(%error, "the server does not tell its kinds");
                tokio::time::sleep(DISCOVERY_RETRY).await;
            }
        }
    }
}

impl Others {
    /// Starts to follow what the server offers now, as soon as it answers.
    pub async fn start(
        client: Client,
        graph: Arc<Graph>,
        fed: Vec<Resource>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let mut others = Self {
            client,
            graph,
            fed,
            tasks,
            shutdown,
            running: HashMap::new(),
            changed: Arc::default(),
        };
        others.look().await;
        others
    }

    /// Waits until every kind has been listed once.
    pub async fn synced(&self) {
        for running in self.running.values() {
            running.informer.store().wait_for(1, Duration::MAX).await;
        }
    }

    /// Looks again whenever a definition changes, for ever.
    pub async fn keep(mut self) {
        loop {
            self.changed.notified().await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let offered = offered(&self.client).await;
        self.settle(&offered);
    }

    fn settle(&mut self, offered: &[Resource]) {
        let gone: Vec<Resource> = self
            .running
            .keys()
            .filter(|kind| !offered.contains(kind))
            .cloned()
            .collect();
        for kind in gone {
            if let Some(running) = self.running.remove(&kind) {
                running.stop.cancel();
                self.graph.uncover(&kind);
            }
        }
        for kind in offered {
            if !self.fed.contains(kind) && !self.running.contains_key(kind) {
                let running = self.follow(kind);
                self.running.insert(kind.clone(), running);
            }
        }
    }

    fn follow(&self, kind: &Resource) -> Running {
        let informer = Arc::new(Informer::new(Scope {
            metadata_only: true,
            ..Scope::all(kind.clone())
        }));
        self.graph.follow(&informer, kind);
        if *kind == DEFINITIONS {
            let changed = self.changed.clone();
            informer.subscribe(move |_| changed.notify_one());
        }
        let stop = self.shutdown.child_token();
        let (follower, client, until) = (informer.clone(), self.client.clone(), stop.clone());
        self.tasks.spawn(async move { follower.run(client, until).await });
        Running { informer, stop }
    }
}
