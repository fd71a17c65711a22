//! The parts of the cluster besides the server: controllers, scheduler, nodes. Each can crash at any moment, and come back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use coracle_simulated::Delays;
use rand::{RngExt, rngs::StdRng};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    faults::{Faults, Link},
    server::House,
};

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Controllers,
    Scheduler,
    /// Counted from 0.
    Node(u16),
}

impl Part {
    pub fn name(self) -> String {
        match self {
            Self::Controllers => "controllers".to_owned(),
            Self::Scheduler => "scheduler".to_owned(),
            Self::Node(index) => format!("simulated-{}", index + 1),
        }
    }
}

struct Running {
    /// What ends at a crash: the way to the server.
    life: CancellationToken,
    /// What then ends the tasks.
    stop: CancellationToken,
}

/// The parts that run.
pub struct Parts {
    pub house: Arc<House>,
    pub faults: Arc<Faults>,
    running: BTreeMap<Part, Running>,
}

impl Parts {
    pub fn new(house: Arc<House>, faults: Arc<Faults>) -> Self {
        Self {
            house,
            faults,
            running: BTreeMap::new(),
        }
    }

    pub fn runs(&self, part: Part) -> bool {
        self.running.contains_key(&part)
    }

    /// A client of the server that acts as that user and ends with that life.
    pub fn client(
        &self,
        part: &str,
        user: &'static str,
        groups: &'static [&'static str],
        slow: Duration,
        life: CancellationToken,
    ) -> kube::Client {
        let link = Link {
            part: part.into(),
            user,
            groups,
            house: self.house.clone(),
            faults: self.faults.clone(),
            slow,
            life,
        };
        link.client()
    }

    /// Starts a part, unless it runs.
    pub fn start(&mut self, part: Part, draws: &mut StdRng) {
        if self.runs(part) {
            return;
        }
        let (life, stop) = (CancellationToken::new(), CancellationToken::new());
        let name = part.name();
        self.house.ledger.tell(format!("-- {name} starts"));
        let client = |user, groups, slow| self.client(&name, user, groups, slow, life.clone());
        let clock = self.house.time.clock();
        match part {
            Part::Controllers => {
                let client = client("system:kube-controller-manager", &[], Duration::ZERO);
                let mut config = coracle_controllers::Config::new(client);
                config.clock = clock;
                config.facts.root_ca_pem = Some("pem".to_owned());
                tokio::spawn(coracle_controllers::run(config, stop.clone()));
            }
            Part::Scheduler => {
                let client = client("system:kube-scheduler", &[], Duration::ZERO);
                let mut config = coracle_scheduler::Config::new(client);
                config.clock = clock;
                tokio::spawn(coracle_scheduler::run(config, stop.clone()));
            }
            Part::Node(index) => {
                let slow = Duration::from_millis(if draws.random_ratio(1, 6) { 1500 } else { 0 });
                let client = client("coracle:simulated-nodes", &["system:masters"], slow);
                let config = coracle_simulated::Config {
                    nodes: index..index + 1,
                    delays: delays(),
                    clock: Arc::new(move || clock.now()),
                    ..coracle_simulated::Config::new(client, 1)
                };
                let registered = tokio::sync::watch::channel(false).0;
                tokio::spawn(coracle_simulated::run(config, registered, stop.clone()));
            }
        }
        self.running.insert(part, Running { life, stop });
    }

    /// Ends a part at once: nothing that it has under way is heard of again.
    pub fn crash(&mut self, part: Part) {
        if let Some(Running { life, stop }) = self.running.remove(&part) {
            self.house.ledger.tell(format!("-- {} crashes", part.name()));
            life.cancel();
            stop.cancel();
        }
    }
}

/// How long pods take.
fn delays() -> Delays {
    serde_json::from_value(json!({
        "start_milliseconds": [10, 2500], "stop_milliseconds": [10, 2500],
        "images": {"slow": {"start_milliseconds": 8000}, "task": {"run_milliseconds": [100, 6000]}},
    }))
    .unwrap()
}
