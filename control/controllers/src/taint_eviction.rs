//! Pods on nodes that do not want them: a `NoExecute` taint drives out all pods that do not tolerate it, and those that
//! tolerate it for some time when that time is over.
//!
//! It must never evict a pod before the time that its tolerations give it, counted from when the taint was added; a
//! taint that does not tell is stamped by the node controller first.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use crate::{
    clock::after_seconds,
    disruption_target,
    driver::{Controller, Turn},
    key::Key,
    placement,
    plan::{Action, EventDraft, Plan, reference},
    pods,
    resource::PODS,
    store::Change,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "taint-eviction-controller",
    resource: PODS,
    watches: &[Watch::Pod(of_pod), Watch::Node(of_node)],
    reconcile,
};

const NO_EXECUTE: &str = "NoExecute";

fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    let Some(pod) = change.new.as_ref().filter(|pod| pods::is_active(pod)) else {
        return;
    };
    let node = pods::node(pod).and_then(|node| world.nodes.get(&Key::cluster(node)));
    if node.is_some_and(|node| placement::taints(&node, NO_EXECUTE).next().is_some()) {
        keys.push(Key::of(&pod.metadata));
    }
}

fn of_node(change: &Change<Node>, world: &World, keys: &mut Vec<Key>) {
    let taints = |node: &Node| placement::taints(node, NO_EXECUTE).cloned().collect::<Vec<Taint>>();
    let before = change.old.as_ref().map(|node| taints(node)).unwrap_or_default();
    let Some(node) = &change.new else { return };
    let now = taints(node);
    if now.is_empty() || now == before {
        return;
    }
    let name = node.metadata.name.as_deref();
    let on = world.pods.all().into_iter().filter(|pod| pods::node(pod) == name);
    keys.extend(on.map(|pod| Key::of(&pod.metadata)));
}

/// Decides what to do about one pod.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(pod) = world.pods.get(key).filter(|pod| pods::is_active(pod)) else {
        return plan;
    };
    let node = pods::node(&pod).and_then(|node| world.nodes.get(&Key::cluster(node)));
    let Some(due) = node.and_then(|node| evict_at(&pod, &node, turn.now)) else {
        return plan;
    };
    if due > turn.now {
        plan.requeue(due);
        return plan;
    }
    let message = "Taint manager: deleting due to NoExecute taint";
    plan.change(disruption_target::mark(
        &pod,
        "DeletionByTaintManager",
        message,
        turn.now,
    ));
    plan.change(Action::delete(&PODS, &pod.metadata));
    let about = reference(&PODS, &pod.metadata);
    plan.events.push(EventDraft::normal(
        about,
        "TaintManagerEviction",
        format!("Marking for deletion Pod {key}"),
    ));
    plan
}

/// When the pod must leave the node; `None` if it may stay.
fn evict_at(pod: &Pod, node: &Node, now: Timestamp) -> Option<Timestamp> {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|s| s.tolerations.as_deref())
        .unwrap_or_default();
    let until = |taint: &Taint| {
        let Some(toleration) = tolerations.iter().find(|t| placement::tolerates(t, taint)) else {
            return Some(now);
        };
        let seconds = toleration.toleration_seconds?.max(0);
        Some(after_seconds(taint.time_added.as_ref()?.0, seconds))
    };
    placement::taints(node, NO_EXECUTE).filter_map(until).min()
}
