//! The plugins: each knows one reason why a pod fits a node or not, or likes one node more than another.
//!
//! A plugin is pure and looks at one pod and one node. The table below is the one list of them; their order is the
//! order in which they are asked, the cheap and decisive ones first.

pub mod balanced_allocation;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources;
pub mod node_unschedulable;
pub mod spread;
pub mod taint_toleration;

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Node;

use crate::{candidate::Candidate, cluster::NodeInfo, queue::Happening};

/// Why a pod does not fit a node; one node can have several reasons. The words are those of Kubernetes.
pub type Reasons = Vec<Cow<'static, str>>;

/// One node, as a plugin sees it.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    /// The node.
    pub node: &'a Node,
    /// What is reserved on it.
    pub info: &'a NodeInfo,
}

/// How raw scores become 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// They are 0 to 100.
    Ready,
    /// The highest becomes 100.
    Highest,
    /// The lowest becomes 100.
    Lowest,
}

/// The second half of a plugin.
pub struct Score {
    /// How much the plugin likes the node.
    pub score: fn(&Candidate, NodeView<'_>) -> i64,
    /// What its numbers mean.
    pub scale: Scale,
    /// How much its word counts.
    pub weight: i64,
}

/// Whether a pod can go to a node, and else why not.
pub type Filter = fn(&Candidate, NodeView<'_>) -> Result<(), Reasons>;

/// A plugin.
pub struct Plugin {
    /// Its name, as in Kubernetes.
    pub name: &'static str,
    /// Whether the pod can go to the node.
    pub filter: Option<Filter>,
    /// How much it likes the node.
    pub score: Option<Score>,
    /// What may make a pod fit that this plugin turned away.
    pub helped_by: &'static [Happening],
}

/// All plugins.
pub static PLUGINS: [&Plugin; 8] = [
    &node_unschedulable::PLUGIN,
    &node_name::PLUGIN,
    &taint_toleration::PLUGIN,
    &node_affinity::PLUGIN,
    &node_ports::PLUGIN,
    &node_resources::PLUGIN,
    &balanced_allocation::PLUGIN,
    &spread::PLUGIN,
];

/// What helps a pod that a node's own properties turned away.
pub const NODE_EVENTS: &[Happening] = &[Happening::NodeAdded, Happening::NodeChanged];
/// What helps a pod that found no room.
pub const ROOM_EVENTS: &[Happening] = &[Happening::NodeAdded, Happening::NodeChanged, Happening::PodGone];

#[cfg(test)]
pub(crate) mod scene {
    //! Pods and nodes for tests of plugins.

    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Cluster;

    pub fn pod(spec: Value) -> Candidate {
        named_pod("p", spec)
    }

    pub fn named_pod(name: &str, mut spec: Value) -> Candidate {
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        Candidate::of(Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n", "uid": name,
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]},
                "spec": spec}))
            .unwrap(),
        ))
    }

    pub fn node(name: &str, extra: Value) -> Arc<Node> {
        let mut node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3"}}});
        for (part, value) in extra.as_object().unwrap() {
            node[part] = value.clone();
        }
        Arc::new(serde_json::from_value(node).unwrap())
    }

    pub fn cluster(nodes: impl IntoIterator<Item = Arc<Node>>) -> Cluster {
        let mut cluster = Cluster::default();
        nodes.into_iter().for_each(|node| cluster.put_node(node));
        cluster
    }

    /// What the plugin's filter says of the pod and a node with these parts that has these pods already.
    pub fn filter(plugin: &Plugin, pod: &Candidate, node_parts: Value, placed: &[Candidate]) -> Result<(), Reasons> {
        let mut cluster = cluster([node("a", node_parts)]);
        placed.iter().for_each(|pod| cluster.place(pod.clone(), "a"));
        let (_, info, node) = cluster.nodes().next().unwrap();
        (plugin.filter.unwrap())(pod, NodeView { node, info })
    }
}
