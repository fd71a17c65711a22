//! One simulation from its beginning to its end.

use std::time::Duration;

use http::Method;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    faults::Faults,
    ledger::Ledger,
    parts::{Part, Parts},
    server::House,
    settled,
    time::Time,
    user::{CRON_JOBS, NAMESPACES, User, pick},
};

/// Things that users do, or that crash, in one simulation.
const STEPS: usize = 40;
/// Nodes there may be.
const NODES: u16 = 4;
/// How long nobody may write before the cluster is said to be at rest: longer than anything waits that will act by itself.
const REST: Duration = Duration::from_secs(300);
/// How long the cluster may take to come to rest: what has failed very often is tried again after 1000 seconds.
const PATIENCE: Duration = Duration::from_secs(4000);

/// What comes back, and when.
#[derive(Debug)]
enum Return {
    Server,
    Part(Part),
}

struct Story {
    house: std::sync::Arc<House>,
    parts: Parts,
    user: User,
    draws: StdRng,
    returns: Vec<(Duration, Return)>,
}

/// Runs the simulation of that seed; how a law was broken, if one was.
pub async fn run(seed: u64) -> Option<String> {
    let time = Time::begin();
    let faults = Faults::new(seed ^ 0xfa17);
    let house = House::build(time, seed, faults.clone()).await;
    let parts = Parts::new(house.clone(), faults);
    let mut story = Story {
        user: User::new(&parts),
        parts,
        house,
        draws: StdRng::seed_from_u64(seed),
        returns: Vec::new(),
    };
    story.begin().await;
    for _ in 0..STEPS {
        story.step().await;
        if let Some(broken) = story.ledger().broken() {
            return Some(broken);
        }
    }
    story.end().await;
    story.ledger().broken()
}

impl Story {
    fn ledger(&self) -> &Ledger {
        &self.house.ledger
    }

    async fn begin(&mut self) {
        self.ledger().step("the beginning".to_owned());
        self.parts.start(Part::Controllers, &mut self.draws);
        self.parts.start(Part::Scheduler, &mut self.draws);
        for node in 0..self.draws.random_range(2..=NODES) {
            self.parts.start(Part::Node(node), &mut self.draws);
        }
        for namespace in NAMESPACES {
            self.user.make_namespace(namespace).await;
        }
        self.pass(Duration::from_secs(2)).await;
    }

    async fn step(&mut self) {
        match self.draws.random_range(0..100) {
            0..5 => self.crash_server().await,
            5..10 => self.crash(Part::Controllers, 20),
            10..14 => self.crash(Part::Scheduler, 20),
            14..20 => self.crash_node().await,
            20..24 => self.remove_node().await,
            24..27 => self.add_node(),
            27..30 => self.uncordon().await,
            30..33 => self.make_namespaces().await,
            _ => self.user.act(&mut self.draws).await,
        }
        let pause = match self.draws.random_range(0..10) {
            0..4 => 200,
            4..9 => 4_000,
            _ => 60_000,
        };
        let pause = Duration::from_millis(self.draws.random_range(0..pause));
        self.pass(pause).await;
    }

    /// Lets time pass; what was to come back in it comes back.
    async fn pass(&mut self, pause: Duration) {
        let until = self.house.time.passed() + pause;
        loop {
            let next = self.returns.iter().enumerate().min_by_key(|(_, (when, _))| *when);
            let Some((index, when)) = next
                .map(|(index, (when, _))| (index, *when))
                .filter(|(_, when)| *when <= until)
            else {
                break;
            };
            sleep(when.saturating_sub(self.house.time.passed())).await;
            let (_, back) = self.returns.remove(index);
            self.comes_back(back).await;
        }
        sleep(until.saturating_sub(self.house.time.passed())).await;
    }

    async fn comes_back(&mut self, back: Return) {
        match back {
            Return::Server => {
                self.ledger().tell("-- the server starts".to_owned());
                self.house.start().await;
            }
            Return::Part(part) => self.parts.start(part, &mut self.draws),
        }
    }

    fn later(&mut self, most_seconds: u64, back: Return) {
        let after = Duration::from_millis(self.draws.random_range(0..most_seconds * 1000));
        self.returns.push((self.house.time.passed() + after, back));
    }

    async fn crash_server(&mut self) {
        if self.house.current().is_some() {
            self.ledger().step("the server crashes".to_owned());
            self.house.crash().await;
            self.later(8, Return::Server);
        }
    }

    fn crash(&mut self, part: Part, most_seconds: u64) {
        if self.parts.runs(part) {
            self.ledger().step(format!("{} crashes", part.name()));
            self.parts.crash(part);
            self.later(most_seconds, Return::Part(part));
        }
    }

    fn running_nodes(&self) -> Vec<Part> {
        (0..NODES)
            .map(Part::Node)
            .filter(|part| self.parts.runs(*part))
            .collect()
    }

    async fn crash_node(&mut self) {
        let nodes = self.running_nodes();
        let Some(node) = pick(&mut self.draws, &nodes).copied() else {
            return;
        };
        // Some are away for a moment, some until they are given up, some until their pods are.
        let most = [10, 120, 600][self.draws.random_range(0..3)];
        self.crash(node, most);
    }

    /// A node breaks for good, and its object is deleted.
    async fn remove_node(&mut self) {
        let nodes = self.running_nodes();
        if nodes.len() < 2 {
            return;
        }
        let Some(node) = pick(&mut self.draws, &nodes).copied() else {
            return;
        };
        self.ledger().step(format!("{} is removed", node.name()));
        self.parts.crash(node);
        self.pass(Duration::from_secs(1)).await;
        self.user.remove(&node.name()).await;
    }

    fn add_node(&mut self) {
        let away = |story: &Self, node: &Part| !story.parts.runs(*node) && !story.comes(*node);
        let nodes: Vec<Part> = (0..NODES).map(Part::Node).filter(|node| away(self, node)).collect();
        if let Some(node) = pick(&mut self.draws, &nodes).copied() {
            self.ledger().step(format!("{} is added", node.name()));
            self.parts.start(node, &mut self.draws);
        }
    }

    fn comes(&self, part: Part) -> bool {
        self.returns
            .iter()
            .any(|(_, back)| matches!(back, Return::Part(comes) if *comes == part))
    }

    async fn uncordon(&mut self) {
        self.ledger().step("all nodes are open again".to_owned());
        for node in self.running_nodes() {
            self.user.uncordon(&node.name()).await;
        }
    }

    async fn make_namespaces(&mut self) {
        self.ledger().step("the namespaces are there".to_owned());
        for namespace in NAMESPACES {
            self.user.make_namespace(namespace).await;
        }
    }

    /// The faults end, everything comes back, and the cluster has to come to rest.
    async fn end(&mut self) {
        self.ledger().step("the end".to_owned());
        self.parts.faults.end();
        for (_, back) in std::mem::take(&mut self.returns) {
            self.comes_back(back).await;
        }
        for node in (0..NODES).map(Part::Node) {
            let path = format!("/api/v1/nodes/{}", node.name());
            match self.parts.runs(node) {
                true => {
                    let open = json!({"spec": {"unschedulable": null}});
                    self.user.insist(Method::PATCH, &path, open).await;
                }
                false => self.user.insist(Method::DELETE, &path, Value::Null).await,
            }
        }
        for namespace in NAMESPACES {
            let path = format!("/api/v1/namespaces/{namespace}/resourcequotas/quota");
            self.user.insist(Method::DELETE, &path, Value::Null).await;
            // Nothing comes to rest that makes a Job each minute.
            for name in CRON_JOBS {
                let path = format!("/apis/batch/v1/namespaces/{namespace}/cronjobs/{name}");
                let suspended = json!({"spec": {"suspend": true}});
                self.user.insist(Method::PATCH, &path, suspended).await;
            }
        }
        let began = self.house.time.passed();
        loop {
            sleep(Duration::from_secs(10)).await;
            let now = self.house.time.passed();
            let rests = now - self.ledger().writes().1 >= REST;
            let late = now - began > PATIENCE;
            if !rests && !late {
                continue;
            }
            let missing = self
                .ledger()
                .look(|objects| settled::missing(objects, &self.house.snapshot(), &self.house.loads));
            match (rests, missing.is_empty()) {
                (true, true) => return,
                (false, _) if late => return self.ledger().breaks("the cluster never stops writing".to_owned()),
                (_, false) if late => return self.ledger().breaks(format!("at the end {}", missing.join("; "))),
                _ => {}
            }
        }
    }
}
