//! Which images the nodes have, so that a pod can go where its image is already.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::node_info::{NodeIndex, NodeInfo};

/// How many nodes have each image.
#[derive(Clone, Debug, Default)]
pub struct Images {
    nodes: FxHashMap<Arc<str>, i64>,
    of_node: FxHashMap<NodeIndex, Vec<Arc<str>>>,
}

impl Images {
    /// Takes in what a node has now, or that it is gone.
    pub fn put(&mut self, index: NodeIndex, info: Option<&NodeInfo>) {
        for name in self.of_node.remove(&index).into_iter().flatten() {
            if let Some(nodes) = self.nodes.get_mut(&name) {
                *nodes -= 1;
                if *nodes == 0 {
                    self.nodes.remove(&name);
                }
            }
        }
        let names: Vec<Arc<str>> = info.into_iter().flat_map(|info| info.images.keys().cloned()).collect();
        if names.is_empty() {
            return;
        }
        for name in &names {
            *self.nodes.entry(name.clone()).or_default() += 1;
        }
        self.of_node.insert(index, names);
    }

    /// How many nodes have the image.
    #[must_use]
    pub fn nodes_with(&self, name: &str) -> i64 {
        self.nodes.get(name).copied().unwrap_or(0)
    }
}
