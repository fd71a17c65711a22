//! The domains of a topology: nodes that share the value of a label, as far as a rule admits them.

use std::sync::Arc;

use coracle_controllers::placement;
use k8s_openapi::api::core::v1::{Node, PodSpec, Toleration};
use rustc_hash::FxHashMap;
use serde_json::json;

use crate::node_info::NodeIndex;

/// One domain of a topology, as a small number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(u32);

impl Domain {
    /// The number as an index.
    #[must_use]
    pub fn at(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Which nodes count in a topology.
#[derive(Clone, Debug, Default)]
pub struct NodeRule {
    /// Only nodes that have all of these labels.
    pub keys: Vec<String>,
    /// Only nodes that the node selector and required node affinity of this pod allow.
    pub wanted_by: Option<Box<PodSpec>>,
    /// Only nodes whose taints these tolerate.
    pub tolerated_by: Option<Vec<Toleration>>,
}

impl NodeRule {
    /// The same text for the same rule.
    #[must_use]
    pub fn id(&self) -> String {
        let wanted = self
            .wanted_by
            .as_ref()
            .map(|spec| json!([spec.node_selector, spec.affinity]).to_string());
        let tolerated = self.tolerated_by.as_ref().map(|list| json!(list).to_string());
        format!("{:?} {wanted:?} {tolerated:?}", self.keys)
    }

    fn admits(&self, node: &Node) -> bool {
        let labels = node.metadata.labels.as_ref();
        self.keys
            .iter()
            .all(|key| labels.is_some_and(|labels| labels.contains_key(key)))
            && self.wanted_by.as_ref().is_none_or(|spec| placement::wants(spec, node))
            && self.tolerated_by.as_ref().is_none_or(|tolerations| {
                let hard = ["NoSchedule", "NoExecute"]
                    .into_iter()
                    .flat_map(|effect| placement::taints(node, effect));
                hard.into_iter()
                    .all(|taint| tolerations.iter().any(|t| placement::tolerates(t, taint)))
            })
    }
}

/// Names a topology and the nodes that count in it.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The node label that makes the domains.
    pub key: Arc<str>,
    /// Which nodes count.
    pub rule: NodeRule,
    /// The same for the same topology.
    pub id: Arc<str>,
}

impl Topology {
    /// The domains that the label makes of the nodes that the rule admits.
    #[must_use]
    pub fn new(key: &str, rule: NodeRule) -> Self {
        let id = format!("{key} {}", rule.id()).into();
        Self {
            key: key.into(),
            rule,
            id,
        }
    }
}

/// The domains of one topology, kept up to date node by node.
#[derive(Clone, Debug)]
pub struct Domains {
    topology: Arc<Topology>,
    by_value: FxHashMap<Arc<str>, Domain>,
    /// By node index.
    of_node: Vec<Option<Domain>>,
    /// By domain: the value and how many nodes have it; none have a value that is free for another.
    members: Vec<(Arc<str>, u32)>,
    free: Vec<Domain>,
}

impl Domains {
    /// No nodes yet.
    #[must_use]
    pub fn new(topology: Arc<Topology>) -> Self {
        Self {
            topology,
            by_value: FxHashMap::default(),
            of_node: Vec::new(),
            members: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The domain of the node; `None` if it does not count.
    #[must_use]
    pub fn of(&self, node: NodeIndex) -> Option<Domain> {
        self.of_node.get(node.at()).copied().flatten()
    }

    /// How many domains there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_value.len()
    }

    /// One more than the largest number of any domain.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.members.len()
    }

    /// Whether no node counts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_value.is_empty()
    }

    /// Takes in the node as it is, or that it is gone. Returns its domain before and after.
    pub fn put(&mut self, index: NodeIndex, node: Option<&Node>) -> (Option<Domain>, Option<Domain>) {
        let value = node.filter(|node| self.topology.rule.admits(node)).and_then(|node| {
            let labels = node.metadata.labels.as_ref()?;
            labels.get(&*self.topology.key).map(String::as_str)
        });
        let before = self.of(index);
        let after = value.map(|value| self.enter(value));
        if let Some(before) = before {
            self.leave(before);
        }
        if self.of_node.len() <= index.at() {
            self.of_node.resize(index.at() + 1, None);
        }
        if let Some(slot) = self.of_node.get_mut(index.at()) {
            *slot = after;
        }
        (before, after)
    }

    fn enter(&mut self, value: &str) -> Domain {
        let domain = match self.by_value.get(value) {
            Some(known) => *known,
            None => self.found(value.into()),
        };
        if let Some((_, nodes)) = self.members.get_mut(domain.at()) {
            *nodes += 1;
        }
        domain
    }

    fn found(&mut self, value: Arc<str>) -> Domain {
        let domain = match self.free.pop() {
            Some(free) => free,
            None => Domain(u32::try_from(self.members.len()).unwrap_or(u32::MAX)),
        };
        match self.members.get_mut(domain.at()) {
            Some(member) => *member = (value.clone(), 0),
            None => self.members.push((value.clone(), 0)),
        }
        self.by_value.insert(value, domain);
        domain
    }

    fn leave(&mut self, domain: Domain) {
        let Some((value, nodes)) = self.members.get_mut(domain.at()) else {
            return;
        };
        *nodes = nodes.saturating_sub(1);
        if *nodes == 0 {
            self.by_value.remove(value);
            self.free.push(domain);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(zone: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "a", "labels": zone}})).unwrap()
    }

    #[test]
    fn domains_come_and_go_with_their_nodes() {
        let mut domains = Domains::new(Arc::new(Topology::new("zone", NodeRule::default())));
        let (x, y) = (node(json!({"zone": "x"})), node(json!({"zone": "y"})));
        let (a, b) = (NodeIndex(0), NodeIndex(1));
        domains.put(a, Some(&x));
        domains.put(b, Some(&x));
        assert_eq!((domains.len(), domains.of(a)), (1, domains.of(b)));
        let (before, after) = domains.put(b, Some(&y));
        assert_eq!((before, after), (domains.of(a), domains.of(b)));
        assert_eq!(domains.len(), 2);
        domains.put(a, None);
        domains.put(b, Some(&node(json!({}))));
        assert!(domains.is_empty() && domains.of(a).is_none() && domains.of(b).is_none());
        domains.put(a, Some(&y));
        assert_eq!(domains.len(), 1, "a number is used again");
    }

    #[test]
    fn a_rule_leaves_nodes_out() {
        let spec: PodSpec = serde_json::from_value(json!({"containers": [], "nodeSelector": {"disk": "ssd"}})).unwrap();
        let rule = NodeRule {
            keys: vec!["zone".to_owned()],
            wanted_by: Some(Box::new(spec)),
            tolerated_by: Some(Vec::new()),
        };
        let mut domains = Domains::new(Arc::new(Topology::new("zone", rule)));
        let mut counts = |node: Value| {
            domains
                .put(NodeIndex(0), Some(&serde_json::from_value(node).unwrap()))
                .1
                .is_some()
        };
        let labels = json!({"zone": "x", "disk": "ssd"});
        assert!(counts(json!({"metadata": {"labels": labels}})));
        assert!(!counts(json!({"metadata": {"labels": {"zone": "x"}}})));
        assert!(!counts(
            json!({"metadata": {"labels": labels}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})
        ));
    }
}
