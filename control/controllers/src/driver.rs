//! The one driver for all controllers.
//!
//! It takes a key from the controller's queue, asks the controller for a plan, carries the plan out and waits until the
//! cache has seen the writes; then the key may run again. It guarantees, once for all: a key never runs twice at a
//! time; a controller never decides on a world that lacks its own last write, also where nobody told whether it went
//! through; a conflict or a failure is not retried
//! inside but queued again after the key's own pause; a panic is caught, counted, told, and pauses that key alone.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    ask::{Answers, ROUNDS_LIMIT},
    carry::{Carrier, CarryError, Effect, Outcome},
    clock::Clock,
    doubt::Doubt,
    key::Key,
    plan::{EventDraft, Plan},
    queue::Queue,
    resource::Resource,
    world::{Watch, World},
    writer::WriteError,
};

/// Keys of one controller that are worked on at a time. A turn is mostly waiting for the server and for its own write
/// to come back, so it is more than the machine has cores; it bounds how much of the server one controller takes.
const TURNS_LIMIT: usize = 32;

/// How long a key waits for the cache to see its last write before it has the kind listed anew. A healthy watch needs a
/// millisecond.
const SEEN_LIMIT: Duration = Duration::from_secs(10);

/// How often a key does that. Who decides without having seen what it made makes it again, so it is better to wait; in all
/// five minutes, as long as the controllers of Kubernetes expect to see what they did.
const DOUBTS_LIMIT: usize = 30;

/// What went wrong in a key's last turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Whether it was to create something.
    pub creating: bool,
    /// The HTTP status; 0 if the server did not answer.
    pub code: u16,
    /// What the server said.
    pub message: String,
}

impl Failure {
    /// What went wrong with a request.
    #[must_use]
    pub fn of(error: &WriteError, creating: bool) -> Self {
        let (code, message) = match error {
            WriteError::Api { code, message, .. } => (*code, message.clone()),
            WriteError::Transport(message) => (0, message.clone()),
        };
        Self {
            creating,
            code,
            message,
        }
    }
}

/// What a reconciler is told besides the world.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// The time.
    pub now: Timestamp,
    /// What went wrong in the key's last turn, if anything.
    pub failure: Option<&'a Failure>,
    /// What the server answered to what was asked.
    pub answers: &'a Answers,
}

static NO_ANSWERS: Answers = Answers::none();

impl Turn<'_> {
    /// A turn at `now` after a good one.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self {
            now,
            failure: None,
            answers: &NO_ANSWERS,
        }
    }
}

/// A controller, declared.
pub struct Controller {
    /// Its name in logs and in events.
    pub name: &'static str,
    /// The kind that its keys name, for events about a key itself.
    pub resource: Resource,
    /// The kinds that concern it, and how a changed object maps to its keys.
    pub watches: &'static [Watch],
    /// Decides what to do about a key. Pure.
    pub reconcile: fn(&Key, &World, &Turn<'_>) -> Plan,
}

/// Drives one controller.
pub struct Driver {
    controller: &'static Controller,
    world: World,
    queue: Arc<Queue>,
    carrier: Carrier,
    clock: Clock,
    failures: Mutex<HashMap<Key, Failure>>,
    /// What a key may have made or not.
    doubts: Mutex<HashMap<Key, Vec<Doubt>>>,
    panics: AtomicU64,
}

impl Driver {
    /// A driver of that controller over that world.
    #[must_use]
    pub fn new(controller: &'static Controller, world: World, carrier: Carrier, clock: Clock) -> Self {
        let queue = Arc::new(Queue::new(clock.clone()));
        Self {
            controller,
            world,
            queue,
            carrier,
            clock,
            failures: Mutex::default(),
            doubts: Mutex::default(),
            panics: AtomicU64::new(0),
        }
    }

    /// Where keys are asked for.
    #[must_use]
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Panics caught so far.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Takes keys until `shutdown`; turns that have begun are finished.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let permits = Arc::new(Semaphore::new(TURNS_LIMIT));
        let turns = TaskTracker::new();
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                break;
            };
            let key = tokio::select! {
                () = shutdown.cancelled() => break,
                key = self.queue.next() => key,
            };
            let (driver, stop) = (self.clone(), shutdown.clone());
            let span = tracing::debug_span!("reconcile", controller = self.controller.name, %key);
            turns.spawn(
                async move {
                    driver.turn(&key, &stop).await;
                    driver.queue.done(&key);
                    drop(permit);
                }
                .instrument(span),
            );
        }
        turns.close();
        turns.wait().await;
    }

    async fn turn(&self, key: &Key, shutdown: &CancellationToken) {
        if !self.settle_doubts(key).await {
            return self.queue.failed(key);
        }
        let failure = self.failures.lock().get(key).cloned();
        let Some(plan) = self.plan(key, failure.as_ref()).await else {
            return self.queue.failed(key);
        };
        let requeue_at = plan.requeue_at;
        if !plan.is_settled() {
            tracing::debug!(?plan, "plan");
        }
        let outcome = self.carrier.carry_out(plan, &self.world.graph).await;
        // When all is to stop, the watches stop too.
        shutdown.run_until_cancelled(self.wait_until_seen(&outcome)).await;
        if !outcome.doubts.is_empty() {
            self.doubts.lock().insert(key.clone(), outcome.doubts);
        }
        if let Some(error) = outcome.error {
            self.remember(key, error);
            return;
        }
        self.queue.succeeded(key);
        if self.failures.lock().remove(key).is_some() {
            // The controller may have told of the failure in a status; it takes that back in a turn of its own.
            self.queue.add(key.clone());
        }
        if let Some(when) = requeue_at {
            self.queue.add_at(key.clone(), when);
        }
    }

    /// Waits until the cache knows what became of the key's last creations; false if it does not learn it in time.
    async fn settle_doubts(&self, key: &Key) -> bool {
        let doubts = self.doubts.lock().get(key).cloned().unwrap_or_default();
        for doubt in &doubts {
            let Ok(revision) = self.carrier.settles(doubt).await else {
                return false;
            };
            if !self.world.wait_for(&doubt.resource, revision, SEEN_LIMIT).await {
                return false;
            }
        }
        self.doubts.lock().remove(key);
        true
    }

    /// A plan that asks nothing more; `None` if the controller panicked or asks without end.
    async fn plan(&self, key: &Key, failure: Option<&Failure>) -> Option<Plan> {
        let mut answers = Answers::none();
        for _ in 0..ROUNDS_LIMIT {
            let plan = self.decide(key, failure, &answers)?;
            if plan.asks.is_empty() {
                return Some(plan);
            }
            let asked = plan.asks.iter().map(|ask| self.carrier.ask(ask));
            let answered = futures::future::join_all(asked).await;
            for (ask, answer) in plan.asks.iter().zip(answered) {
                answers.take(ask, answer);
            }
        }
        tracing::error!(controller = self.controller.name, %key, "a reconciler asks without end");
        None
    }

    /// Asks the controller for a plan; `None` if it panicked.
    fn decide(&self, key: &Key, failure: Option<&Failure>, answers: &Answers) -> Option<Plan> {
        let turn = Turn {
            now: self.clock.now(),
            failure,
            answers,
        };
        let decided = catch_unwind(AssertUnwindSafe(|| {
            (self.controller.reconcile)(key, &self.world, &turn)
        }));
        if decided.is_err() {
            let count = self.panics.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::error!(controller = self.controller.name, %key, count, "a reconciler panicked");
            let about = k8s_openapi::api::core::v1::ObjectReference {
                api_version: Some(self.controller.resource.api_version()),
                kind: Some(self.controller.resource.kind.to_string()),
                name: Some(key.name.to_string()),
                namespace: (!key.namespace.is_empty()).then(|| key.namespace.to_string()),
                ..Default::default()
            };
            let message = format!(
                "The {} controller met a bug in itself; it will try again",
                self.controller.name
            );
            self.carrier
                .record(EventDraft::warning(about, "ReconcilePanic", message));
        }
        decided.ok()
    }

    async fn wait_until_seen(&self, outcome: &Outcome) {
        for effect in &outcome.written {
            for _ in 0..DOUBTS_LIMIT {
                let (resource, seen) = match effect {
                    Effect::Seen(resource, revision) => {
                        (resource, self.world.wait_for(resource, *revision, SEEN_LIMIT).await)
                    }
                    Effect::Ended(resource, key, uid) => {
                        (resource, self.world.wait_for_end(resource, key, uid, SEEN_LIMIT).await)
                    }
                };
                if seen {
                    break;
                }
                tracing::warn!(
                    controller = self.controller.name,
                    kind = %resource.kind,
                    "the cache has not seen a write in time; listing anew"
                );
                self.world.doubt(resource);
            }
        }
    }

    fn remember(&self, key: &Key, error: CarryError) {
        match error {
            CarryError::Stale => tracing::debug!("guard failed, looking again"),
            CarryError::Write { error, .. } if error.is_namespace_ending() => {
                // Nothing can be created there any more; the namespace's end takes the key along.
                tracing::debug!(%error, "left to the end of the namespace");
                return self.queue.succeeded(key);
            }
            CarryError::Write { error, .. } if error.is_conflict() => tracing::debug!(%error, "conflict"),
            CarryError::Write { what, creating, error } => {
                tracing::warn!(controller = self.controller.name, %key, %what, %error, "a write failed");
                self.failures.lock().insert(key.clone(), Failure::of(&error, creating));
            }
        }
        self.queue.failed(key);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        events::Recorder,
        plan::{Action, Target},
        resource::PODS,
        world::{Facts, Informers},
        writer::Writer,
    };

    static FRAGILE: Controller = Controller {
        name: "fragile",
        resource: PODS,
        watches: &[],
        reconcile: |key, _, _| {
            let mut plan = Plan::default();
            assert!(&*key.name != "bad", "met the object it cannot handle");
            let target = Target {
                resource: PODS.clone(),
                key: key.clone(),
            };
            plan.change(Action::merge(target, json!({"metadata": {"labels": {"seen": "yes"}}})));
            plan
        },
    };

    #[tokio::test(start_paused = true)]
    async fn a_panic_pauses_its_key_alone_and_is_told_in_an_event() {
        let (told, mut requests) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            let told = told.clone();
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect_bytes().await.unwrap_or_default();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                told.send((line, body)).unwrap();
                Ok::<_, Infallible>(Response::new(Body::from(br#"{"metadata": {"name": "x"}}"#.to_vec())))
            }
        });
        let client = kube::Client::new(service, "default");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let recorder = Recorder::start(client.clone(), Clock::system(), &tasks, stop.clone());
        let world = Informers::new().world(Facts::default());
        let carrier = Carrier::new(Writer::new(client), recorder, FRAGILE.name);
        let driver = Arc::new(Driver::new(&FRAGILE, world, carrier, Clock::system()));
        for name in ["bad", "good", "fine"] {
            driver.queue().add(Key::new("n", name));
        }
        tasks.spawn(driver.clone().run(stop.clone()));
        let (mut written, mut event) = (Vec::new(), None);
        while written.len() < 2 || event.is_none() {
            let (line, body) = requests.recv().await.unwrap();
            if body["reason"] == "ReconcilePanic" {
                event = Some(body);
            } else if line.starts_with("PATCH /api/v1/namespaces/n/pods/") {
                written.push(line);
            }
        }
        written.sort();
        assert!(
            written[0].ends_with("/fine") && written[1].ends_with("/good"),
            "{written:?}"
        );
        let event = event.unwrap();
        assert_eq!(event["involvedObject"]["name"], "bad");
        assert!(driver.panics() > 0);
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }

    static MAKER: Controller = Controller {
        name: "maker",
        resource: PODS,
        watches: &[],
        reconcile: |key, world, _| {
            let mut plan = Plan::default();
            if world.pods.is_empty() {
                plan.change(Action::create(
                    &PODS,
                    &key.namespace,
                    json!({"metadata": {"generateName": "a-"}}),
                ));
            }
            plan
        },
    };

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_made_is_not_made_again_before_the_cache_knows() {
        let (told, mut requests) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            told.send(request.method().to_string()).unwrap();
            async move {
                match request.method().as_str() {
                    "POST" => Err(std::io::Error::other("connection reset")),
                    _ => Ok(Response::new(Body::from(
                        br#"{"metadata": {}, "items": [{"metadata": {"name": "a-1", "resourceVersion": "7"}}]}"#
                            .to_vec(),
                    ))),
                }
            }
        });
        let client = kube::Client::new(service, "default");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let recorder = Recorder::start(client.clone(), Clock::system(), &tasks, stop.clone());
        let informers = Informers::new();
        let carrier = Carrier::new(Writer::new(client), recorder, MAKER.name);
        let driver = Arc::new(Driver::new(
            &MAKER,
            informers.world(Facts::default()),
            carrier,
            Clock::system(),
        ));
        let key = Key::new("n", "set");
        driver.turn(&key, &CancellationToken::new()).await;
        assert_eq!(requests.recv().await.as_deref(), Some("POST"));

        // The cache has not seen the pod, so this turn ends without a decision.
        driver.turn(&key, &CancellationToken::new()).await;
        assert_eq!(requests.recv().await.as_deref(), Some("GET"));

        informers.pods.see(
            serde_json::from_value(json!({"metadata": {"name": "a-1", "namespace": "n", "resourceVersion": "7"}}))
                .unwrap(),
        );
        driver.turn(&key, &CancellationToken::new()).await;
        assert_eq!(requests.recv().await.as_deref(), Some("GET"));
        assert!(requests.try_recv().is_err(), "it was not made twice");
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
