//! The loop: take the next pod, decide, reserve, bind.
//!
//! Informers tell of changes; each change is taken in under one short lock and wakes the loop at once. A decision is
//! made under the same lock and holds no await, so it sees a world that stands still. Binding runs beside the next
//! decision: the chosen node counts the pod from the moment of the decision.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use coracle_controllers::{clock::Clock, events::Recorder, key::Key, pods, store::Change, writer::Writer};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service},
    policy::v1::PodDisruptionBudget,
    resource::v1::{DeviceClass, ResourceClaim, ResourceSlice},
    storage::v1::{CSINode, StorageClass},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    binding::{BindError, Binding},
    candidate::Candidate,
    cluster::Cluster,
    cycle::{self, Attempt, Unfit},
    devices::{Grant, claim::are_awaited},
    granting,
    happening::{Happening, Happenings},
    nominations::Nominations,
    preemption::{self, NoRoom, Room},
    queue::Queue,
    report::Report,
    volumes::Serving,
};

/// Pods whose outcome is being written at a time: enough that the store's group commit is full, bounded so that a
/// thousand new pods do not become a thousand requests at once. No further pod is decided on before one of them is done.
const WRITES_LIMIT: usize = 128;

/// Who tells the events.
pub const COMPONENT: &str = "default-scheduler";

/// What is told of a pod over which this scheduler panicked.
const BUG: &str = "the scheduler met a bug in itself; it will try again";

/// Finds a node: [`cycle::decide`], but in tests of what surrounds it.
type Decide = fn(&Candidate, &mut Cluster, &Nominations, usize, u64) -> Attempt;

#[derive(Default)]
struct State {
    cluster: Cluster,
    queue: Queue,
    kept: Nominations,
    /// Where in the order of nodes the next attempt begins.
    start: usize,
}

/// What one look at the queue came to.
enum Step {
    Bind(Binding),
    Tell(Report),
    Wait(Option<Timestamp>),
}

/// The scheduler.
pub struct Scheduler {
    name: String,
    pub(crate) clock: Clock,
    pub(crate) writer: Writer,
    pub(crate) recorder: Recorder,
    state: Mutex<State>,
    changed: Notify,
    /// Told when a claim changes.
    pub(crate) claims_changed: Notify,
    pub(crate) writes: Arc<Semaphore>,
    decide: Decide,
}

impl Scheduler {
    /// A scheduler of the pods that name it.
    #[must_use]
    pub fn new(name: String, clock: Clock, writer: Writer, recorder: Recorder) -> Self {
        Self {
            name,
            clock,
            writer,
            recorder,
            state: Mutex::default(),
            changed: Notify::new(),
            claims_changed: Notify::new(),
            writes: Arc::new(Semaphore::new(WRITES_LIMIT)),
            decide: cycle::decide,
        }
    }

    /// Takes in a change of a node.
    pub fn saw_node(&self, change: &Change<Node>) {
        let kinds = match (&change.old, &change.new) {
            (None, Some(_)) => vec![Happening::NodeAdded],
            // Heartbeats change conditions only; those help nobody.
            (Some(old), Some(new)) => differences(old, new),
            (_, None) => Vec::new(),
        };
        if kinds.is_empty() && change.new.is_some() {
            return;
        }
        self.take_in(&kinds, |state| match (&change.old, &change.new) {
            (_, Some(new)) => state.cluster.put_node(new.clone()),
            (Some(old), None) => state
                .cluster
                .remove_node(old.metadata.name.as_deref().unwrap_or_default()),
            (None, None) => {}
        });
    }

    /// Takes in a change of a namespace.
    pub fn saw_namespace(&self, change: &Change<Namespace>) {
        let labels = |namespace: &Arc<Namespace>| namespace.metadata.labels.clone().unwrap_or_default();
        if change.new.is_some() && change.old.as_ref().map(labels) == change.new.as_ref().map(labels) {
            return;
        }
        let name = change.latest().and_then(|namespace| namespace.metadata.name.clone());
        self.take_in(&[Happening::Namespace], |state| {
            let labels = change.new.as_ref().map(labels);
            state.cluster.put_namespace(name.as_deref().unwrap_or_default(), labels);
        });
    }

    /// Takes in a change of a service.
    pub fn saw_service(&self, change: &Change<Service>) {
        let Some(service) = change.latest() else { return };
        let key = Key::of(&service.metadata);
        self.take_in(&[], |state| state.cluster.services.put(key, change.new.as_deref()));
    }

    /// Takes in a change of a claim.
    pub fn saw_claim(&self, change: &Change<PersistentVolumeClaim>) {
        let Some(claim) = change.latest() else { return };
        let key = Key::of(&claim.metadata);
        let now = self.clock.now();
        self.take_in(&[], |state| {
            state.cluster.volumes.put_claim(key.clone(), change.new.clone());
            state.queue.wake_claimants(&key, Happening::Claim, now);
        });
        self.claims_changed.notify_waiters();
    }

    /// Takes in a change of a class of devices.
    pub fn saw_device_class(&self, change: &Change<DeviceClass>) {
        let name = change.latest().and_then(|class| class.metadata.name.clone());
        self.take_in(&[Happening::Devices], |state| {
            let name = name.as_deref().unwrap_or_default();
            state.cluster.devices.put_class(name, change.new.clone());
        });
    }

    /// Takes in a change of a slice of devices.
    pub fn saw_slice(&self, change: &Change<ResourceSlice>) {
        self.take_in(&[Happening::Devices], |state| {
            state
                .cluster
                .devices
                .put_slice(change.old.as_deref(), change.new.as_ref());
        });
    }

    /// Takes in a change of a claim to devices.
    pub fn saw_device_claim(&self, change: &Change<ResourceClaim>) {
        let Some(claim) = change.latest() else { return };
        let (key, now) = (Key::of(&claim.metadata), self.clock.now());
        self.take_in(&[], |state| {
            if state.cluster.devices.put_claim(&key, change.new.clone()) {
                state.queue.wake(Happening::Devices, now);
            }
            state.queue.wake_claimants(&key, Happening::DeviceClaim, now);
        });
        self.claims_changed.notify_waiters();
    }

    /// Takes in a change of a volume.
    pub fn saw_volume(&self, change: &Change<PersistentVolume>) {
        let name = change.latest().and_then(|volume| volume.metadata.name.clone());
        self.take_in(&[Happening::Volume], |state| {
            let name = name.as_deref().unwrap_or_default();
            state.cluster.volumes.put_volume(name, change.new.clone());
        });
    }

    /// Takes in a change of a storage class.
    pub fn saw_class(&self, change: &Change<StorageClass>) {
        let name = change.latest().and_then(|class| class.metadata.name.clone());
        self.take_in(&[Happening::Volume], |state| {
            let name = name.as_deref().unwrap_or_default();
            state.cluster.volumes.put_class(name, change.new.clone());
        });
    }

    /// Takes in a change of what a node's volume drivers can do.
    pub fn saw_drivers(&self, change: &Change<CSINode>) {
        let name = change.latest().and_then(|drivers| drivers.metadata.name.clone());
        self.take_in(&[Happening::Volume], |state| {
            let name = name.as_deref().unwrap_or_default();
            state.cluster.volumes.put_drivers(name, change.new.as_deref());
        });
    }

    /// Takes in a change of a disruption budget.
    pub fn saw_budget(&self, change: &Change<PodDisruptionBudget>) {
        self.take_in(&[], |state| {
            state.cluster.put_budget(change.old.as_deref(), change.new.as_ref());
        });
    }

    fn take_in(&self, kinds: &[Happening], change: impl FnOnce(&mut State)) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        change(&mut state);
        for kind in kinds {
            state.queue.wake(*kind, now);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Takes in a change of a pod.
    pub fn saw_pod(&self, change: &Change<Pod>) {
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
            if !state.is_on(pod, node, now) {
                return;
            }
        } else if self.wants_node(pod) {
            state.waits(pod);
        } else {
            state.forget(uid);
        }
        drop(state);
        self.changed.notify_one();
    }

    fn wants_node(&self, pod: &Pod) -> bool {
        let Some(spec) = pod.spec.as_ref() else { return false };
        let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
        let ready = !gated && !are_awaited(pod);
        spec.scheduler_name.as_deref().unwrap_or(COMPONENT) == self.name && ready && !pods::is_terminating(pod)
    }

    /// Schedules until `shutdown`.
    pub async fn run(self: Arc<Self>, tasks: TaskTracker, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            // Nothing is decided that could not be written at once.
            let permit = tokio::select! {
                () = shutdown.cancelled() => return,
                permit = self.writes.clone().acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
            match self.step() {
                Step::Bind(binding) => drop(tasks.spawn(self.clone().bind(binding, permit))),
                Step::Tell(report) => {
                    let scheduler = self.clone();
                    tasks.spawn(async move {
                        scheduler.tell(report).await;
                        drop(permit);
                    });
                }
                Step::Wait(deadline) => {
                    drop(permit);
                    self.wait(deadline, &shutdown).await;
                }
            }
            // Writes that were just started go ahead of the next decision.
            tokio::task::yield_now().await;
        }
    }

    async fn wait(&self, deadline: Option<Timestamp>, shutdown: &CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.changed.notified() => {}
            () = async {
                match deadline {
                    Some(when) => self.clock.nap_until(when).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }

    fn step(&self) -> Step {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let Some(pod) = state.queue.take(now) else {
            return Step::Wait(state.queue.deadline());
        };
        // A pod that this scheduler cannot handle must not take the others along.
        let attempted = catch_unwind(AssertUnwindSafe(|| state.attempt(self.decide, &pod, now)));
        attempted.unwrap_or_else(|_| {
            tracing::error!(pod = %pod.key, "the scheduler panicked");
            state.queue.failed(&pod.uid, now);
            Step::Tell(Report::of(pod, BUG.to_owned()))
        })
    }

    /// The uid of the claim, as last seen.
    pub(crate) fn claim_uid(&self, key: &Key) -> Option<String> {
        let state = self.state.lock();
        state.cluster.volumes.claim(key)?.metadata.uid.clone()
    }

    /// The claim to devices, as last seen.
    pub(crate) fn device_claim(&self, key: &Key) -> Option<Arc<ResourceClaim>> {
        self.state.lock().cluster.devices.claim(key).cloned()
    }

    /// Whether all claims of the pod are bound.
    pub(crate) fn are_bound(&self, pod: &Candidate) -> bool {
        self.state.lock().cluster.volumes.all_bound(&pod.claims)
    }

    /// The pod was bound.
    pub(crate) fn bound(&self, pod: &Candidate) {
        self.state.lock().forget(&pod.uid);
    }

    /// The binding did not go through: the reservation is given back, and the pod tried again unless it is gone.
    pub(crate) fn unbound(&self, binding: &Binding, error: &BindError) {
        let Binding {
            pod, node, servings, ..
        } = binding;
        tracing::debug!(pod = %pod.key, %node, %error, "binding failed");
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.cluster.volumes.take_back(servings);
        if state.cluster.devices.take_back(&binding.grants) {
            state.queue.wake(Happening::Devices, now);
        }
        if state.cluster.displace(&pod.uid).is_some() {
            state.queue.wake(Happening::PodGone, now);
        }
        if matches!(error, BindError::Write(error) if error.is_not_found()) {
            state.forget(&pod.uid);
        } else {
            state.queue.failed(&pod.uid, now);
        }
        drop(state);
        self.changed.notify_one();
    }
}

impl State {
    fn attempt(&mut self, decide: Decide, pod: &Arc<Candidate>, now: Timestamp) -> Step {
        let Self {
            cluster, kept, start, ..
        } = self;
        let attempt = decide(pod, cluster, kept, *start, rand::random());
        *start = start
            .wrapping_add(attempt.looked_at)
            .checked_rem(cluster.size())
            .unwrap_or(0);
        match attempt.outcome {
            Ok(node) => Step::Bind(self.reserve(pod.clone(), node, now)),
            Err(unfit) => Step::Tell(self.refuse(pod.clone(), unfit, now)),
        }
    }

    /// The pod wants no node any more.
    fn forget(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.kept.remove(uid);
    }

    /// The pod is gone, or has ended.
    fn leave(&mut self, uid: &str, now: Timestamp) {
        self.queue.remove(uid);
        if self.kept.remove(uid) | self.cluster.displace(uid).is_some() {
            self.queue.wake(Happening::PodGone, now);
        }
    }

    /// The pod is on the node. True if that is news to those who wait.
    fn is_on(&mut self, pod: &Arc<Pod>, node: &str, now: Timestamp) -> bool {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.forget(uid);
        if let Some(placed) = self.cluster.placed(uid)
            && self.cluster.find(node) == Some(placed.node)
            && placed.pod.is_still(pod)
        {
            self.cluster.refresh(uid, pod);
            return false;
        }
        self.cluster.place(Arc::new(Candidate::of(pod.clone())), node);
        self.queue.wake(Happening::PodPlaced, now);
        true
    }

    /// The pod wants a node.
    fn waits(&mut self, pod: &Arc<Pod>) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        // The server may tell of a write from before the binding that is under way; the reservation stands.
        if self.cluster.placed(uid).is_some() {
            return;
        }
        let candidate = Arc::new(Candidate::of(pod.clone()));
        if let Some(node) = candidate.nominated()
            && self.kept.of(uid).is_none()
        {
            self.kept.put(&candidate, node);
        }
        self.queue.put(candidate);
    }

    /// The pod goes to the node, as far as this scheduler can say.
    fn reserve(&mut self, pod: Arc<Candidate>, node: Arc<str>, now: Timestamp) -> Binding {
        let servings = self.servings(&pod, &node);
        self.cluster.volumes.promise(&servings);
        let grants = self.grants(&pod, &node);
        self.cluster.devices.promise(&grants);
        self.kept.remove(&pod.uid);
        self.cluster.place(pod.clone(), &node);
        self.queue.wake(Happening::PodPlaced, now);
        Binding {
            pod,
            node,
            servings,
            grants,
        }
    }

    fn grants(&self, pod: &Candidate, node: &str) -> Vec<Grant> {
        if pod.devices.is_empty() {
            return Vec::new();
        }
        let node = self.cluster.find(node).and_then(|index| self.cluster.node(index));
        let devices = &self.cluster.devices;
        let grants = node.map(|(_, node)| devices.grants(&pod.pod, &pod.devices, node, &mut granting::share_id));
        grants.unwrap_or_default()
    }

    fn servings(&self, pod: &Candidate, node: &str) -> Vec<Serving> {
        if pod.claims.is_empty() {
            return Vec::new();
        }
        let volumes = &self.cluster.volumes;
        let needs = volumes.needs(&pod.pod, &pod.claims).unwrap_or_default();
        let node = self.cluster.find(node).and_then(|index| self.cluster.node(index));
        node.and_then(|(_, node)| volumes.serve(&needs, node))
            .unwrap_or_default()
    }

    /// The pod fits nowhere: it waits, and room is made for it if it matters enough.
    fn refuse(&mut self, pod: Arc<Candidate>, unfit: Unfit, now: Timestamp) -> Report {
        let mut report = Report::of(pod.clone(), unfit.message.clone());
        if unfit.nodes > 0 {
            match preemption::preempt(&pod, &mut self.cluster, &self.kept, &unfit, rand::random()) {
                Ok(Room { node, victims, .. }) => {
                    let lesser = self.kept.on(&node).filter(|other| other.priority < pod.priority);
                    report.outdone = lesser.cloned().collect();
                    for other in &report.outdone {
                        self.kept.remove(&other.uid);
                    }
                    self.kept.put(&pod, &node);
                    report.nominated = Some(Some(node));
                    report.victims = victims;
                }
                Err(NoRoom { message, give_up }) => {
                    report.message = format!("{} preemption: {message}", report.message);
                    if give_up {
                        self.kept.remove(&pod.uid);
                        report.nominated = Some(None);
                    }
                }
            }
        }
        if !pod.devices.is_empty() {
            let nodes: Vec<&Node> = self.cluster.nodes().map(|(_, _, node)| node).collect();
            report.released = self.cluster.devices.misplaced(&pod.pod, &pod.devices, &nodes);
        }
        let room = Happenings::of(&[Happening::PodGone]);
        let until = match report.nominated {
            Some(Some(_)) => unfit.helped_by.and(room),
            _ => unfit.helped_by,
        };
        self.queue.unfit(&pod.uid, until, now);
        report
    }
}

/// In what a node differs that matters to pods.
fn differences(old: &Node, new: &Node) -> Vec<Happening> {
    let room = |node: &Node| {
        node.status
            .as_ref()
            .map(|s| (s.allocatable.clone(), s.capacity.clone(), s.images.clone()))
    };
    let taints = |node: &Node| node.spec.as_ref().map(|s| (s.taints.clone(), s.unschedulable));
    let features = |node: &Node| node.status.as_ref().map(|s| s.declared_features.clone());
    let mut kinds = Vec::new();
    if features(old) != features(new) {
        kinds.push(Happening::NodeFeatures);
    }
    if room(old) != room(new) {
        kinds.push(Happening::NodeRoom);
    }
    if old.metadata.labels != new.metadata.labels {
        kinds.push(Happening::NodeLabels);
    }
    if taints(old) != taints(new) {
        kinds.push(Happening::NodeTaints);
    }
    kinds
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str) -> Change<Pod> {
        let pod = json!({
            "metadata": {"name": name, "namespace": "n", "uid": name},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        let new = Some(Arc::new(serde_json::from_value(pod).unwrap()));
        Change { old: None, new }
    }

    #[tokio::test]
    async fn a_panic_over_one_pod_pauses_it_alone_and_is_told_in_an_event() {
        let unused = tower::service_fn(async |_: http::Request<kube::client::Body>| {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        let client = kube::Client::new(unused, "default");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let recorder = Recorder::start(client.clone(), Clock::system(), &tasks, stop);
        let mut scheduler = Scheduler::new(COMPONENT.to_owned(), Clock::system(), Writer::new(client), recorder);
        scheduler.decide = |pod, _, _, _, _| {
            assert!(&*pod.key.name != "bad", "met the pod it cannot handle");
            Attempt {
                outcome: Ok("node".into()),
                looked_at: 1,
            }
        };
        scheduler.saw_pod(&pod("bad"));
        scheduler.saw_pod(&pod("good"));
        let Step::Tell(report) = scheduler.step() else {
            panic!("nothing is told")
        };
        assert_eq!((&*report.pod.key.name, report.message.as_str()), ("bad", BUG));
        let Step::Bind(binding) = scheduler.step() else {
            panic!("the others have to wait")
        };
        assert_eq!(&*binding.pod.key.name, "good");
        assert!(matches!(scheduler.step(), Step::Wait(Some(_))), "it is tried again");
    }
}
