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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::simulation::Simulation;

    fn pod(extra: Value) -> Value {
        let mut pod = json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
            "spec": {"containers": [], "nodeName": "gone"}, "status": {"phase": "Running"}});
        crate::simulation::merge(&mut pod, &extra);
        pod
    }

    #[test]
    fn pods_of_a_node_that_stays_away_fail_and_go() {
        let mut world = Simulation::of([pod(json!({}))]);
        world.settle(&[("Pod", reconcile)], |_| false, |_| {});
        assert_eq!(world.get("Pod", "p")["status"]["conditions"][0]["reason"], REASON);
        assert_eq!(world.due, Some(after_seconds(world.now, MISSED_SECONDS)));
        world.now = world.due.unwrap();
        let plan = reconcile(&Key::new("n", "p"), world.scene.world(), &Turn::at(world.now));
        assert!(matches!(&plan.guards[..], [Guard::Absent(node, _)] if &*node.key.name == "gone"));
        world.carry_out(&plan);
        assert!(world.names("Pod").is_empty());
    }

    #[test]
    fn a_node_that_comes_back_keeps_its_pods() {
        let mut world = Simulation::of([pod(json!({}))]);
        world.settle(&[("Pod", reconcile)], |_| false, |_| {});
        world.create(json!({"kind": "Node", "metadata": {"name": "gone"}}));
        world.now = after_seconds(world.now, 1000);
        world.settle(&[("Pod", reconcile)], |_| false, |_| {});
        assert_eq!(world.names("Pod"), ["p"]);
    }

    #[test]
    fn a_pod_that_is_deleted_before_it_got_a_node_goes_at_once() {
        let ending = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"nodeName": null}});
        let mut world = Simulation::of([pod(ending)]);
        world.settle(&[("Pod", reconcile)], |_| false, |_| {});
        assert!(world.names("Pod").is_empty());
    }
}
