//! Node lifecycle: a node that has stopped renewing its lease is told apart from one that works.
//!
//! Wants to be true: a silent node's Ready condition is Unknown, it carries the `unreachable` taints, and its pods are ready
//! no more; a node that speaks again loses the taints. A node that complains, or that a person has closed, carries the
//! taint that says so. Where many nodes are silent together, their pods are moved slowly or not at all (`zones`). It must never touch the condition of a node that renews its lease, nor foreign taints.

mod zones;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, NodeCondition, Pod, Taint},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use zones::Eviction;

use crate::{
    clock::after_seconds,
    driver::{Controller, Turn},
    key::Key,
    merge,
    plan::{Action, EventDraft, Note, Plan, Target, reference},
    pods,
    resource::{NODES, PODS},
    store::Change,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "node-controller",
    resource: NODES,
    watches: &[Watch::Node(itself), Watch::Lease(of_lease)],
    reconcile,
};

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// What a node complains of, and the taint that keeps new pods away meanwhile.
const TROUBLES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// A node that comes or goes also changes how fast the pods of others may be moved.
fn itself(change: &Change<Node>, world: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|node| Key::of(&node.metadata)));
    let is_ready = |node: Option<&Arc<Node>>| node.is_some_and(|node| ready(node).is_some_and(|c| c.status == "True"));
    if is_ready(change.old.as_ref()) != is_ready(change.new.as_ref()) {
        let nodes = world.nodes.all();
        let others = nodes.iter().filter(|node| !is_ready(Some(node)));
        keys.extend(others.map(|node| Key::of(&node.metadata)));
    }
}

/// A renewal matters only to a node that was thought silent or has no deadline yet; the deadline itself is looked at
/// when it comes.
fn of_lease(change: &Change<Lease>, world: &World, keys: &mut Vec<Key>) {
    let Some(name) = change.latest().and_then(|lease| lease.metadata.name.as_deref()) else {
        return;
    };
    let key = Key::cluster(name);
    let silent = world
        .nodes
        .get(&key)
        .is_some_and(|node| ready(&node).is_none_or(|c| c.status == "Unknown"));
    if silent || change.old.is_none() || change.new.is_none() {
        keys.push(key);
    }
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == "Ready")
}

/// Decides what to do about one node.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(node) = world.nodes.get(key) else { return plan };
    let heard = last_heard(&node, world);
    let grace = world.facts.node_grace_seconds;
    let deadline = after_seconds(heard.unwrap_or(turn.now), grace);
    let silent = deadline <= turn.now;
    let condition = ready(&node);
    let status = if silent {
        "Unknown"
    } else {
        condition.map_or("Unknown", |c| c.status.as_str())
    };
    if silent && condition.is_none_or(|c| c.status != "Unknown") {
        plan.change(unknown(&node, turn.now));
        let name = node.metadata.name.clone().unwrap_or_default();
        let about = reference(&NODES, &node.metadata);
        plan.events.push(EventDraft::normal(
            about,
            "NodeNotReady",
            format!("Node {name} status is now: NodeNotReady"),
        ));
    }
    let eviction = match status {
        "True" => Eviction::Now,
        _ => zones::eviction(&node, &world.nodes.all(), turn.now, grace),
    };
    if let Eviction::At(then) = eviction
        && !zones::is_tainted(&node)
    {
        plan.requeue(then);
    }
    if let Some(taints) = taints(&node, status, eviction, turn.now) {
        plan.change(Action::merge(
            Target::of(&NODES, &node.metadata),
            json!({
                "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
                "spec": {"taints": taints},
            }),
        ));
    }
    if silent {
        plan.batch(unready(&node, world, turn.now));
    } else {
        plan.requeue(deadline);
    }
    plan
}

/// When the node last gave a sign of life: its lease, or its own heartbeat before it has one.
fn last_heard(node: &Node, world: &World) -> Option<Timestamp> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let lease = world.leases.get(&Key::new("kube-node-lease", name));
    let renewed = lease.and_then(|l| l.spec.as_ref()?.renew_time.as_ref().map(|t| t.0));
    let heartbeat = ready(node).and_then(|c| c.last_heartbeat_time.as_ref().map(|t| t.0));
    let created = node.metadata.creation_timestamp.as_ref().map(|t| t.0);
    [renewed, heartbeat, created].into_iter().flatten().max()
}

fn unknown(node: &Node, now: Timestamp) -> Action {
    let mut conditions = node
        .status
        .as_ref()
        .and_then(|s| s.conditions.clone())
        .unwrap_or_default();
    let heartbeat = ready(node).and_then(|c| c.last_heartbeat_time.clone());
    conditions.retain(|c| c.type_ != "Ready");
    conditions.push(NodeCondition {
        type_: "Ready".to_owned(),
        status: "Unknown".to_owned(),
        reason: Some("NodeStatusUnknown".to_owned()),
        message: Some("Kubelet stopped posting node status.".to_owned()),
        last_heartbeat_time: heartbeat,
        last_transition_time: Some(Time(now)),
    });
    let patch = json!({"metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
        "status": {"conditions": merge::value(&conditions)}});
    Action::status(Target::of(&NODES, &node.metadata), patch)
}

/// The pods of a lost node are ready no more: nobody can say that they are, and clients should not be sent to them.
fn unready(node: &Node, world: &World, now: Timestamp) -> Vec<Action> {
    let name = node.metadata.name.as_deref();
    let on_node = world
        .pods
        .all()
        .into_iter()
        .filter(|pod| pods::node(pod) == name && pods::is_ready(pod));
    let write = |pod: Arc<Pod>| {
        let mut conditions = pod
            .status
            .as_ref()
            .and_then(|s| s.conditions.clone())
            .unwrap_or_default();
        for condition in conditions.iter_mut().filter(|condition| condition.type_ == "Ready") {
            condition.status = "False".to_owned();
            condition.last_transition_time = Some(Time(now));
        }
        let patch = json!({"metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": merge::value(&conditions)}});
        Action::status(Target::of(&PODS, &pod.metadata), patch).noting(Note {
            about: reference(&PODS, &pod.metadata),
            success: Some(("NodeNotReady", "Node is not ready".to_owned())),
            failure: None,
        })
    };
    on_node.map(write).collect()
}

/// The taints that the node should have for the state that it is in: key and effect.
fn wanted(node: &Node, ready: &str, eviction: Eviction) -> Vec<(&'static str, &'static str)> {
    let state = match ready {
        "True" => None,
        "False" => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    };
    // Pods that were told to go are not called back while others wait.
    let evicts = match eviction {
        Eviction::Now => true,
        Eviction::At(_) | Eviction::Paused => zones::is_tainted(node),
        Eviction::Withdrawn => false,
    };
    let mut wanted: Vec<_> = state.map(|key| (key, "NoSchedule")).into_iter().collect();
    wanted.extend(state.filter(|_| evicts).map(|key| (key, "NoExecute")));
    let conditions = node
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let holds = |type_: &str| conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
    let troubles = TROUBLES.iter().filter(|(condition, _)| holds(condition));
    wanted.extend(troubles.map(|(_, taint)| (*taint, "NoSchedule")));
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    wanted
}

/// The taints that the node should have; `None` if it has them.
fn taints(node: &Node, ready: &str, eviction: Eviction, now: Timestamp) -> Option<Vec<Taint>> {
    let current = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let wanted = wanted(node, ready, eviction);
    let ours = |key: &str| {
        [UNREACHABLE, NOT_READY, UNSCHEDULABLE].contains(&key) || TROUBLES.iter().any(|(_, taint)| *taint == key)
    };
    let stays = |t: &&Taint| !ours(&t.key) || wanted.contains(&(t.key.as_str(), t.effect.as_str()));
    let mut taints: Vec<Taint> = current.iter().filter(stays).cloned().collect();
    // Tolerations that end are counted from that time; who adds a taint by hand does not tell it.
    for taint in taints
        .iter_mut()
        .filter(|t| t.effect == "NoExecute" && t.time_added.is_none())
    {
        taint.time_added = Some(Time(now));
    }
    for (key, effect) in wanted {
        if !taints.iter().any(|t| t.key == key && t.effect == effect) {
            let added = (effect == "NoExecute" || key == UNSCHEDULABLE).then_some(Time(now));
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: added,
                ..Taint::default()
            });
        }
    }
    (taints != current).then_some(taints)
}
