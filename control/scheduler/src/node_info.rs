//! One node with what is reserved on it and what plugins ask about it, worked out when it changes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use rustc_hash::FxHashMap;

use crate::{
    candidate::{Candidate, HostPort},
    resources::{Offer, Resources},
};

/// A node's place in the table of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIndex(pub u32);

impl NodeIndex {
    /// The index as such.
    #[must_use]
    pub fn at(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A placed pod's place in the table of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodIndex(pub u32);

impl PodIndex {
    /// The index as such.
    #[must_use]
    pub fn at(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// One node with what is reserved on it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its name.
    pub name: Arc<str>,
    /// The node; `None` for one that pods name but that is not there (yet).
    pub node: Option<Arc<Node>>,
    /// What it offers.
    pub offer: Offer,
    /// What its pods have reserved.
    pub requested: Resources,
    /// What its pods are taken to need when nodes are compared.
    pub presumed: Resources,
    /// Its pods.
    pub pods: Vec<PodIndex>,
    /// The host ports in use.
    pub host_ports: Vec<HostPort>,
    /// Whether it takes no new pods.
    pub unschedulable: bool,
    /// The taints that keep pods away.
    pub hard_taints: Vec<Taint>,
    /// The taints that pods avoid if they can.
    pub soft_taints: Vec<Taint>,
    /// The images that it has, by each of their names, with their sizes in bytes.
    pub images: FxHashMap<Arc<str>, i64>,
}

impl NodeInfo {
    /// A node of which only the name is known.
    #[must_use]
    pub fn named(name: Arc<str>) -> Self {
        Self {
            name,
            node: None,
            offer: Offer::default(),
            requested: Resources::default(),
            presumed: Resources::default(),
            pods: Vec::new(),
            host_ports: Vec::new(),
            unschedulable: false,
            hard_taints: Vec::new(),
            soft_taints: Vec::new(),
            images: FxHashMap::default(),
        }
    }

    /// The node as it is now.
    pub fn put(&mut self, node: Arc<Node>) {
        let spec = node.spec.as_ref();
        let taints = |soft: bool| {
            let all = spec.into_iter().flat_map(|s| s.taints.iter().flatten());
            all.filter(|taint| (taint.effect == "PreferNoSchedule") == soft)
                .cloned()
                .collect()
        };
        self.offer = Offer::of(&node);
        self.unschedulable = spec.and_then(|s| s.unschedulable) == Some(true);
        self.hard_taints = taints(false);
        self.soft_taints = taints(true);
        self.images = images(&node);
        self.node = Some(node);
    }

    /// The pod is here too.
    pub fn add(&mut self, index: PodIndex, pod: &Candidate) {
        self.requested.add(&pod.requested);
        self.presumed.add(&pod.presumed);
        self.pods.push(index);
        self.host_ports.extend(pod.host_ports.iter().cloned());
    }

    /// The pod is here no more.
    pub fn remove(&mut self, index: PodIndex, pod: &Candidate) {
        self.requested.subtract(&pod.requested);
        self.presumed.subtract(&pod.presumed);
        self.pods.retain(|other| *other != index);
        for port in &pod.host_ports {
            if let Some(at) = self.host_ports.iter().position(|used| used == port) {
                self.host_ports.swap_remove(at);
            }
        }
    }
}

fn images(node: &Node) -> FxHashMap<Arc<str>, i64> {
    let listed = node.status.iter().flat_map(|status| status.images.iter().flatten());
    let named = listed.flat_map(|image| {
        let size = image.size_bytes.unwrap_or(0);
        image
            .names
            .iter()
            .flatten()
            .map(move |name| (name.as_str().into(), size))
    });
    named.collect()
}
