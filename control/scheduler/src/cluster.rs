//! What the scheduler knows of the nodes and of who is on them, kept up to date event by event.
//!
//! A pod that was just given a node counts there at once (it is *assumed*), before the server has said so. This is the
//! snapshot that decisions are made on: it changes only between them, by as much as has happened. Nothing here looks at
//! all pods to answer a question about one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use coracle_controllers::key::Key;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};

use crate::{
    affinity::Term,
    attractions::Attractions,
    budgets::Budgets,
    candidate::Candidate,
    crowds::{Counts, Crowds},
    devices::Devices,
    domains::Topology,
    images::Images,
    node_info::{NodeIndex, NodeInfo, PodIndex},
    nodes::Nodes,
    posting::{Post, Postings},
    selection::{NamespaceLabels, Query, Who},
    services::Services,
    volumes::Volumes,
};

/// A pod that has a node, or will have.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Where.
    pub node: NodeIndex,
    /// The pod.
    pub pod: Arc<Candidate>,
}

/// All nodes, and all that decides which of them are good for a pod.
#[derive(Clone, Default)]
pub struct Cluster {
    nodes: Nodes,
    placed: Vec<Option<Placed>>,
    free: Vec<PodIndex>,
    by_uid: HashMap<Arc<str>, PodIndex>,
    /// Where placed pods are found by those who ask about them for the first time.
    by_post: Postings<PodIndex>,
    crowds: Crowds,
    attractions: Attractions,
    images: Images,
    /// How many placed pods are of each priority.
    priorities: BTreeMap<i32, u32>,
    /// How many placed pods use each claim.
    claimants: HashMap<Key, u32>,
    namespaces: NamespaceLabels,
    /// Claims, volumes and classes.
    pub volumes: Volumes,
    /// Devices, their classes, and claims to them.
    pub devices: Devices,
    /// What may be taken from whom.
    pub budgets: Budgets,
    /// Which services select whom.
    pub services: Services,
}

impl Cluster {
    /// The nodes that are there.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &NodeInfo, &Node)> {
        self.nodes.present()
    }

    /// The nodes that are there, in the order in which they are looked at.
    pub fn order(&mut self) -> &[NodeIndex] {
        self.nodes.settle();
        self.nodes.order()
    }

    /// The order as of the last [`Cluster::order`].
    #[must_use]
    pub fn known_order(&self) -> &[NodeIndex] {
        self.nodes.order()
    }

    /// How many nodes are there, as of the last [`Cluster::order`].
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.order().len()
    }

    /// The node at that index, if it is there.
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> Option<(&NodeInfo, &Node)> {
        let info = self.nodes.get(index)?;
        Some((info, info.node.as_deref()?))
    }

    /// Where the node of that name is.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<NodeIndex> {
        self.nodes.find(name)
    }

    /// Takes in a node as it is now.
    pub fn put_node(&mut self, node: Arc<Node>) {
        let index = self.nodes.put(node.clone());
        let has_pods = self.nodes.get(index).is_some_and(|info| !info.pods.is_empty());
        self.crowds.put_node(index, Some(&node), has_pods);
        if let Some(info) = self.nodes.get(index) {
            self.images.put(index, Some(info));
        }
    }

    /// Takes in that a node is gone. Its pods count until they are gone too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(index) = self.nodes.find(name) else { return };
        let has_pods = self.nodes.get(index).is_some_and(|info| !info.pods.is_empty());
        self.crowds.put_node(index, None, has_pods);
        self.images.put(index, None);
        self.nodes.remove(name);
    }

    /// Takes in the labels of a namespace, or that it is gone.
    pub fn put_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>) {
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.into(), labels)),
            None => drop(self.namespaces.remove(name)),
        }
        self.crowds.forget_by_namespace();
    }

    /// Takes in a budget as it is now, or that it is gone.
    pub fn put_budget(&mut self, old: Option<&PodDisruptionBudget>, new: Option<&Arc<PodDisruptionBudget>>) {
        self.budgets.put(old, new);
    }

    /// The labels of all namespaces.
    #[must_use]
    pub fn namespaces(&self) -> &NamespaceLabels {
        &self.namespaces
    }

    /// Which nodes have which images.
    #[must_use]
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The pod is on that node, or will be.
    pub fn place(&mut self, pod: Arc<Candidate>, node: &str) {
        self.displace(&pod.uid);
        let node = self.nodes.place(node);
        let index = self
            .free
            .pop()
            .unwrap_or_else(|| PodIndex(u32::try_from(self.placed.len()).unwrap_or(u32::MAX)));
        let entry = Some(Placed { node, pod: pod.clone() });
        match self.placed.get_mut(index.at()) {
            Some(slot) => *slot = entry,
            None => self.placed.push(entry),
        }
        self.by_uid.insert(pod.uid.clone(), index);
        for post in posts(&pod) {
            self.by_post.add(post, index);
        }
        if let Some(info) = self.nodes.get_mut(node) {
            info.add(index, &pod);
        }
        self.count(&pod, node, 1);
    }

    /// The pod is on no node any more. Returns it if it was on one.
    pub fn displace(&mut self, uid: &str) -> Option<Placed> {
        let index = self.by_uid.remove(uid)?;
        let placed = self.placed.get_mut(index.at())?.take()?;
        self.free.push(index);
        for post in posts(&placed.pod) {
            self.by_post.remove(post, index);
        }
        self.count(&placed.pod, placed.node, -1);
        if let Some(info) = self.nodes.get_mut(placed.node) {
            info.remove(index, &placed.pod);
        }
        self.nodes.drop_if_unused(placed.node);
        Some(placed)
    }

    fn count(&mut self, pod: &Candidate, node: NodeIndex, by: i64) {
        let alike = self.priorities.entry(pod.priority).or_default();
        *alike = u32::try_from(i64::from(*alike) + by).unwrap_or(0);
        if *alike == 0 {
            self.priorities.remove(&pod.priority);
        }
        for claim in &pod.claims {
            let pods = self.claimants.entry(claim.key.clone()).or_default();
            *pods = u32::try_from(i64::from(*pods) + by).unwrap_or(0);
            if *pods == 0 {
                self.claimants.remove(&claim.key);
            }
        }
        self.crowds.see(pod, node, &self.namespaces, by);
        let nodes = &self.nodes;
        let present = || nodes.present().map(|(index, _, node)| (index, node));
        self.attractions.see(pod, node, by, &mut self.crowds, present);
    }

    /// The pod has changed in nothing that counts here: only the object itself is newer. False if it is on no node.
    pub fn refresh(&mut self, uid: &str, pod: &Arc<Pod>) -> bool {
        let index = self.by_uid.get(uid).copied();
        let slot = index.and_then(|index| self.placed.get_mut(index.at())?.as_mut());
        let Some(placed) = slot else { return false };
        match Arc::get_mut(&mut placed.pod) {
            Some(own) => own.pod = pod.clone(),
            None => {
                placed.pod = Arc::new(Candidate {
                    pod: pod.clone(),
                    ..(*placed.pod).clone()
                });
            }
        }
        true
    }

    /// The placed pod of that uid.
    #[must_use]
    pub fn placed(&self, uid: &str) -> Option<&Placed> {
        self.placed.get(self.by_uid.get(uid)?.at())?.as_ref()
    }

    /// The pods on a node.
    pub fn on(&self, node: NodeIndex) -> impl Iterator<Item = &Arc<Candidate>> {
        let indexes = self
            .nodes
            .get(node)
            .map(|info| info.pods.as_slice())
            .unwrap_or_default();
        indexes
            .iter()
            .filter_map(|index| Some(&self.placed.get(index.at())?.as_ref()?.pod))
    }

    /// Makes sure that [`Cluster::counts`] knows the answer.
    pub fn ask(&mut self, query: &Query, topology: &Arc<Topology>) {
        let Self {
            nodes,
            placed,
            by_post,
            crowds,
            namespaces,
            ..
        } = self;
        let present = nodes.present().map(|(index, _, node)| (index, node));
        let found = || {
            let mut found: Vec<PodIndex> = match all_namespaces(query) {
                true => (0..).map(PodIndex).take(placed.len()).collect(),
                false => query.posts().into_iter().flat_map(|post| by_post.get(post)).collect(),
            };
            found.sort_unstable();
            found.dedup();
            let placed = found.into_iter().filter_map(|index| placed.get(index.at())?.as_ref());
            placed
                .filter(|placed| query.means(&placed.pod, namespaces))
                .map(|placed| placed.node)
        };
        crowds.ask(query, topology, found, present);
    }

    /// How many of the pods that the query means are where, in a topology: what [`Cluster::ask`] was told to know.
    #[must_use]
    pub fn counts(&self, query: &Query, topology: &Topology) -> Option<Counts<'_>> {
        self.crowds.counts(query, topology)
    }

    /// Whether any placed pod matters less than this.
    #[must_use]
    pub fn any_below(&self, priority: i32) -> bool {
        self.priorities.range(..priority).next().is_some()
    }

    /// How many placed pods use the claim.
    #[must_use]
    pub fn claimants(&self, claim: &Key) -> u32 {
        self.claimants.get(claim).copied().unwrap_or(0)
    }

    /// The affinity terms of placed pods that pick this pod.
    #[must_use]
    pub fn facing(&self, pod: &Candidate) -> Vec<(&Term, Counts<'_>)> {
        self.attractions.facing(pod, &self.namespaces, &self.crowds)
    }
}

/// Where a placed pod is found: by its namespace, and there by its labels, and by its controller.
fn posts(pod: &Candidate) -> impl Iterator<Item = Post> {
    let labelled = Post::within(Some(&pod.key.namespace), pod.pod.metadata.labels.as_ref());
    labelled.chain((!pod.controller.is_empty()).then(|| Post::of_controller(&pod.controller)))
}

/// Whether the query's posts name no namespace, so that no placed pod is found by them.
fn all_namespaces(query: &Query) -> bool {
    use crate::selection::Namespaces::{All, Labelled};
    matches!(&query.who, Who::Picked(all) if all.first().is_some_and(|one| matches!(one.namespaces, All | Labelled(..))))
}
