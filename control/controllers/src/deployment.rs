//! Deployments: pods from one template, replaced step by step when the template changes.
//!
//! Wants to be true: one ReplicaSet has the Deployment's template and all its replicas; earlier ones are kept, empty,
//! as history. On the way there are never more pods than replicas plus surge and never fewer available than replicas
//! minus unavailable. It must never touch pods: it only creates, sizes and deletes ReplicaSets.

pub mod progress;
pub mod revision;
pub mod sizes;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentStatus, ReplicaSet},
    core::v1::Pod,
};
use serde_json::{Value, json};

use crate::{
    driver::{Controller, Turn},
    key::Key,
    merge,
    owner::{self, Claimant},
    plan::{Action, EventDraft, Plan, Target, controller_of, reference},
    pods,
    replicaset::replicas,
    resource::{DEPLOYMENTS, REPLICA_SETS},
    store::Change,
    world::{Watch, World},
};
use progress::{Facts, News};
use revision::{DESIRED, HASH_LABEL, MAXIMUM, REVISION};
use sizes::{Bounds, Sized};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "deployment-controller",
    resource: DEPLOYMENTS,
    watches: &[Watch::Deployment(itself), Watch::ReplicaSet(of_set), Watch::Pod(of_pod)],
    reconcile,
};

fn itself(change: &Change<Deployment>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.latest().map(|d| Key::of(&d.metadata)));
}

fn of_set(change: &Change<ReplicaSet>, world: &World, keys: &mut Vec<Key>) {
    keys.extend(
        change
            .both()
            .filter_map(|rs| owner::controller_key(&rs.metadata, &DEPLOYMENTS)),
    );
    keys.dedup();
    let Some(rs) = change
        .new
        .as_ref()
        .filter(|rs| crate::store::controller_uid(&rs.metadata).is_empty())
    else {
        return;
    };
    for d in world
        .deployments
        .in_namespace(rs.metadata.namespace.as_deref().unwrap_or_default())
    {
        let selector = d.spec.as_ref().and_then(|spec| owner::selector(&spec.selector));
        if selector.is_some_and(|s| owner::selects(&s, &rs.metadata)) {
            keys.push(Key::of(&d.metadata));
        }
    }
}

/// Only a Deployment that recreates waits for pods themselves: the last old one must be gone.
fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    let Some(pod) = change.old.as_ref().filter(|_| change.new.is_none()) else {
        return;
    };
    let set = owner::controller_key(&pod.metadata, &REPLICA_SETS).and_then(|key| world.replica_sets.get(&key));
    let Some(key) = set.and_then(|rs| owner::controller_key(&rs.metadata, &DEPLOYMENTS)) else {
        return;
    };
    if world.deployments.get(&key).is_some_and(|d| Bounds::of(&d).recreate) {
        keys.push(key);
    }
}

/// Decides what to do about one Deployment.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(d) = world.deployments.get(key) else {
        return plan;
    };
    let Some(spec) = d.spec.as_ref() else { return plan };
    let Some(selector) = owner::selector(&spec.selector) else {
        return plan;
    };
    let claimant = Claimant {
        resource: &DEPLOYMENTS,
        meta: &d.metadata,
        selector: &selector,
    };
    let sets = claimant.claim(&world.replica_sets, &REPLICA_SETS, &mut plan);
    let (new, old) = revision::split(&d, sets);
    let rollout = Rollout {
        d: &d,
        bounds: Bounds::of(&d),
        new,
        old,
        world,
    };
    let news = if d.metadata.deletion_timestamp.is_none() {
        rollout.act(&mut plan)
    } else {
        News::None
    };
    rollout.report(news, turn, &mut plan);
    plan
}

struct Rollout<'a> {
    d: &'a Deployment,
    bounds: Bounds,
    new: Option<Arc<ReplicaSet>>,
    /// All others, from the oldest on.
    old: Vec<Arc<ReplicaSet>>,
    world: &'a World,
}

impl Rollout<'_> {
    /// Plans what brings the rollout nearer to its end.
    fn act(&self, plan: &mut Plan) -> News {
        let mut sets = self.sets();
        let paused = self.d.spec.as_ref().and_then(|s| s.paused) == Some(true);
        if paused || sizes::is_scaling(&sets, &self.bounds) {
            sizes::spread(&mut sets, &self.bounds);
            self.resize(&sets, plan);
            if paused {
                self.forget_old(plan);
            }
            return News::None;
        }
        self.keep_revision(plan);
        if self.bounds.recreate && sizes::stop_old(&mut sets) {
            self.resize(&sets, plan);
            return News::None;
        }
        if self.bounds.recreate && self.old_pods_remain() {
            return News::None;
        }
        if self.new.is_none() {
            return self.create(plan);
        }
        if self.bounds.recreate {
            sets.iter_mut()
                .filter(|set| set.new)
                .for_each(|set| set.size = self.bounds.replicas);
        } else {
            sizes::roll(&mut sets, &self.bounds);
        }
        self.resize(&sets, plan);
        let status = self.status(News::None, jiff::Timestamp::UNIX_EPOCH);
        if progress::is_complete(self.d, &self.bounds, &status) {
            self.forget_old(plan);
        }
        News::None
    }

    /// All ReplicaSets at their present size, from the oldest on, the new one last.
    fn sets(&self) -> Vec<Sized> {
        let old = self.old.iter().map(|rs| Sized::of(rs.clone(), false));
        old.chain(self.new.iter().map(|rs| Sized::of(rs.clone(), true)))
            .collect()
    }

    fn all(&self) -> Vec<Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new).cloned().collect()
    }

    fn old_pods_remain(&self) -> bool {
        let namespace = self.d.metadata.namespace.as_deref().unwrap_or_default();
        self.old.iter().any(|rs| {
            let counted = rs.status.as_ref().is_some_and(|s| s.replicas > 0);
            let uid = rs.metadata.uid.as_deref().unwrap_or_default();
            counted
                || self
                    .world
                    .pods
                    .controlled_by(namespace, uid)
                    .iter()
                    .any(|pod| !pods::is_finished(pod))
        })
    }

    /// The annotations with which each sized ReplicaSet remembers what it was sized for.
    fn sizing(&self) -> [(&'static str, String); 2] {
        [
            (DESIRED, self.bounds.replicas.to_string()),
            (MAXIMUM, self.bounds.maximum().to_string()),
        ]
    }

    fn resize(&self, sets: &[Sized], plan: &mut Plan) {
        for set in sets {
            let before = replicas(&set.rs);
            let stale = set.size > 0 && revision::number(&set.rs, DESIRED) != Some(self.bounds.replicas.into());
            if set.size == before && !stale {
                continue;
            }
            let annotations: BTreeMap<&str, String> = self.sizing().into();
            let mut patch = json!({"metadata": {
                "uid": set.rs.metadata.uid, "resourceVersion": set.rs.metadata.resource_version,
                "annotations": annotations,
            }});
            if set.size != before {
                merge_into(&mut patch, "spec", json!({"replicas": set.size}));
                let name = set.rs.metadata.name.as_deref().unwrap_or_default();
                plan.events.push(self.scaled(name, before, set.size));
            }
            plan.change(Action::merge(Target::of(&REPLICA_SETS, &set.rs.metadata), patch));
        }
    }

    fn scaled(&self, name: &str, from: i32, to: i32) -> EventDraft {
        let way = if to > from { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {name} from {from} to {to}");
        EventDraft::normal(reference(&DEPLOYMENTS, &self.d.metadata), "ScalingReplicaSet", message)
    }

    fn create(&self, plan: &mut Plan) -> News {
        let Some(spec) = self.d.spec.as_ref() else {
            return News::None;
        };
        let collisions = self.d.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let hash = revision::hash(&spec.template, collisions);
        let name = format!("{}-{hash}", self.d.metadata.name.as_deref().unwrap_or_default());
        let namespace = self.d.metadata.namespace.as_deref().unwrap_or_default();
        if self.world.replica_sets.get(&Key::new(namespace, &name)).is_some() {
            // The name is another template's or another owner's: a different hash avoids it.
            let patch = json!({"metadata": {"uid": self.d.metadata.uid}, "status": {"collisionCount": collisions + 1}});
            plan.change(Action::status(Target::of(&DEPLOYMENTS, &self.d.metadata), patch));
            return News::None;
        }
        let total = self.old.iter().fold(0_i32, |sum, rs| sum.saturating_add(replicas(rs)));
        let size = sizes::of_new(&self.bounds, 0, total);
        let revision = revision::next(&self.old);
        let mut annotations = revision::annotations(self.d, &BTreeMap::new(), revision);
        annotations.extend(self.sizing().map(|(name, value)| (name.to_owned(), value)));
        let body = replica_set(self.d, &name, &hash, size, &annotations);
        plan.change(Action::create(&REPLICA_SETS, namespace, body));
        if size > 0 {
            plan.events.push(self.scaled(&name, 0, size));
        }
        plan.change(self.set_revision(&revision.to_string()));
        News::Created(name)
    }

    fn set_revision(&self, revision: &str) -> Action {
        let patch = json!({"metadata": {"uid": self.d.metadata.uid, "annotations": {REVISION: revision}}});
        Action::merge(Target::of(&DEPLOYMENTS, &self.d.metadata), patch)
    }

    /// The new ReplicaSet carries the highest revision, the Deployment's annotations and its ready time.
    fn keep_revision(&self, plan: &mut Plan) {
        let Some(rs) = &self.new else { return };
        let current = rs.metadata.annotations.clone().unwrap_or_default();
        let wanted = revision::annotations(self.d, &current, revision::next(&self.old));
        let ready = |seconds: Option<i32>| seconds.unwrap_or(0);
        let min_ready = ready(self.d.spec.as_ref().and_then(|s| s.min_ready_seconds));
        let differs = min_ready != ready(rs.spec.as_ref().and_then(|s| s.min_ready_seconds));
        if wanted != current || differs {
            let mut patch = json!({"metadata": {"uid": rs.metadata.uid, "annotations": wanted}});
            if differs {
                merge_into(&mut patch, "spec", json!({"minReadySeconds": min_ready}));
            }
            plan.change(Action::merge(Target::of(&REPLICA_SETS, &rs.metadata), patch));
        }
        let own = self.d.metadata.annotations.as_ref().and_then(|a| a.get(REVISION));
        if let Some(revision) = wanted.get(REVISION).filter(|revision| Some(*revision) != own) {
            plan.change(self.set_revision(revision));
        }
    }

    /// Deletes the oldest of the old ReplicaSets that are empty, beyond the history that is to be kept.
    fn forget_old(&self, plan: &mut Plan) {
        let limit = self
            .d
            .spec
            .as_ref()
            .and_then(|s| s.revision_history_limit)
            .unwrap_or(10);
        let alive: Vec<_> = self
            .old
            .iter()
            .filter(|rs| rs.metadata.deletion_timestamp.is_none())
            .collect();
        let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut by_revision = alive;
        by_revision.sort_by_key(|rs| revision::number(rs, REVISION));
        let settled = |rs: &ReplicaSet| {
            let status = rs.status.clone().unwrap_or_default();
            replicas(rs) == 0 && status.replicas == 0 && status.observed_generation >= rs.metadata.generation
        };
        let doomed = by_revision.into_iter().take(surplus).filter(|rs| settled(rs));
        plan.batch(doomed.map(|rs| Action::delete(&REPLICA_SETS, &rs.metadata)).collect());
    }

    fn status(&self, news: News, now: jiff::Timestamp) -> DeploymentStatus {
        let (d, bounds, new) = (self.d, self.bounds, self.new.as_deref());
        Facts {
            d,
            bounds,
            new,
            all: &self.all(),
            news,
            now,
        }
        .status()
    }

    fn report(&self, news: News, turn: &Turn<'_>, plan: &mut Plan) {
        let news = match turn.failure.filter(|failure| failure.creating && self.new.is_none()) {
            Some(failure) => News::NotCreated(failure.message.clone()),
            None => news,
        };
        let failed = matches!(news, News::NotCreated(_));
        let status = self.status(news, turn.now);
        if let Some(when) = progress::check_at(self.d, &self.bounds, &status) {
            plan.requeue(when);
        }
        let old = self.d.status.clone().unwrap_or_default();
        let Some(patch) = merge::status(self.d.metadata.uid.as_deref(), &old, &status) else {
            return;
        };
        let report = Action::status(Target::of(&DEPLOYMENTS, &self.d.metadata), patch);
        if failed {
            plan.reports.push(report);
        } else {
            // A status that tells of a change must not be written when the change failed.
            plan.change(report);
        }
    }
}

fn merge_into(patch: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = patch {
        fields.insert(name.to_owned(), value);
    }
}

/// The ReplicaSet for the Deployment's present template.
fn replica_set(d: &Deployment, name: &str, hash: &str, size: i32, annotations: &BTreeMap<String, String>) -> Value {
    let Some(spec) = d.spec.as_ref() else {
        return Value::Null;
    };
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(HASH_LABEL.to_owned(), hash.to_owned());
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": d.metadata.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [controller_of(&DEPLOYMENTS, &d.metadata)],
        },
        "spec": {
            "replicas": size,
            "minReadySeconds": spec.min_ready_seconds.unwrap_or(0),
            "selector": selector,
            "template": template,
        },
    })
}

#[cfg(test)]
mod tests;
