//! What the scheduler knows of the nodes and of who is on them, kept up to date event by event.
//!
//! A pod that was just given a node counts there at once (it is *assumed*), before the server has said so. Nothing here
//! looks at all pods to answer a question about one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Node;

use crate::{
    candidate::{Candidate, HostPort},
    resources::{Offer, Resources},
};

/// One node with what is reserved on it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The node; `None` for one that pods name but that is not there (yet).
    pub node: Option<Arc<Node>>,
    /// What it offers.
    pub offer: Offer,
    /// What its pods have reserved.
    pub requested: Resources,
    /// What its pods are taken to need when nodes are compared.
    pub presumed: Resources,
    /// How many pods it has.
    pub pods: i64,
    /// The host ports in use.
    pub host_ports: Vec<HostPort>,
    /// How many pods of each controller it has, by uid.
    pub of_controller: HashMap<Arc<str>, i64>,
}

impl NodeInfo {
    fn empty() -> Self {
        Self {
            node: None,
            offer: Offer::default(),
            requested: Resources::default(),
            presumed: Resources::default(),
            pods: 0,
            host_ports: Vec::new(),
            of_controller: HashMap::new(),
        }
    }

    fn add(&mut self, pod: &Candidate) {
        self.requested.add(&pod.requested);
        self.presumed.add(&pod.presumed);
        self.pods += 1;
        self.host_ports.extend(pod.host_ports.iter().cloned());
        if !pod.controller.is_empty() {
            *self.of_controller.entry(pod.controller.clone()).or_default() += 1;
        }
    }

    fn remove(&mut self, pod: &Candidate) {
        self.requested.subtract(&pod.requested);
        self.presumed.subtract(&pod.presumed);
        self.pods -= 1;
        for port in &pod.host_ports {
            if let Some(at) = self.host_ports.iter().position(|used| used == port) {
                self.host_ports.swap_remove(at);
            }
        }
        if let Some(count) = self.of_controller.get_mut(&pod.controller) {
            *count -= 1;
            if *count <= 0 {
                self.of_controller.remove(&pod.controller);
            }
        }
    }
}

struct Placed {
    node: Arc<str>,
    pod: Candidate,
}

/// All nodes.
#[derive(Default)]
pub struct Cluster {
    nodes: BTreeMap<Arc<str>, NodeInfo>,
    placed: HashMap<Arc<str>, Placed>,
}

impl Cluster {
    /// The nodes that are there, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&Arc<str>, &NodeInfo, &Node)> {
        self.nodes
            .iter()
            .filter_map(|(name, info)| Some((name, info, info.node.as_deref()?)))
    }

    /// Takes in a node as it is now.
    pub fn put_node(&mut self, node: Arc<Node>) {
        let name: Arc<str> = node.metadata.name.as_deref().unwrap_or_default().into();
        let info = self.nodes.entry(name).or_insert_with(NodeInfo::empty);
        info.offer = Offer::of(&node);
        info.node = Some(node);
    }

    /// Takes in that a node is gone. Its pods count until they are gone too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(info) = self.nodes.get_mut(name) else { return };
        info.node = None;
        if info.pods == 0 {
            self.nodes.remove(name);
        }
    }

    /// The pod is on that node, or will be.
    pub fn place(&mut self, pod: Candidate, node: &str) {
        if let Some(placed) = self.placed.get(&pod.uid)
            && *placed.node == *node
            && placed.pod.requested == pod.requested
            && placed.pod.host_ports == pod.host_ports
        {
            return;
        }
        self.displace(&pod.uid.clone());
        let node: Arc<str> = node.into();
        self.nodes.entry(node.clone()).or_insert_with(NodeInfo::empty).add(&pod);
        self.placed.insert(pod.uid.clone(), Placed { node, pod });
    }

    /// The pod is on no node any more. True if it was on one.
    pub fn displace(&mut self, uid: &str) -> bool {
        let Some(Placed { node, pod }) = self.placed.remove(uid) else {
            return false;
        };
        if let Some(info) = self.nodes.get_mut(&node) {
            info.remove(&pod);
            if info.pods == 0 && info.node.is_none() {
                self.nodes.remove(&node);
            }
        }
        true
    }

    /// Whether the pod has a node, or will have.
    #[must_use]
    pub fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> Arc<Node> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}}))
            .unwrap(),
        )
    }

    fn pod(uid: u8, cpu: u8) -> Candidate {
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]);
        Candidate::of(Arc::new(
            serde_json::from_value(json!({
            "metadata": {"name": uid.to_string(), "namespace": "n", "uid": uid.to_string(), "ownerReferences": owner},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": u16::from(uid) + 1}],
                "resources": {"requests": {"cpu": format!("{cpu}m")}}}]}}))
            .unwrap(),
        ))
    }

    proptest! {
        #[test]
        fn what_is_reserved_is_what_the_placed_pods_ask_for(
            steps in prop::collection::vec((0..4_u8, 0..8_u8, 1..50_u8), 0..60),
        ) {
            let mut cluster = Cluster::default();
            let mut model: HashMap<u8, (String, u8)> = HashMap::new();
            for (what, uid, cpu) in steps {
                match what {
                    0 | 1 => {
                        let name = if what == 0 { "a" } else { "b" };
                        cluster.put_node(node(name));
                        cluster.place(pod(uid, cpu), name);
                        model.insert(uid, (name.to_owned(), cpu));
                    }
                    2 => { prop_assert_eq!(cluster.displace(&uid.to_string()), model.remove(&uid).is_some()); }
                    _ => cluster.remove_node("b"),
                }
                for (name, info, _) in cluster.nodes() {
                    let here = || model.values().filter(|(node, _)| **node == **name);
                    prop_assert_eq!(info.pods, i64::try_from(here().count()).unwrap());
                    prop_assert_eq!(info.requested.cpu_milli, here().map(|(_, cpu)| i64::from(*cpu)).sum::<i64>());
                    prop_assert_eq!(info.host_ports.len(), here().count());
                    prop_assert_eq!(info.of_controller.get("r").copied().unwrap_or(0), info.pods);
                }
            }
        }
    }
}
