//! ReplicaSets: as many pods from one template as asked for.
//!
//! Wants to be true: `spec.replicas` active pods that match the selector and are owned by the ReplicaSet; its status
//! counts them. It must never delete a pod that it does not own, and never create more in one turn than a burst.

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::Value;
use std::sync::Arc;

use crate::{
    driver::{Controller, Failure, Turn},
    key::Key,
    merge,
    owner::{self, Claimant},
    plan::{Action, Note, Plan, Target, controller_of, reference},
    pods::{self, Availability},
    resource::{PODS, REPLICA_SETS, Resource},
    store::Change,
    template, victims,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    resource: REPLICA_SETS,
    watches: &[Watch::ReplicaSet(itself), Watch::Pod(of_pod)],
    reconcile,
};

/// Pods created or deleted in one turn; the rest follows when these are seen. The number is Kubernetes' own.
const BURST_LIMIT: usize = 500;

fn itself(change: &Change<ReplicaSet>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.latest().map(|rs| Key::of(&rs.metadata)));
}

fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    keys.extend(
        change
            .both()
            .filter_map(|pod| owner::controller_key(&pod.metadata, &REPLICA_SETS)),
    );
    keys.dedup();
    let Some(pod) = change
        .new
        .as_ref()
        .filter(|p| crate::store::controller_uid(&p.metadata).is_empty())
    else {
        return;
    };
    // Nobody's pod may be adopted by whoever selects it.
    for rs in world
        .replica_sets
        .in_namespace(pod.metadata.namespace.as_deref().unwrap_or_default())
    {
        let selector = rs.spec.as_ref().and_then(|spec| owner::selector(&spec.selector));
        if selector.is_some_and(|s| owner::selects(&s, &pod.metadata)) {
            keys.push(Key::of(&rs.metadata));
        }
    }
}

/// Decides what to do about one ReplicaSet.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(rs) = world.replica_sets.get(key) else {
        return plan;
    };
    let Some(status) = decide(&REPLICA_SETS, &rs, world, turn, &mut plan) else {
        return plan;
    };
    let old = rs.status.clone().unwrap_or_default();
    if let Some(patch) = merge::status(rs.metadata.uid.as_deref(), &old, &status) {
        plan.reports
            .push(Action::status(Target::of(&REPLICA_SETS, &rs.metadata), patch));
    }
    plan
}

/// Plans the pods of a set, which is stored as that kind, and tells the status that it should have; `None` if it says
/// nothing of which pods it means.
pub fn decide(
    kind: &Resource,
    rs: &ReplicaSet,
    world: &World,
    turn: &Turn<'_>,
    plan: &mut Plan,
) -> Option<ReplicaSetStatus> {
    let selector = rs.spec.as_ref().and_then(|spec| owner::selector(&spec.selector))?;
    let claimant = Claimant {
        resource: kind,
        meta: &rs.metadata,
        selector: &selector,
    };
    let claimed = claimant.claim(&world.pods, &PODS, plan);
    let (active, rest): (Vec<Arc<Pod>>, Vec<_>) = claimed.into_iter().partition(|pod| pods::is_active(pod));
    let terminating = rest
        .iter()
        .filter(|pod| pods::is_terminating(pod) && !pods::is_finished(pod))
        .count();
    if rs.metadata.deletion_timestamp.is_none() {
        scale(kind, rs, &active, world, turn.now, plan);
    }
    Some(status(rs, &active, terminating, turn, plan))
}

/// The wanted number of pods.
#[must_use]
pub fn replicas(rs: &ReplicaSet) -> i32 {
    rs.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn scale(kind: &Resource, rs: &ReplicaSet, active: &[Arc<Pod>], world: &World, now: Timestamp, plan: &mut Plan) {
    let wanted = usize::try_from(replicas(rs)).unwrap_or(0);
    if active.len() < wanted {
        let missing = (wanted - active.len()).min(BURST_LIMIT);
        let template = pod(kind, rs);
        let namespace = rs.metadata.namespace.as_deref().unwrap_or_default();
        let create = || Action::create(&PODS, namespace, template.clone()).noting(created(kind, rs));
        plan.batch((0..missing).map(|_| create()).collect());
    } else if active.len() > wanted {
        let surplus = (active.len() - wanted).min(BURST_LIMIT);
        let siblings = siblings(rs, world);
        let doomed = victims::choose(active, surplus, &siblings, now);
        plan.batch(
            doomed
                .iter()
                .map(|pod| Action::delete(&PODS, &pod.metadata).noting(deleted(kind, rs, pod)))
                .collect(),
        );
    }
}

/// The active pods of all ReplicaSets with the same controller: they should stay spread over the nodes.
fn siblings(rs: &ReplicaSet, world: &World) -> Vec<Arc<Pod>> {
    let namespace = rs.metadata.namespace.as_deref().unwrap_or_default();
    let parent = crate::store::controller_uid(&rs.metadata);
    let own = || rs.metadata.uid.clone().unwrap_or_default();
    let uids: Vec<String> = if parent.is_empty() {
        vec![own()]
    } else {
        let sets = world.replica_sets.controlled_by(namespace, parent);
        sets.iter().filter_map(|set| set.metadata.uid.clone()).collect()
    };
    let pods = uids.iter().flat_map(|uid| world.pods.controlled_by(namespace, uid));
    pods.filter(|pod| pods::is_active(pod)).collect()
}

/// The pod that the template asks for.
fn pod(kind: &Resource, rs: &ReplicaSet) -> Value {
    let template = rs.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let name = rs.metadata.name.as_deref().unwrap_or_default();
    let mut pod = template::pod(template, &controller_of(kind, &rs.metadata));
    template::set(&mut pod, &["metadata", "generateName"], format!("{name}-").into());
    pod
}

fn created(kind: &Resource, rs: &ReplicaSet) -> Note {
    Note {
        about: reference(kind, &rs.metadata),
        success: Some(("SuccessfulCreate", "Created pod: {name}".to_owned())),
        failure: Some(("FailedCreate", "Error creating: {error}".to_owned())),
    }
}

fn deleted(kind: &Resource, rs: &ReplicaSet, pod: &Pod) -> Note {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Note {
        about: reference(kind, &rs.metadata),
        success: Some(("SuccessfulDelete", format!("Deleted pod: {name}"))),
        failure: Some(("FailedDelete", "Error deleting: {error}".to_owned())),
    }
}

fn status(
    rs: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: usize,
    turn: &Turn<'_>,
    plan: &mut Plan,
) -> ReplicaSetStatus {
    let spec = rs.spec.as_ref();
    let min_ready_seconds = spec.and_then(|s| s.min_ready_seconds).unwrap_or(0);
    let template_labels = spec
        .and_then(|s| s.template.as_ref())
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.clone())
        .unwrap_or_default();
    let fully_labelled = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        template_labels
            .iter()
            .all(|(name, value)| labels.and_then(|l| l.get(name)) == Some(value))
    };
    let mut available = 0;
    for pod in active {
        match pods::availability(pod, min_ready_seconds, turn.now) {
            Availability::Available => available += 1,
            Availability::Due(when) => plan.requeue(when),
            Availability::Not => {}
        }
    }
    let old = rs.status.clone().unwrap_or_default();
    let some = |count: usize| (count > 0).then(|| number(count));
    ReplicaSetStatus {
        replicas: number(active.len()),
        fully_labeled_replicas: some(active.iter().filter(|pod| fully_labelled(pod)).count()),
        ready_replicas: some(active.iter().filter(|pod| pods::is_ready(pod)).count()),
        available_replicas: some(available),
        terminating_replicas: Some(number(terminating)),
        observed_generation: rs.metadata.generation,
        conditions: conditions(old.conditions, turn.failure, turn.now),
    }
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let (before, mut kept): (Vec<_>, Vec<_>) = old
        .unwrap_or_default()
        .into_iter()
        .partition(|condition| condition.type_ == "ReplicaFailure");
    if let Some(failure) = failure {
        let reason = if failure.creating {
            "FailedCreate"
        } else {
            "FailedDelete"
        };
        let since = before.into_iter().next().and_then(|c| c.last_transition_time);
        kept.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        });
    }
    (!kept.is_empty()).then_some(kept)
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        plan::Verb,
        scene::{Scene, now},
    };

    fn set(replicas: i32) -> Value {
        json!({"kind": "ReplicaSet", "metadata": {"name": "r", "namespace": "n", "uid": "r", "generation": 2},
            "spec": {"replicas": replicas, "minReadySeconds": 5, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    }

    fn plan(scene: &Scene) -> Plan {
        reconcile(&Key::new("n", "r"), scene.world(), &Turn::at(now()))
    }

    #[test]
    fn a_burst_is_bounded() {
        let plan = plan(&Scene::default().with(set(2000)));
        assert_eq!(
            plan.actions().filter(|a| matches!(a.verb, Verb::Create(_))).count(),
            BURST_LIMIT
        );
    }
}
