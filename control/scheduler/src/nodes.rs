//! The table of nodes, and the order in which they are looked at: zone by zone in turn, so that any part of the order
//! holds nodes of all zones.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Node;

use crate::node_info::{NodeIndex, NodeInfo};

/// The labels that name a node's zone and its region.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// See [`ZONE`].
pub const REGION: &str = "topology.kubernetes.io/region";

/// All nodes.
#[derive(Clone, Default)]
pub struct Nodes {
    slots: Vec<Option<NodeInfo>>,
    by_name: HashMap<Arc<str>, NodeIndex>,
    free: Vec<NodeIndex>,
    order: Vec<NodeIndex>,
    /// Whether nodes came, went or changed their zone since `order` was made.
    disordered: bool,
}

impl Nodes {
    /// The node at that index.
    #[must_use]
    pub fn get(&self, index: NodeIndex) -> Option<&NodeInfo> {
        self.slots.get(index.at())?.as_ref()
    }

    /// The node at that index, to change.
    pub fn get_mut(&mut self, index: NodeIndex) -> Option<&mut NodeInfo> {
        self.slots.get_mut(index.at())?.as_mut()
    }

    /// Where the node of that name is.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<NodeIndex> {
        self.by_name.get(name).copied()
    }

    /// The nodes that are there, in no particular order.
    pub fn present(&self) -> impl Iterator<Item = (NodeIndex, &NodeInfo, &Node)> {
        self.slots.iter().zip(0..).filter_map(|(slot, at)| {
            let info = slot.as_ref()?;
            Some((NodeIndex(at), info, info.node.as_deref()?))
        })
    }

    /// The nodes that are there, in the order in which they are looked at, as of the last [`Nodes::settle`].
    #[must_use]
    pub fn order(&self) -> &[NodeIndex] {
        &self.order
    }

    /// A place for a node of that name: the one that it has, or a new one.
    pub fn place(&mut self, name: &str) -> NodeIndex {
        if let Some(known) = self.find(name) {
            return known;
        }
        let name: Arc<str> = name.into();
        let index = self
            .free
            .pop()
            .unwrap_or_else(|| NodeIndex(u32::try_from(self.slots.len()).unwrap_or(u32::MAX)));
        let info = Some(NodeInfo::named(name.clone()));
        match self.slots.get_mut(index.at()) {
            Some(slot) => *slot = info,
            None => self.slots.push(info),
        }
        self.by_name.insert(name, index);
        index
    }

    /// Takes in a node as it is now.
    pub fn put(&mut self, node: Arc<Node>) -> NodeIndex {
        let index = self.place(node.metadata.name.as_deref().unwrap_or_default());
        if let Some(info) = self.get_mut(index) {
            let moved = info.node.as_deref().is_none_or(|old| zone(old) != zone(&node));
            info.put(node);
            self.disordered |= moved;
        }
        index
    }

    /// Takes in that a node is gone. Its pods count until they are gone too.
    pub fn remove(&mut self, name: &str) -> Option<NodeIndex> {
        let index = self.find(name)?;
        self.get_mut(index)?.node = None;
        self.disordered = true;
        self.drop_if_unused(index);
        Some(index)
    }

    /// Frees the place of a node that is not there and has no pods.
    pub fn drop_if_unused(&mut self, index: NodeIndex) {
        if self
            .get(index)
            .is_some_and(|info| info.node.is_none() && info.pods.is_empty())
            && let Some(info) = self.slots.get_mut(index.at()).and_then(Option::take)
        {
            self.by_name.remove(&info.name);
            self.free.push(index);
        }
    }

    /// Brings the order up to date: the first node of each zone, the second of each, and so on.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.disordered) {
            return;
        }
        let mut zones: BTreeMap<(&str, &str), Vec<(&str, NodeIndex)>> = BTreeMap::new();
        for (index, info, node) in self.present() {
            zones.entry(zone(node)).or_default().push((&info.name, index));
        }
        let mut order = Vec::with_capacity(self.by_name.len());
        for nodes in zones.values_mut() {
            nodes.sort_unstable();
        }
        let longest = zones.values().map(Vec::len).max().unwrap_or(0);
        for turn in 0..longest {
            order.extend(
                zones
                    .values()
                    .filter_map(|nodes| nodes.get(turn))
                    .map(|(_, index)| *index),
            );
        }
        self.order = order;
    }
}

fn zone(node: &Node) -> (&str, &str) {
    let label = |key: &str| {
        let labels = node.metadata.labels.as_ref();
        labels.and_then(|l| l.get(key)).map_or("", String::as_str)
    };
    (label(REGION), label(ZONE))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, zone: &str) -> Arc<Node> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": {ZONE: zone}}})).unwrap())
    }

    fn order(nodes: &mut Nodes) -> String {
        nodes.settle();
        let names = nodes
            .order()
            .iter()
            .map(|index| nodes.get(*index).unwrap().name.to_string());
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn zones_take_turns() {
        let mut nodes = Nodes::default();
        for (name, zone) in [("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "z")] {
            nodes.put(node(name, zone));
        }
        assert_eq!(order(&mut nodes), "a d e b c");
        nodes.put(node("b", "y"));
        nodes.remove("d");
        assert_eq!(order(&mut nodes), "a b e c");
        nodes.put(node("f", "x"));
        assert_eq!(nodes.find("f"), Some(NodeIndex(3)), "a free place is used again");
    }
}
