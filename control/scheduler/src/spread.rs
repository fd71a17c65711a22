//! How a pod wants to be spread with those like it over the domains of a topology.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};

use crate::{
    candidate::Candidate,
    cluster::Cluster,
    domains::{NodeRule, Topology},
    nodes::ZONE,
    selection::{Namespaces, Query, Selection, selector},
};

/// The label that makes a domain of each node.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// By how much pods that ask for nothing may differ: between nodes, and between zones. Kubernetes' own numbers.
const DEFAULTS: [(&str, i32); 2] = [(HOSTNAME, 3), (ZONE, 5)];

/// One wish.
#[derive(Clone, Debug)]
pub struct Constraint {
    /// Those like the pod.
    pub query: Query,
    /// The domains, with only the nodes that count.
    pub topology: Arc<Topology>,
    /// By how much domains may differ.
    pub max_skew: i32,
    /// With fewer domains the emptiest is taken to have no pods.
    pub min_domains: i32,
    /// Whether the pod is rather not scheduled than against it.
    pub hard: bool,
    /// Whether the pod is one of those that are counted.
    pub counts_itself: bool,
    /// Whether each node is a domain of its own.
    pub by_node: bool,
}

/// What the pod itself asks for.
#[must_use]
pub fn constraints(pod: &Pod) -> Vec<Constraint> {
    let Some(spec) = pod.spec.as_ref() else {
        return Vec::new();
    };
    let all = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    let is_hard = |c: &TopologySpreadConstraint| c.when_unsatisfiable == "DoNotSchedule";
    let keys = |hard: bool| -> Vec<String> {
        let alike = all.iter().filter(|c| is_hard(c) == hard);
        alike.map(|c| c.topology_key.clone()).collect()
    };
    all.iter()
        .map(|c| constraint(pod, c, is_hard(c), keys(is_hard(c))))
        .collect()
}

fn constraint(pod: &Pod, wish: &TopologySpreadConstraint, hard: bool, keys: Vec<String>) -> Constraint {
    let own = pod.metadata.labels.as_ref();
    let same = wish.match_label_keys.clone().unwrap_or_default();
    let labels = selector(wish.label_selector.as_ref(), own, &same, &[]);
    let counts_itself = labels.matches(|key| own.and_then(|own| own.get(key)).map(String::as_str));
    let honours = |policy: &Option<String>, default: bool| policy.as_deref().map_or(default, |p| p == "Honor");
    let tolerations = || {
        pod.spec
            .as_ref()
            .and_then(|s| s.tolerations.clone())
            .unwrap_or_default()
    };
    let rule = NodeRule {
        keys,
        wanted_by: honours(&wish.node_affinity_policy, true)
            .then(|| wishes_of(pod))
            .flatten(),
        tolerated_by: honours(&wish.node_taints_policy, false).then(tolerations),
    };
    let namespaces = Namespaces::Listed(vec![pod.metadata.namespace.as_deref().unwrap_or_default().into()]);
    Constraint {
        query: Query::picked(vec![Selection { namespaces, labels }], true),
        topology: Arc::new(Topology::new(&wish.topology_key, rule)),
        max_skew: wish.max_skew,
        min_domains: wish.min_domains.unwrap_or(1),
        hard,
        counts_itself,
        by_node: wish.topology_key == HOSTNAME,
    }
}

/// What the pod asks of nodes; `None` if nothing.
fn wishes_of(pod: &Pod) -> Option<Box<k8s_openapi::api::core::v1::PodSpec>> {
    let spec = pod.spec.as_ref()?;
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.clone());
    let selector = spec.node_selector.clone().filter(|selector| !selector.is_empty());
    if required.is_none() && selector.is_none() {
        return None;
    }
    let mut wishes = k8s_openapi::api::core::v1::PodSpec {
        node_selector: selector,
        ..Default::default()
    };
    if required.is_some() {
        wishes
            .affinity
            .get_or_insert_default()
            .node_affinity
            .get_or_insert_default()
            .required_during_scheduling_ignored_during_execution = required;
    }
    Some(Box::new(wishes))
}

/// How a pod that asks for nothing is spread all the same: with those of its controller, or of its services.
#[must_use]
pub fn defaults(pod: &Candidate, cluster: &Cluster) -> Vec<Constraint> {
    let query = if pod.controller.is_empty() {
        cluster.services.companions(pod)
    } else {
        Some(Query::controlled(&pod.controller))
    };
    let Some(query) = query else { return Vec::new() };
    let of = |(key, max_skew): (&str, i32)| {
        let rule = NodeRule {
            wanted_by: wishes_of(&pod.pod),
            ..NodeRule::default()
        };
        Constraint {
            query: query.clone(),
            topology: Arc::new(Topology::new(key, rule)),
            max_skew,
            min_domains: 1,
            hard: false,
            counts_itself: true,
            by_node: key == HOSTNAME,
        }
    };
    DEFAULTS.into_iter().map(of).collect()
}
