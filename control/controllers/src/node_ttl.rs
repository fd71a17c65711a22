//! How long a node may keep what it has read of ConfigMaps and Secrets: the larger the cluster, the longer, so that the
//! reads of all nodes together stay bounded.
//!
//! Wants to be true: each node carries the annotation that tells the seconds for the present number of nodes.

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::{
    driver::{Controller, Turn},
    key::Key,
    plan::{Action, Plan, Target},
    resource::NODES,
    store::Change,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "ttl-controller",
    resource: NODES,
    watches: &[Watch::Node(of_node)],
    reconcile,
};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// From how many nodes on how many seconds hold; the way down is a little later than the way up, so that a cluster at
/// the border does not write all its nodes again and again. The numbers are Kubernetes' own.
const STEPS: [(usize, usize, u32); 5] = [
    (0, 0, 0),
    (101, 91, 15),
    (501, 451, 30),
    (1001, 901, 60),
    (2001, 1801, 300),
];

/// A node that comes or goes may be the one that changes what holds for all.
fn of_node(change: &Change<Node>, world: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|node| Key::of(&node.metadata)));
    let count = world.nodes.len();
    let comes = change.old.is_none() && STEPS.iter().any(|(up, _, _)| *up == count);
    let goes = change.new.is_none() && STEPS.iter().any(|(_, down, _)| *down == count + 1);
    if comes || goes {
        keys.extend(world.nodes.all().iter().map(|node| Key::of(&node.metadata)));
    }
}

/// Decides what to do about one node.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(node) = world.nodes.get(key) else { return plan };
    let annotations = node.metadata.annotations.as_ref();
    let present = annotations.and_then(|all| all.get(ANNOTATION)?.parse().ok());
    let wanted = seconds(world.nodes.len(), present);
    if present != Some(wanted) {
        let patch = json!({"metadata": {"uid": node.metadata.uid, "annotations": {ANNOTATION: wanted.to_string()}}});
        plan.change(Action::merge(Target::of(&NODES, &node.metadata), patch));
    }
    plan
}

/// The seconds for so many nodes, where `present` holds now.
fn seconds(nodes: usize, present: Option<u32>) -> u32 {
    let holds = |(up, down, seconds): &(usize, usize, u32)| {
        let from = if present.is_some_and(|present| present >= *seconds) {
            down
        } else {
            up
        };
        nodes >= *from
    };
    STEPS
        .iter()
        .rev()
        .find(|step| holds(step))
        .map_or(0, |(_, _, seconds)| *seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_clusters_keep_longer_and_the_border_is_wide() {
        assert_eq!(seconds(1, None), 0);
        assert_eq!(
            [seconds(100, Some(0)), seconds(101, Some(0)), seconds(5000, Some(0))],
            [0, 15, 300]
        );
        assert_eq!([seconds(95, Some(15)), seconds(90, Some(15))], [15, 0]);
        assert_eq!(seconds(450, Some(300)), 15);
    }
}
