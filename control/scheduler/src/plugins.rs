//! The plugins: each knows one reason why a pod fits a node or not, or likes one node more than another.
//!
//! A plugin is pure. It looks at the pod first, and says what it will ask of each node: often nothing, and then it costs
//! nothing. The table below is the one list of them; their order is the order in which they are asked, the cheap and
//! decisive ones first.

pub mod balanced_allocation;
pub mod dynamic_resources;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_declared_features;
pub mod node_name;
pub mod node_ports;
pub mod node_resources;
pub mod node_unschedulable;
pub mod node_volume_limits;
pub mod pod_topology_spread;
pub mod taint_toleration;
pub mod volume_binding;
pub mod volume_restrictions;
pub mod volume_zone;

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Node;

use crate::{
    candidate::Candidate,
    cluster::Cluster,
    happening::{Happening, Happenings},
    node_info::{NodeIndex, NodeInfo},
};

/// Why a pod does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In the words of Kubernetes; one node can have several reasons.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether it would fit if some pods left the node.
    pub for_room: bool,
}

impl Refusal {
    /// Whoever leaves the node, the pod does not fit.
    #[must_use]
    pub fn for_good(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reasons: vec![reason.into()],
            for_room: false,
        }
    }

    /// It may fit if others leave the node.
    #[must_use]
    pub fn for_room(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reasons: vec![reason.into()],
            for_room: true,
        }
    }
}

/// One attempt to find a node: what plugins look at.
#[derive(Clone, Copy)]
pub struct Round<'a> {
    /// The pod.
    pub pod: &'a Candidate,
    /// The world.
    pub cluster: &'a Cluster,
}

/// One node, as a plugin sees it.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    /// Its place.
    pub index: NodeIndex,
    /// The node.
    pub node: &'a Node,
    /// What is reserved on it.
    pub info: &'a NodeInfo,
}

/// Whether the pod of the round can go to a node, and else why not.
pub type NodeFilter<'a> = Box<dyn Fn(NodeView<'a>) -> Result<(), Refusal> + 'a>;
/// How much a plugin likes a node for the pod of the round.
pub type NodeScore<'a> = Box<dyn Fn(NodeView<'a>) -> i64 + 'a>;

/// What a plugin asks of nodes for one pod.
pub enum Asked<'a> {
    /// Nothing.
    Nothing,
    /// No node will do.
    Nowhere(Refusal),
    /// This of each.
    Each(NodeFilter<'a>),
}

/// The first half of a plugin: what it asks of nodes.
pub type Filter = for<'a> fn(Round<'a>) -> Asked<'a>;

/// How raw scores become 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// They are 0 to 100.
    Ready,
    /// The highest becomes 100.
    Highest,
    /// None at all becomes 100, the highest 0.
    Lowest,
    /// The lowest becomes 0, the highest 100.
    Between,
    /// The lowest becomes 100, and others less by as much as they are more; below nothing stays 0.
    Fewest,
}

impl Scale {
    /// Brings the raw scores of all nodes that the pod fits to 0 to 100.
    pub fn apply(self, scores: &mut [i64]) {
        let counted = || {
            scores
                .iter()
                .copied()
                .filter(|score| self != Self::Fewest || *score >= 0)
        };
        let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        for score in scores {
            let raw = *score;
            *score = match self {
                Self::Ready => raw,
                Self::Highest if most > 0 => raw.saturating_mul(100) / most,
                Self::Highest => 0,
                Self::Lowest if most > 0 => 100 - raw.saturating_mul(100) / most,
                Self::Lowest => 100,
                Self::Between if most > least => (raw - least).saturating_mul(100) / (most - least),
                Self::Between => 0,
                Self::Fewest if raw < 0 => 0,
                Self::Fewest if most > 0 => (most + least - raw).saturating_mul(100) / most,
                Self::Fewest => 100,
            };
        }
    }
}

/// The second half of a plugin.
pub struct Score {
    /// How much the plugin likes each of these nodes, which the pod fits; `None` if it likes them all alike.
    pub of: for<'a> fn(Round<'a>, &[NodeView<'a>]) -> Option<NodeScore<'a>>,
    /// What its numbers mean.
    pub scale: Scale,
    /// How much its word counts.
    pub weight: i64,
}

/// A plugin.
pub struct Plugin {
    /// Its name, as in Kubernetes.
    pub name: &'static str,
    /// Has the world count what the plugin will ask about.
    pub attend: Option<fn(&Candidate, &mut Cluster)>,
    /// What it asks of nodes.
    pub filter: Option<Filter>,
    /// How much it likes them.
    pub score: Option<Score>,
    /// What may make a pod fit that this plugin turned away.
    pub helped_by: Happenings,
}

/// All plugins.
pub static PLUGINS: [&Plugin; 16] = [
    &node_unschedulable::PLUGIN,
    &node_name::PLUGIN,
    &taint_toleration::PLUGIN,
    &node_affinity::PLUGIN,
    &node_declared_features::PLUGIN,
    &node_ports::PLUGIN,
    &node_resources::PLUGIN,
    &volume_restrictions::PLUGIN,
    &node_volume_limits::PLUGIN,
    &volume_binding::PLUGIN,
    &volume_zone::PLUGIN,
    &pod_topology_spread::PLUGIN,
    &inter_pod_affinity::PLUGIN,
    &dynamic_resources::PLUGIN,
    &balanced_allocation::PLUGIN,
    &image_locality::PLUGIN,
];

/// What helps a pod that found no room.
pub const ROOM: Happenings = Happenings::of(&[Happening::NodeAdded, Happening::NodeRoom, Happening::PodGone]);
/// What helps a pod that asks for certain volumes.
pub const VOLUMES: Happenings = Happenings::of(&[
    Happening::NodeAdded,
    Happening::NodeLabels,
    Happening::Claim,
    Happening::Volume,
]);

#[cfg(test)]
pub(crate) mod scene {
    //! Pods and nodes for tests of plugins.

    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    pub fn pod(spec: Value) -> Candidate {
        named_pod("p", spec)
    }

    pub fn named_pod(name: &str, mut spec: Value) -> Candidate {
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true});
        of(json!({"metadata": {"name": name, "namespace": "n", "uid": name, "ownerReferences": [owner]}, "spec": spec}))
    }

    pub fn labelled_pod(labels: Value) -> Candidate {
        of(
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "p", "labels": labels},
            "spec": {"containers": [{"name": "c"}]}}),
        )
    }

    pub fn of(pod: Value) -> Candidate {
        Candidate::of(Arc::new(serde_json::from_value(pod).unwrap()))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_bring_scores_to_a_hundred() {
        for (scale, raw, scaled) in [
            (Scale::Ready, [7, 0, 93], [7, 0, 93]),
            (Scale::Highest, [2, 0, 8], [25, 0, 100]),
            (Scale::Highest, [0, 0, 0], [0, 0, 0]),
            (Scale::Lowest, [2, 0, 8], [75, 100, 0]),
            (Scale::Lowest, [0, 0, 0], [100, 100, 100]),
            (Scale::Between, [-5, 0, 5], [0, 50, 100]),
            (Scale::Between, [3, 3, 3], [0, 0, 0]),
            (Scale::Fewest, [4, 2, -1], [50, 100, 0]),
            (Scale::Fewest, [0, 0, 0], [100, 100, 100]),
        ] {
            let mut scores = raw;
            scale.apply(&mut scores);
            assert_eq!(scores, scaled, "{scale:?} {raw:?}");
        }
    }
}
