//! Node lifecycle: a node that has stopped renewing its lease is told apart from one that works.
//!
//! Wants to be true: a silent node's Ready condition is Unknown and it carries the `unreachable` taints; a node that
//! speaks again loses them. It must never touch the condition of a node that renews its lease, nor foreign taints.

use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, NodeCondition, Taint},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::{
    clock::after_seconds,
    driver::{Controller, Turn},
    key::Key,
    merge,
    plan::{Action, EventDraft, Plan, Target, reference},
    resource::NODES,
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

/// How long a node may be silent: five renewals of ten seconds, as in Kubernetes.
const GRACE_SECONDS: i64 = 50;
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";

fn itself(change: &Change<Node>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|node| Key::of(&node.metadata)));
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
    let deadline = after_seconds(heard.unwrap_or(turn.now), GRACE_SECONDS);
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
    if let Some(taints) = taints(&node, status, turn.now) {
        plan.change(Action::merge(
            Target::of(&NODES, &node.metadata),
            json!({
                "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
                "spec": {"taints": taints},
            }),
        ));
    }
    if !silent {
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

/// The taints that the node should have; `None` if it has them.
fn taints(node: &Node, ready: &str, now: Timestamp) -> Option<Vec<Taint>> {
    let current = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let wanted: Option<&str> = match ready {
        "True" => None,
        "False" => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    };
    let ours = |t: &Taint| t.key == UNREACHABLE || t.key == NOT_READY;
    let mut taints: Vec<Taint> = current
        .iter()
        .filter(|t| !ours(t) || Some(t.key.as_str()) == wanted)
        .cloned()
        .collect();
    // Tolerations that end are counted from that time; who adds a taint by hand does not tell it.
    for taint in taints
        .iter_mut()
        .filter(|t| t.effect == "NoExecute" && t.time_added.is_none())
    {
        taint.time_added = Some(Time(now));
    }
    for effect in ["NoSchedule", "NoExecute"] {
        let Some(key) = wanted else { continue };
        if !taints.iter().any(|t| t.key == key && t.effect == effect) {
            let added = (effect == "NoExecute").then_some(Time(now));
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
