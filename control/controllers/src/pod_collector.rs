//! Pods that nobody would ever end: those of nodes that are gone, and those that are being deleted before they got one.
//!
//! A node that is missed is given time to come back; its pods first say that they are about to go. It must never end a
//! pod whose node exists on the server.

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::{
    clock::after_seconds,
    disruption_target,
    driver::{Controller, Turn},
    key::Key,
    plan::{Action, Guard, Plan, Propagation, Target, Verb},
    pods,
    resource::{NODES, PODS},
    store::Change,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "pod-garbage-collector",
    resource: PODS,
    watches: &[Watch::Pod(of_pod), Watch::Node(of_node)],
    reconcile,
};

/// How long a node may be missed before its pods go: it may be deleted and register anew. The number is Kubernetes' own.
const MISSED_SECONDS: i64 = 40;
const REASON: &str = "DeletionByPodGC";

fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    let Some(pod) = &change.new else { return };
    let lost = match pods::node(pod) {
        Some(node) => world.nodes.get(&Key::cluster(node)).is_none(),
        None => pods::is_terminating(pod),
    };
    if lost {
        keys.push(Key::of(&pod.metadata));
    }
}

fn of_node(change: &Change<Node>, world: &World, keys: &mut Vec<Key>) {
    if change.new.is_some() {
        return;
    }
    let name = change.old.as_ref().and_then(|node| node.metadata.name.as_deref());
    let on = world.pods.all().into_iter().filter(|pod| pods::node(pod) == name);
    keys.extend(on.map(|pod| Key::of(&pod.metadata)));
}

/// Decides what to do about one pod.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(pod) = world.pods.get(key) else { return plan };
    let Some(node) = pods::node(&pod) else {
        if pods::is_terminating(&pod) {
            plan.change(end(&pod));
        }
        return plan;
    };
    if world.nodes.get(&Key::cluster(node)).is_some() {
        return plan;
    }
    let target = Target {
        resource: NODES.clone(),
        key: Key::cluster(node),
    };
    plan.guards.push(Guard::Absent(target, String::new()));
    let condition = pods::condition(&pod, disruption_target::TYPE).filter(|c| c.reason.as_deref() == Some(REASON));
    let told = condition.and_then(|c| c.last_transition_time.as_ref());
    let message = "PodGC: node no longer exists";
    let Some(told) = told else {
        plan.change(disruption_target::mark(&pod, REASON, message, turn.now));
        plan.requeue(after_seconds(turn.now, MISSED_SECONDS));
        return plan;
    };
    let due = after_seconds(told.0, MISSED_SECONDS);
    if due > turn.now {
        plan.requeue(due);
        return Plan {
            guards: Vec::new(),
            ..plan
        };
    }
    if !pods::is_finished(&pod) {
        plan.change(disruption_target::fail(&pod, REASON, message, turn.now));
    }
    plan.change(end(&pod));
    plan
}

/// Deletes at once: no node is there to end it gently.
fn end(pod: &Pod) -> Action {
    let verb = Verb::Delete {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        resource_version: None,
        propagation: Propagation::Background,
        grace_period_seconds: Some(0),
    };
    Action {
        target: Target::of(&PODS, &pod.metadata),
        verb,
        note: None,
    }
}
