//! DaemonSets: one pod on every node that it fits.
//!
//! Wants to be true: each node that the template allows has one daemon of the present revision, and no other node has
//! one. While an update runs, no more nodes are without an available daemon, or have two, than the strategy allows. It
//! must never create a daemon on a node where one is still ending.

pub mod pod;
pub mod update;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus},
    core::v1::{Node, Pod},
};
use serde_json::json;

use crate::{
    clock::after_seconds,
    driver::{Controller, Turn},
    history::{self, History, Present},
    job::backoff::ended_at,
    key::Key,
    merge,
    owner::{self, Claimant},
    plan::{Action, EventDraft, Note, Plan, Target, reference},
    pods::{self, Availability},
    resource::{DAEMON_SETS, PODS},
    store::{Change, controller_uid},
    world::{Watch, World},
};
use pod::Place;
use update::{Bounds, OnNode, View};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "daemonset-controller",
    resource: DAEMON_SETS,
    watches: &[
        Watch::DaemonSet(itself),
        Watch::Pod(of_pod),
        Watch::Node(of_node),
        Watch::ControllerRevision(of_revision),
    ],
    reconcile,
};

/// Daemons created in one turn; the rest follows when these are seen. The number is Kubernetes' own.
const BURST_LIMIT: usize = 250;
/// How long a daemon that failed is left to be looked at before it is replaced: a node that refuses it would otherwise
/// be asked without a pause.
const FAILED_SECONDS: i64 = 10;

fn itself(change: &Change<DaemonSet>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.latest().map(|ds| Key::of(&ds.metadata)));
}

fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    keys.extend(
        change
            .both()
            .filter_map(|pod| owner::controller_key(&pod.metadata, &DAEMON_SETS)),
    );
    keys.dedup();
    let Some(pod) = change.new.as_ref().filter(|p| controller_uid(&p.metadata).is_empty()) else {
        return;
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for ds in world.daemon_sets.in_namespace(namespace) {
        let selector = ds.spec.as_ref().and_then(|spec| owner::selector(&spec.selector));
        if selector.is_some_and(|s| owner::selects(&s, &pod.metadata)) {
            keys.push(Key::of(&ds.metadata));
        }
    }
}

/// A node concerns all daemons, but its heartbeats concern none.
fn of_node(change: &Change<Node>, world: &World, keys: &mut Vec<Key>) {
    let seen = |node: &Node| {
        let taints = node.spec.as_ref().and_then(|s| s.taints.clone());
        (node.metadata.labels.clone(), taints)
    };
    if change.old.as_ref().map(|n| seen(n)) == change.new.as_ref().map(|n| seen(n)) {
        return;
    }
    keys.extend(world.daemon_sets.all().iter().map(|ds| Key::of(&ds.metadata)));
}

fn of_revision(change: &Change<ControllerRevision>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(
        change
            .both()
            .filter_map(|revision| owner::controller_key(&revision.metadata, &DAEMON_SETS)),
    );
    keys.dedup();
}

/// Decides what to do about one DaemonSet.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(ds) = world.daemon_sets.get(key) else {
        return plan;
    };
    let Some(spec) = ds.spec.as_ref() else { return plan };
    let Some(selector) = owner::selector(&spec.selector) else {
        return plan;
    };
    let resource = DAEMON_SETS;
    let claimant = || Claimant {
        resource: &resource,
        meta: &ds.metadata,
        selector: &selector,
    };
    let claimed = claimant().claim(&world.pods, &PODS, &mut plan);
    if ds.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let history = History::of(claimant(), world, &mut plan);
    let collisions = ds.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
    let present = match history.present(&spec.template, collisions, world, &mut plan) {
        Present::Is(revision) => revision,
        Present::Planned => return plan,
        Present::Collides => {
            let patch = json!({"metadata": {"uid": ds.metadata.uid}, "status": {"collisionCount": collisions + 1}});
            plan.change(Action::status(Target::of(&DAEMON_SETS, &ds.metadata), patch));
            return plan;
        }
    };
    let labels = present.metadata.labels.as_ref();
    let hash = labels.and_then(|l| l.get(history::LABEL)).cloned().unwrap_or_default();
    let mut fleet = Fleet::of(&ds, spec, &hash, claimed, turn.now, world);
    fleet.act(&mut plan);
    fleet.report(&mut plan);
    let used: HashSet<&String> = fleet.hashes().collect();
    let in_use = history.all.iter().filter(|r| {
        let hash = r.metadata.labels.as_ref().and_then(|l| l.get(history::LABEL));
        r.metadata.name == present.metadata.name || hash.is_some_and(|hash| used.contains(hash))
    });
    let in_use: HashSet<String> = in_use.filter_map(|r| r.metadata.name.clone()).collect();
    history.truncate(spec.revision_history_limit, &in_use, &mut plan);
    plan
}

/// A set with its daemons, node by node.
struct Fleet<'a> {
    ds: &'a DaemonSet,
    view: View<'a>,
    /// By the name of the node; nodes that are gone have no place.
    nodes: BTreeMap<String, (Option<Place>, Vec<Arc<Pod>>)>,
}

impl<'a> Fleet<'a> {
    fn of(
        ds: &'a DaemonSet,
        spec: &DaemonSetSpec,
        hash: &'a str,
        claimed: Vec<Arc<Pod>>,
        now: Timestamp,
        world: &World,
    ) -> Self {
        let place = |node: &Arc<Node>| {
            let name = node.metadata.name.clone().unwrap_or_default();
            (name, (Some(pod::place(ds, node)), Vec::new()))
        };
        let mut nodes: BTreeMap<String, (Option<Place>, Vec<Arc<Pod>>)> = world.nodes.all().iter().map(place).collect();
        for pod in claimed {
            let Some(node) = pod::node_of(&pod) else { continue };
            nodes.entry(node).or_insert((None, Vec::new())).1.push(pod);
        }
        for (_, pods) in nodes.values_mut() {
            pods.sort_by_key(|pod| {
                (
                    pod.metadata.creation_timestamp.as_ref().map(|t| t.0),
                    pod.metadata.name.clone(),
                )
            });
        }
        let view = View {
            hash,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            now,
        };
        Self { ds, view, nodes }
    }

    fn hashes(&self) -> impl Iterator<Item = &String> {
        let pods = self.nodes.values().flat_map(|(_, pods)| pods);
        pods.filter_map(|pod| pod.metadata.labels.as_ref()?.get(history::LABEL))
    }

    fn act(&mut self, plan: &mut Plan) {
        let wanted = self
            .nodes
            .values()
            .filter(|(place, _)| *place == Some(Place::Run))
            .count();
        let bounds = Bounds::of(self.ds, wanted);
        let surges = bounds.is_some_and(|b| b.surge > 0);
        let (mut create, mut delete) = (Vec::new(), Vec::new());
        for (node, (place, pods)) in &self.nodes {
            self.keep(node, *place, pods, surges, (&mut create, &mut delete), plan);
        }
        if let (true, Some(bounds)) = (create.is_empty() && delete.is_empty(), bounds) {
            let on = |(node, (_, pods)): (&String, &(Option<Place>, Vec<Arc<Pod>>))| OnNode {
                node: node.clone(),
                pods: pods.iter().filter(|pod| pods::is_active(pod)).cloned().collect(),
            };
            let running = self.nodes.iter().filter(|(_, (place, _))| *place == Some(Place::Run));
            let step = self.view.step(&running.map(on).collect::<Vec<_>>(), bounds);
            (create, delete) = (step.surge, step.delete);
        }
        create.truncate(BURST_LIMIT);
        delete.truncate(BURST_LIMIT);
        plan.batch(delete.iter().map(|pod| self.deletion(pod)).collect());
        plan.batch(create.iter().map(|node| self.creation(node)).collect());
    }

    /// What one node needs, updates apart.
    fn keep(
        &self,
        node: &str,
        place: Option<Place>,
        pods: &[Arc<Pod>],
        surges: bool,
        (create, delete): (&mut Vec<String>, &mut Vec<Arc<Pod>>),
        plan: &mut Plan,
    ) {
        let active = || pods.iter().filter(|pod| pods::is_active(pod));
        match place {
            // Its daemons that were never bound will never be; the others are the pod collector's.
            None => delete.extend(active().filter(|pod| pods::node(pod).is_none()).cloned()),
            Some(Place::Leave) => delete.extend(pods.iter().filter(|pod| !pods::is_terminating(pod)).cloned()),
            Some(Place::Run) if pods.is_empty() => create.push(node.to_owned()),
            Some(_) => {
                self.replace_failed(node, pods, delete, plan);
                self.keep_one(active().collect(), surges, delete);
            }
        }
    }

    fn replace_failed(&self, node: &str, pods: &[Arc<Pod>], delete: &mut Vec<Arc<Pod>>, plan: &mut Plan) {
        for pod in pods
            .iter()
            .filter(|pod| pods::is_finished(pod) && !pods::is_terminating(pod))
        {
            let due = after_seconds(ended_at(pod, self.view.now), FAILED_SECONDS);
            if due > self.view.now {
                plan.requeue(due);
                continue;
            }
            let failed = pods::phase(pod) == "Failed";
            let (kind, reason) = if failed {
                ("failed", "FailedDaemonPod")
            } else {
                ("succeeded", "SucceededDaemonPod")
            };
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Found {kind} daemon pod {namespace}/{name} on node {node}, will try to kill it");
            let about = reference(&DAEMON_SETS, &self.ds.metadata);
            plan.events.push(if failed {
                EventDraft::warning(about, reason, message)
            } else {
                EventDraft::normal(about, reason, message)
            });
            delete.push(pod.clone());
        }
    }

    /// Of several daemons the oldest stays; with surge the oldest of each kind, until the new one is there.
    fn keep_one(&self, active: Vec<&Arc<Pod>>, surges: bool, delete: &mut Vec<Arc<Pod>>) {
        if !surges {
            delete.extend(active.into_iter().skip(1).cloned());
            return;
        }
        let (new, old): (Vec<_>, Vec<_>) = active.into_iter().partition(|pod| self.view.is_new(pod));
        delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).map(|pod| (*pod).clone()));
        if let (Some(_), Some(old)) = (new.first(), old.first())
            && !pods::is_ready(old)
        {
            delete.push((*old).clone());
        }
    }

    fn creation(&self, node: &str) -> Action {
        let namespace = self.ds.metadata.namespace.as_deref().unwrap_or_default();
        Action::create(&PODS, namespace, pod::of(self.ds, self.view.hash, node)).noting(Note {
            about: reference(&DAEMON_SETS, &self.ds.metadata),
            success: Some(("SuccessfulCreate", "Created pod: {name}".to_owned())),
            failure: Some(("FailedCreate", "Error creating: {error}".to_owned())),
        })
    }

    fn deletion(&self, pod: &Pod) -> Action {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Action::delete(&PODS, &pod.metadata).noting(Note {
            about: reference(&DAEMON_SETS, &self.ds.metadata),
            success: Some(("SuccessfulDelete", format!("Deleted pod: {name}"))),
            failure: Some(("FailedDelete", "Error deleting: {error}".to_owned())),
        })
    }

    fn report(&self, plan: &mut Plan) {
        let status = self.status(plan);
        let old = self.ds.status.clone().unwrap_or_default();
        if let Some(patch) = merge::status(self.ds.metadata.uid.as_deref(), &old, &status) {
            plan.reports
                .push(Action::status(Target::of(&DAEMON_SETS, &self.ds.metadata), patch));
        }
    }

    fn status(&self, plan: &mut Plan) -> DaemonSetStatus {
        let mut status = self.ds.status.clone().unwrap_or_default();
        let (mut current, mut ready, mut available, mut updated, mut stray, mut desired) = (0, 0, 0, 0, 0, 0);
        for (place, pods) in self.nodes.values() {
            if *place != Some(Place::Run) {
                stray += i32::from(!pods.is_empty());
                continue;
            }
            desired += 1;
            current += i32::from(!pods.is_empty());
            // A surge does not count twice: the newest daemon speaks for its node where it is ready.
            let mut going: Vec<&Arc<Pod>> = pods.iter().filter(|pod| !pods::is_terminating(pod)).collect();
            going.sort_by_key(|pod| !pods::is_ready(pod));
            let Some(pod) = going.first() else { continue };
            ready += i32::from(pods::is_ready(pod));
            match pods::availability(pod, self.view.min_ready_seconds, self.view.now) {
                Availability::Available => available += 1,
                Availability::Due(when) => plan.requeue(when),
                Availability::Not => {}
            }
            updated += i32::from(going.iter().any(|pod| self.view.is_new(pod)));
        }
        let some = |n: i32| (n > 0).then_some(n);
        status.current_number_scheduled = current;
        status.desired_number_scheduled = desired;
        status.number_misscheduled = stray;
        status.number_ready = ready;
        status.number_available = some(available);
        status.number_unavailable = some(desired - available);
        status.updated_number_scheduled = some(updated);
        status.observed_generation = self.ds.metadata.generation;
        status
    }
}

#[cfg(test)]
mod tests;
