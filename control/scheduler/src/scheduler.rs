//! The loop: take the next pod, decide, reserve, bind.
//!
//! Informers tell of changes; each change is taken in under one short lock and wakes the loop at once. A decision is
//! made under the same lock and holds no await, so it sees a world that stands still. Binding runs beside the next
//! decision: the chosen node counts the pod from the moment of the decision.

use std::sync::Arc;

use coracle_controllers::{
    clock::Clock,
    events::Recorder,
    informer::Informer,
    plan::{Action, EventDraft, Target, reference},
    pods,
    resource::{NODES, PODS},
    store::Change,
    writer::{WriteError, Writer},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::core::Request;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    candidate::Candidate,
    cluster::Cluster,
    cycle::{self, Unfit},
    queue::{Happening, Queue},
};

/// Writes in flight at a time: enough that the store's group commit is full, bounded so that a thousand new pods do
/// not become a thousand requests at once.
const WRITES_LIMIT: usize = 128;

/// Who tells the events.
const COMPONENT: &str = "default-scheduler";

#[derive(Default)]
struct State {
    cluster: Cluster,
    queue: Queue,
}

/// What one look at the queue came to.
enum Step {
    Bind(Arc<Candidate>, Arc<str>),
    Report(Arc<Candidate>, Unfit),
    Wait(Option<Timestamp>),
}

/// The scheduler.
pub struct Scheduler {
    name: String,
    clock: Clock,
    writer: Writer,
    recorder: Recorder,
    state: Mutex<State>,
    changed: Notify,
    writes: Semaphore,
}

impl Scheduler {
    /// A scheduler of the pods that name it.
    #[must_use]
    pub fn new(name: String, clock: Clock, writer: Writer, recorder: Recorder) -> Self {
        let (state, changed, writes) = (Mutex::default(), Notify::new(), Semaphore::new(WRITES_LIMIT));
        Self {
            name,
            clock,
            writer,
            recorder,
            state,
            changed,
            writes,
        }
    }

    /// Learns of changes from these informers.
    pub fn listen(self: &Arc<Self>, pods: &Informer<Pod>, nodes: &Informer<Node>) {
        let scheduler = self.clone();
        nodes.subscribe(move |change| scheduler.saw_node(change));
        let scheduler = self.clone();
        pods.subscribe(move |change| scheduler.saw_pod(change));
    }

    fn saw_node(&self, change: &Change<Node>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        match (&change.old, &change.new) {
            (old, Some(new)) => {
                // Heartbeats change conditions only; those help nobody.
                if old.as_ref().is_some_and(|old| same_offer(old, new)) {
                    return;
                }
                state.cluster.put_node(new.clone());
                let happening = if old.is_some() {
                    Happening::NodeChanged
                } else {
                    Happening::NodeAdded
                };
                state.queue.wake(happening, now);
            }
            (Some(old), None) => state
                .cluster
                .remove_node(old.metadata.name.as_deref().unwrap_or_default()),
            (None, None) => {}
        }
        drop(state);
        self.changed.notify_one();
    }

    fn saw_pod(&self, change: &Change<Pod>) {
        let Some(pod) = change.latest() else { return };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let now = self.clock.now();
        let mut state = self.state.lock();
        // A pod that was deleted and made anew under its name between two lists is two pods.
        if let (Some(old), Some(_)) = (&change.old, &change.new)
            && old.metadata.uid != pod.metadata.uid
        {
            state.leave(old.metadata.uid.as_deref().unwrap_or_default(), now);
        }
        if change.new.is_none() || pods::is_finished(pod) {
            state.leave(uid, now);
        } else if let Some(node) = pods::node(pod) {
            state.queue.remove(uid);
            state.cluster.place(Candidate::of(pod.clone()), node);
            return;
        } else if self.wants_node(pod) {
            // The server may tell of a write from before the binding that is under way; the reservation stands.
            if !state.cluster.is_placed(uid) {
                state.queue.put(Candidate::of(pod.clone()));
            }
        } else {
            state.queue.remove(uid);
        }
        drop(state);
        self.changed.notify_one();
    }

    fn wants_node(&self, pod: &Pod) -> bool {
        let Some(spec) = pod.spec.as_ref() else { return false };
        let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
        spec.scheduler_name.as_deref().unwrap_or(COMPONENT) == self.name && !gated && !pods::is_terminating(pod)
    }

    /// Schedules until `shutdown`.
    pub async fn run(self: Arc<Self>, tasks: TaskTracker, shutdown: CancellationToken) {
        loop {
            match self.step() {
                Step::Bind(pod, node) => drop(tasks.spawn(self.clone().bind(pod, node))),
                Step::Report(pod, unfit) => drop(tasks.spawn(self.clone().report(pod, unfit))),
                Step::Wait(deadline) => tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.changed.notified() => {}
                    () = async {
                        match deadline {
                            Some(when) => self.clock.sleep_until(when).await,
                            None => std::future::pending().await,
                        }
                    } => {}
                },
            }
            if shutdown.is_cancelled() {
                return;
            }
            // Bindings that were just started go ahead of the next decision.
            tokio::task::yield_now().await;
        }
    }

    fn step(&self) -> Step {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let Some(pod) = state.queue.take(now) else {
            return Step::Wait(state.queue.deadline());
        };
        match cycle::decide(&pod, &state.cluster, rand::random()) {
            Ok(node) => {
                state.cluster.place((*pod).clone(), &node);
                Step::Bind(pod, node)
            }
            Err(unfit) => {
                state.queue.unfit(&pod.uid, unfit.helped_by.clone(), now);
                Step::Report(pod, unfit)
            }
        }
    }

    async fn bind(self: Arc<Self>, pod: Arc<Candidate>, node: Arc<str>) {
        let Ok(_permit) = self.writes.acquire().await else {
            return;
        };
        match self.write_binding(&pod, &node).await {
            Ok(()) => {
                self.state.lock().queue.remove(&pod.uid);
                let message = format!("Successfully assigned {} to {node}", pod.key);
                self.recorder
                    .record(COMPONENT, EventDraft::normal(about(&pod), "Scheduled", message));
            }
            Err(error) => self.unbound(&pod, &node, &error),
        }
    }

    async fn write_binding(&self, pod: &Candidate, node: &str) -> Result<(), WriteError> {
        let (name, namespace) = (&*pod.key.name, &*pod.key.namespace);
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": &*pod.uid},
            "target": {"apiVersion": "v1", "kind": NODES.kind, "name": node},
        });
        let request = Request::new(PODS.path(namespace));
        let body = body.to_string().into_bytes();
        let request = request.create_subresource("binding", name, &Default::default(), body);
        let request = request.map_err(kube::Error::BuildRequest)?;
        Ok(self.writer.client().request_text(request).await.map(drop)?)
    }

    /// The binding did not go through: the reservation is given back, and the pod tried again unless it is gone.
    fn unbound(&self, pod: &Candidate, node: &str, error: &WriteError) {
        tracing::debug!(pod = %pod.key, node, %error, "binding failed");
        let now = self.clock.now();
        let mut state = self.state.lock();
        if state.cluster.displace(&pod.uid) {
            state.queue.wake(Happening::PodGone, now);
        }
        if error.is_not_found() {
            state.queue.remove(&pod.uid);
        } else {
            state.queue.failed(&pod.uid, now);
        }
        drop(state);
        self.changed.notify_one();
    }

    async fn report(self: Arc<Self>, pod: Arc<Candidate>, unfit: Unfit) {
        let Ok(_permit) = self.writes.acquire().await else {
            return;
        };
        self.recorder.record(
            COMPONENT,
            EventDraft::warning(about(&pod), "FailedScheduling", unfit.message.clone()),
        );
        let Some(conditions) = unschedulable(&pod.pod, unfit.message, self.clock.now()) else {
            return;
        };
        let patch = json!({"metadata": {"uid": &*pod.uid}, "status": {"conditions": conditions}});
        let action = Action::status(
            Target {
                resource: PODS,
                key: pod.key.clone(),
            },
            patch,
        );
        if let Err(error) = self.writer.write(&action).await {
            tracing::debug!(pod = %pod.key, %error, "a condition was not written");
        }
    }
}

impl State {
    fn leave(&mut self, uid: &str, now: Timestamp) {
        self.queue.remove(uid);
        if self.cluster.displace(uid) {
            self.queue.wake(Happening::PodGone, now);
        }
    }
}

fn about(pod: &Candidate) -> k8s_openapi::api::core::v1::ObjectReference {
    reference(&PODS, &pod.pod.metadata)
}

/// Whether a node offers the same as before to pods.
fn same_offer(old: &Node, new: &Node) -> bool {
    let status = |node: &Node| {
        node.status
            .as_ref()
            .map(|s| (s.allocatable.clone(), s.capacity.clone()))
    };
    old.spec == new.spec && old.metadata.labels == new.metadata.labels && status(old) == status(new)
}

/// The pod's conditions with `PodScheduled` False; `None` if they say so already.
fn unschedulable(pod: &Pod, message: String, now: Timestamp) -> Option<Vec<PodCondition>> {
    let mut conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.clone())
        .unwrap_or_default();
    let before = conditions
        .iter()
        .position(|c| c.type_ == "PodScheduled")
        .map(|at| conditions.remove(at));
    let before = before.filter(|c| c.status == "False");
    let same = |c: &PodCondition| c.reason.as_deref() == Some("Unschedulable") && c.message.as_ref() == Some(&message);
    if before.as_ref().is_some_and(same) {
        return None;
    }
    conditions.push(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(message),
        last_transition_time: Some(before.and_then(|c| c.last_transition_time).unwrap_or(Time(now))),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    });
    Some(conditions)
}
