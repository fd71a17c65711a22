//! StatefulSets: pods with names, one after the other.
//!
//! Wants to be true: for each ordinal there is one pod, with the claims of that ordinal, of the revision that the update
//! strategy gives it. Unless pods may be handled in parallel, a pod is created only when all before it are available,
//! and removed only when all that stay are. There must never be two pods of one ordinal: a pod is made anew only when
//! the last one is gone.

pub mod claims;
pub mod pod;

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus},
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    amount,
    driver::{Controller, Turn},
    history::{self, History, Present},
    key::Key,
    merge,
    owner::{self, Claimant},
    plan::{Action, Note, Plan, Target, reference},
    pods::{self, Availability},
    resource::{PODS, STATEFUL_SETS},
    store::{Change, controller_uid},
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "statefulset-controller",
    resource: STATEFUL_SETS,
    watches: &[
        Watch::StatefulSet(itself),
        Watch::Pod(of_pod),
        Watch::ControllerRevision(of_revision),
        Watch::PersistentVolumeClaim(of_claim),
    ],
    reconcile,
};

fn itself(change: &Change<StatefulSet>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.latest().map(|set| Key::of(&set.metadata)));
}

fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    keys.extend(
        change
            .both()
            .filter_map(|pod| owner::controller_key(&pod.metadata, &STATEFUL_SETS)),
    );
    keys.dedup();
    let Some(pod) = change.new.as_ref().filter(|p| controller_uid(&p.metadata).is_empty()) else {
        return;
    };
    // Only the set that a pod's name points to may adopt it.
    let parent = pod.metadata.name.as_deref().and_then(|name| name.rsplit_once('-'));
    let Some((parent, _)) = parent else { return };
    let key = Key::new(pod.metadata.namespace.as_deref().unwrap_or_default(), parent);
    if world.stateful_sets.get(&key).is_some() {
        keys.push(key);
    }
}

fn of_revision(change: &Change<ControllerRevision>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(
        change
            .both()
            .filter_map(|revision| owner::controller_key(&revision.metadata, &STATEFUL_SETS)),
    );
    keys.dedup();
}

/// A claim that is gone is missed by the pod that uses it, or was waited for, as is one that has lost an owner.
fn of_claim(change: &Change<PersistentVolumeClaim>, world: &World, keys: &mut Vec<Key>) {
    let Some(claim) = &change.old else { return };
    let owners = &claim.metadata.owner_references;
    if change
        .new
        .as_ref()
        .is_some_and(|new| new.metadata.owner_references == *owners)
    {
        return;
    }
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    for set in world.stateful_sets.in_namespace(namespace) {
        let selector = set.spec.as_ref().and_then(|s| owner::selector(&s.selector));
        if selector.is_some_and(|s| owner::selects(&s, &claim.metadata)) {
            keys.push(Key::of(&set.metadata));
        }
    }
}

/// Decides what to do about one StatefulSet.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(set) = world.stateful_sets.get(key) else {
        return plan;
    };
    let Some(spec) = set.spec.as_ref() else { return plan };
    let Some(selector) = owner::selector(&spec.selector) else {
        return plan;
    };
    let resource = STATEFUL_SETS;
    let claimant = || Claimant {
        resource: &resource,
        meta: &set.metadata,
        selector: &selector,
    };
    let mut claimed = claimant().claim(&world.pods, &PODS, &mut plan);
    claimed.retain(|p| pod::ordinal(&set, p).is_some());
    if set.metadata.deletion_timestamp.is_some() {
        // What it has is collected or set free; a revision made now would come in the way of that.
        return plan;
    }
    let history = History::of(claimant(), world, &mut plan);
    let status = set.status.clone().unwrap_or_default();
    let update = match history.present(&spec.template, status.collision_count.unwrap_or(0), world, &mut plan) {
        Present::Is(revision) => revision,
        Present::Planned => return plan,
        Present::Collides => {
            let count = status.collision_count.unwrap_or(0) + 1;
            let patch = serde_json::json!({"metadata": {"uid": set.metadata.uid}, "status": {"collisionCount": count}});
            plan.change(Action::status(Target::of(&STATEFUL_SETS, &set.metadata), patch));
            return plan;
        }
    };
    let current = status
        .current_revision
        .as_deref()
        .and_then(|name| history.named(name))
        .unwrap_or(&update);
    let roll = Roll {
        set: &set,
        spec,
        pods: claimed,
        current: current.clone(),
        update,
        now: turn.now,
        world,
    };
    let status = roll.status(&mut plan);
    roll.act(&status, &mut plan);
    roll.forget(&history, &status, &mut plan);
    let old = set.status.clone().unwrap_or_default();
    if let Some(patch) = merge::status(set.metadata.uid.as_deref(), &old, &status) {
        plan.reports
            .push(Action::status(Target::of(&STATEFUL_SETS, &set.metadata), patch));
    }
    plan
}

struct Roll<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    pods: Vec<Arc<Pod>>,
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
    now: Timestamp,
    world: &'a World,
}

/// Whether one may go on to the next pod.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Wait,
}

impl Roll<'_> {
    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1).max(0)
    }

    fn start(&self) -> i32 {
        self.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0)
    }

    fn parallel(&self) -> bool {
        self.spec.pod_management_policy.as_deref() == Some("Parallel")
    }

    fn rolls(&self) -> bool {
        let type_ = self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
        type_ != Some("OnDelete")
    }

    fn partition(&self) -> i32 {
        let rolling = self
            .spec
            .update_strategy
            .as_ref()
            .and_then(|s| s.rolling_update.as_ref());
        rolling.and_then(|r| r.partition).unwrap_or(0)
    }

    fn max_unavailable(&self) -> i32 {
        let rolling = self
            .spec
            .update_strategy
            .as_ref()
            .and_then(|s| s.rolling_update.as_ref());
        let wanted = rolling
            .and_then(|r| r.max_unavailable.as_ref())
            .unwrap_or(&IntOrString::Int(1));
        amount::scaled(wanted, self.replicas(), false).max(1)
    }

    fn pod(&self, ordinal: i32) -> Option<&Arc<Pod>> {
        self.pods.iter().find(|p| pod::ordinal(self.set, p) == Some(ordinal))
    }

    fn ordinals(&self) -> std::ops::Range<i32> {
        self.start()..self.start().saturating_add(self.replicas())
    }

    /// Pods beyond the set's size, the highest ordinal first.
    fn condemned(&self) -> Vec<&Arc<Pod>> {
        let range = self.ordinals();
        let mut condemned: Vec<(i32, &Arc<Pod>)> = self
            .pods
            .iter()
            .filter_map(|p| Some((pod::ordinal(self.set, p)?, p)))
            .filter(|(ordinal, _)| !range.contains(ordinal))
            .collect();
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        condemned.into_iter().map(|(_, pod)| pod).collect()
    }

    fn available(&self, pod: &Pod) -> Availability {
        if pods::phase(pod) != "Running" {
            return Availability::Not;
        }
        pods::availability(pod, self.spec.min_ready_seconds.unwrap_or(0), self.now)
    }

    fn healthy(&self, pod: &Pod) -> bool {
        !pods::is_terminating(pod) && self.available(pod) == Availability::Available
    }

    fn has_revision(pod: &Pod, revision: &ControllerRevision) -> bool {
        let label = pod.metadata.labels.as_ref().and_then(|l| l.get(history::LABEL));
        label.is_some() && label == revision.metadata.name.as_ref()
    }

    fn act(&self, status: &StatefulSetStatus, plan: &mut Plan) {
        for ordinal in self.ordinals() {
            if self.keep(ordinal, plan) == Next::Wait && !self.parallel() {
                return;
            }
        }
        if self.shrink(plan) == Next::Wait && !self.parallel() {
            return;
        }
        if self.rolls() {
            self.roll(status, plan);
        }
    }

    /// Plans what the pod of that ordinal needs.
    fn keep(&self, ordinal: i32, plan: &mut Plan) -> Next {
        let Some(pod) = self.pod(ordinal) else {
            if claims::are_going(self.set, &pod::name(self.set, ordinal), self.world) {
                return Next::Wait;
            }
            claims::create_missing(self.set, &pod::name(self.set, ordinal), self.world, plan);
            plan.change(self.creation(ordinal));
            return Next::Wait;
        };
        if pods::is_finished(pod) {
            if !pods::is_terminating(pod) {
                plan.change(self.deletion(pod));
            }
            return Next::Wait;
        }
        if pods::is_terminating(pod) {
            return Next::Wait;
        }
        if pods::phase(pod) == "Pending" {
            claims::create_missing(self.set, &pod::name(self.set, ordinal), self.world, plan);
        }
        claims::own(self.set, pod, false, self.world, plan);
        match self.available(pod) {
            Availability::Available => Next::GoOn,
            Availability::Due(when) => {
                plan.requeue(when);
                Next::Wait
            }
            Availability::Not => Next::Wait,
        }
    }

    fn creation(&self, ordinal: i32) -> Action {
        let revision = if self.is_held_back(ordinal) {
            &self.current
        } else {
            &self.update
        };
        let template = history::template(revision).unwrap_or_else(|| self.spec.template.clone());
        let name = revision.metadata.name.as_deref().unwrap_or_default();
        let body = pod::of(self.set, &template, name, ordinal);
        let namespace = self.set.metadata.namespace.as_deref().unwrap_or_default();
        let what = self.what("create", &pod::name(self.set, ordinal));
        Action::create(&PODS, namespace, body).noting(Note {
            about: reference(&STATEFUL_SETS, &self.set.metadata),
            success: Some(("SuccessfulCreate", format!("{what} successful"))),
            failure: Some(("FailedCreate", format!("{what} failed error: {{error}}"))),
        })
    }

    /// Whether a pod of that ordinal is to be made as it was before the update.
    fn is_held_back(&self, ordinal: i32) -> bool {
        if !self.rolls() {
            return false;
        }
        let rolling = self
            .spec
            .update_strategy
            .as_ref()
            .and_then(|s| s.rolling_update.as_ref());
        let below = match rolling {
            Some(_) => self.partition(),
            None => self.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0),
        };
        ordinal < self.start().saturating_add(below)
    }

    fn what(&self, verb: &str, pod: &str) -> String {
        let set = self.set.metadata.name.as_deref().unwrap_or_default();
        format!("{verb} Pod {pod} in StatefulSet {set}")
    }

    fn deletion(&self, pod: &Pod) -> Action {
        let what = self.what("delete", pod.metadata.name.as_deref().unwrap_or_default());
        Action::delete(&PODS, &pod.metadata).noting(Note {
            about: reference(&STATEFUL_SETS, &self.set.metadata),
            success: Some(("SuccessfulDelete", format!("{what} successful"))),
            failure: Some(("FailedDelete", format!("{what} failed error: {{error}}"))),
        })
    }

    /// Plans the end of pods beyond the set's size, from the highest ordinal down.
    fn shrink(&self, plan: &mut Plan) -> Next {
        let condemned = self.condemned();
        let unhealthy = condemned.iter().rev().find(|pod| !self.healthy(pod));
        for pod in &condemned {
            if pods::is_terminating(pod) {
                if !self.parallel() {
                    return Next::Wait;
                }
                continue;
            }
            let first = unhealthy.is_some_and(|first| first.metadata.uid == pod.metadata.uid);
            if !self.parallel() && !self.healthy(pod) && !first {
                return Next::Wait;
            }
            claims::own(self.set, pod, true, self.world, plan);
            plan.change(self.deletion(pod));
            if !self.parallel() {
                return Next::Wait;
            }
        }
        Next::GoOn
    }

    /// Plans the end of pods of an old revision, from the highest ordinal down to the partition.
    fn roll(&self, status: &StatefulSetStatus, plan: &mut Plan) {
        if status.current_revision == status.update_revision && self.all_updated() {
            return;
        }
        let mut missing = 0;
        let first = self.start().saturating_add(self.partition());
        for ordinal in self.ordinals().filter(|o| *o >= first).rev() {
            if missing >= self.max_unavailable() {
                return;
            }
            match self.pod(ordinal) {
                Some(pod) if !Self::has_revision(pod, &self.update) && !pods::is_terminating(pod) => {
                    plan.change(self.deletion(pod));
                    missing += 1;
                }
                Some(pod) if self.healthy(pod) => {}
                _ => missing += 1,
            }
        }
    }

    fn all_updated(&self) -> bool {
        self.pods.iter().all(|pod| Self::has_revision(pod, &self.update))
    }

    fn status(&self, plan: &mut Plan) -> StatefulSetStatus {
        let mut status = self.set.status.clone().unwrap_or_default();
        let count = |wanted: &dyn Fn(&Pod) -> bool| {
            let found = self.pods.iter().filter(|pod| wanted(pod)).count();
            i32::try_from(found).unwrap_or(i32::MAX)
        };
        let some = |n: i32| (n > 0).then_some(n);
        let revised = |pod: &Pod, revision| Self::has_revision(pod, revision) && !pods::is_terminating(pod);
        let ready = |pod: &Pod| pods::phase(pod) == "Running" && pods::is_ready(pod);
        for pod in &self.pods {
            if let Availability::Due(when) = self.available(pod) {
                plan.requeue(when);
            }
        }
        let updated = count(&|pod| revised(pod, &self.update));
        status.replicas = count(&|_| true);
        status.ready_replicas = some(count(&ready));
        status.available_replicas = Some(count(&|pod| self.available(pod) == Availability::Available));
        status.updated_replicas = some(updated);
        status.current_replicas = some(count(&|pod| revised(pod, &self.current)));
        status.current_revision = self.current.metadata.name.clone();
        status.update_revision = self.update.metadata.name.clone();
        status.observed_generation = self.set.metadata.generation;
        status.collision_count = Some(status.collision_count.unwrap_or(0));
        let wanted = self.replicas();
        let complete = updated == wanted && status.replicas == wanted && status.ready_replicas.unwrap_or(0) == wanted;
        if self.rolls() && complete {
            status.current_revision.clone_from(&status.update_revision);
            status.current_replicas = some(updated);
        }
        status
    }

    fn forget(&self, history: &History<'_>, status: &StatefulSetStatus, plan: &mut Plan) {
        let labels = self
            .pods
            .iter()
            .filter_map(|pod| pod.metadata.labels.as_ref()?.get(history::LABEL).cloned());
        let mut used: HashSet<String> = labels.collect();
        used.extend(status.current_revision.clone());
        used.extend(status.update_revision.clone());
        history.truncate(self.spec.revision_history_limit, &used, plan);
    }
}

#[cfg(test)]
mod tests;
