//! PodDisruptionBudgets: how many pods may be asked to leave now.
//!
//! Wants to be true: a budget's status says how many of its pods are expected, how many of these must be healthy, how
//! many are, and how many may therefore be evicted. Evictions themselves are decided by the server, which counts this
//! number down; it must never be counted up while evicted pods are still to be seen going.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::Pod,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, LabelSelector, Time},
        util::intstr::IntOrString,
    },
};
use kube::core::Selector;

use crate::{
    amount,
    clock::after_seconds,
    driver::{Controller, Turn},
    key::Key,
    merge, owner,
    plan::{Action, EventDraft, Plan, Target, reference},
    pods,
    resource::{DEPLOYMENTS, POD_DISRUPTION_BUDGETS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS},
    store::Change,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "disruption-controller",
    resource: POD_DISRUPTION_BUDGETS,
    watches: &[Watch::PodDisruptionBudget(itself), Watch::Pod(of_pod)],
    reconcile,
};

/// How long an evicted pod that does not go is counted as going. The number is Kubernetes' own.
const EVICTED_SECONDS: i64 = 120;

fn itself(change: &Change<PodDisruptionBudget>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|budget| Key::of(&budget.metadata)));
}

fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    let Some(namespace) = change.latest().and_then(|pod| pod.metadata.namespace.as_deref()) else {
        return;
    };
    for budget in world.pod_disruption_budgets.in_namespace(namespace) {
        let selector = selector(&budget);
        if change
            .both()
            .any(|pod| selector.as_ref().is_some_and(|s| owner::selects(s, &pod.metadata)))
        {
            keys.push(Key::of(&budget.metadata));
        }
    }
}

/// What the budget covers: nothing without a selector, everything with an empty one.
fn selector(budget: &PodDisruptionBudget) -> Option<Selector> {
    let selector: LabelSelector = budget.spec.as_ref()?.selector.clone()?;
    Selector::try_from(selector).ok()
}

/// Decides what to do about one budget.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(budget) = world.pod_disruption_budgets.get(key) else {
        return plan;
    };
    if budget.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let pods = covered(&budget, world);
    let old = budget.status.clone().unwrap_or_default();
    let mut status = old.clone();
    status.disrupted_pods = going(&budget, &pods, turn.now, &mut plan);
    match expected(&budget, &pods, world) {
        Ok(expected) => {
            let gone = status.disrupted_pods.clone().unwrap_or_default();
            let healthy = pods.iter().filter(|pod| is_healthy(pod, &gone)).count();
            fill(
                &budget,
                expected,
                i32::try_from(healthy).unwrap_or(i32::MAX),
                &mut status,
            );
            let (state, reason) = if status.disruptions_allowed > Some(0) {
                ("True", "SufficientPods")
            } else {
                ("False", "InsufficientPods")
            };
            set(&mut status, &budget, state, reason, "", turn.now);
        }
        Err(pod) => {
            let message = format!("found no controllers for pod {pod:?}");
            // What cannot be counted must not be spent.
            status.disruptions_allowed = Some(0);
            set(&mut status, &budget, "False", "SyncFailed", &message, turn.now);
            let about = reference(&POD_DISRUPTION_BUDGETS, &budget.metadata);
            let text = format!("Failed to calculate the number of expected pods: {message}");
            plan.events
                .push(EventDraft::warning(about, "CalculateExpectedPodCountFailed", text));
        }
    }
    if let Some(mut patch) = merge::status(budget.metadata.uid.as_deref(), &old, &status) {
        // An eviction that was granted meanwhile must not be forgotten.
        let version = budget.metadata.resource_version.clone();
        crate::template::set(&mut patch, &["metadata", "resourceVersion"], version.into());
        plan.change(Action::status(
            Target::of(&POD_DISRUPTION_BUDGETS, &budget.metadata),
            patch,
        ));
    } else {
        plan.events.clear();
    }
    plan
}

fn covered(budget: &PodDisruptionBudget, world: &World) -> Vec<Arc<Pod>> {
    let Some(selector) = selector(budget) else {
        return Vec::new();
    };
    let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
    let mut pods = world.pods.in_namespace(namespace);
    pods.retain(|pod| !pods::is_finished(pod) && (selector.selects_all() || owner::selects(&selector, &pod.metadata)));
    pods
}

fn is_healthy(pod: &Pod, gone: &BTreeMap<String, Time>) -> bool {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    !pods::is_terminating(pod) && !gone.contains_key(name) && pods::is_ready(pod)
}

/// The evicted pods that are still to be seen going.
fn going(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
    plan: &mut Plan,
) -> Option<BTreeMap<String, Time>> {
    let mut evicted = budget.status.as_ref()?.disrupted_pods.clone()?;
    evicted.retain(|name, since| {
        let pod = pods.iter().find(|pod| pod.metadata.name.as_ref() == Some(name));
        let due = after_seconds(since.0, EVICTED_SECONDS);
        let waits = pod.is_some_and(|pod| !pods::is_terminating(pod)) && due > now;
        if waits {
            plan.requeue(due);
        }
        waits
    });
    (!evicted.is_empty()).then_some(evicted)
}

/// How many pods there should be: as many as there are where only a number must stay, else what their controllers ask
/// for. The name of a pod whose controller has no size.
fn expected(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], world: &World) -> Result<i32, String> {
    let spec = budget.spec.as_ref();
    let by_count =
        spec.is_none_or(|s| s.max_unavailable.is_none() && !matches!(s.min_available, Some(IntOrString::String(_))));
    if by_count {
        return Ok(i32::try_from(pods.len()).unwrap_or(i32::MAX));
    }
    let mut sizes: HashMap<String, i32> = HashMap::new();
    for pod in pods {
        if crate::store::controller_uid(&pod.metadata).is_empty() {
            continue;
        }
        let Some((uid, size)) = scale(pod, world) else {
            return Err(pod.metadata.name.clone().unwrap_or_default());
        };
        sizes.insert(uid, size);
    }
    Ok(sizes.values().fold(0_i32, |sum, size| sum.saturating_add(*size)))
}

/// The uid and size of what decides on the number of pods like this one.
fn scale(pod: &Pod, world: &World) -> Option<(String, i32)> {
    let found = |uid: &Option<String>, size: Option<i32>| Some((uid.clone()?, size.unwrap_or(1)));
    if let Some(rs) = owner::controller_key(&pod.metadata, &REPLICA_SETS).and_then(|key| world.replica_sets.get(&key)) {
        let parent = owner::controller_key(&rs.metadata, &DEPLOYMENTS).and_then(|key| world.deployments.get(&key));
        return match parent {
            Some(d) => found(&d.metadata.uid, d.spec.as_ref().and_then(|s| s.replicas)),
            None => found(&rs.metadata.uid, rs.spec.as_ref().and_then(|s| s.replicas)),
        };
    }
    if let Some(key) = owner::controller_key(&pod.metadata, &STATEFUL_SETS) {
        let set = world.stateful_sets.get(&key)?;
        return found(&set.metadata.uid, set.spec.as_ref().and_then(|s| s.replicas));
    }
    let key = owner::controller_key(&pod.metadata, &REPLICATION_CONTROLLERS)?;
    let rc = world.replication_controllers.get(&key)?;
    found(&rc.metadata.uid, rc.spec.as_ref().and_then(|s| s.replicas))
}

fn fill(budget: &PodDisruptionBudget, expected: i32, healthy: i32, status: &mut PodDisruptionBudgetStatus) {
    let spec = budget.spec.as_ref();
    let desired = match spec.map(|s| (&s.max_unavailable, &s.min_available)) {
        Some((Some(unavailable), _)) => expected
            .saturating_sub(amount::scaled(unavailable, expected, true))
            .max(0),
        Some((None, Some(available))) => amount::scaled(available, expected, true),
        _ => 0,
    };
    let allowed = if expected > 0 {
        healthy.saturating_sub(desired).max(0)
    } else {
        0
    };
    status.expected_pods = Some(expected);
    status.desired_healthy = Some(desired);
    status.current_healthy = Some(healthy);
    status.disruptions_allowed = Some(allowed);
    status.observed_generation = budget.metadata.generation;
}

fn set(
    status: &mut PodDisruptionBudgetStatus,
    budget: &PodDisruptionBudget,
    state: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    const TYPE: &str = "DisruptionAllowed";
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions.iter().find(|c| c.type_ == TYPE && c.status == state);
    let since = before.map_or(Time(now), |c| c.last_transition_time.clone());
    conditions.retain(|c| c.type_ != TYPE);
    conditions.push(Condition {
        type_: TYPE.to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
        observed_generation: budget.metadata.generation,
    });
}
