//! One attempt to find a node for one pod: ask every plugin about every node, choose the best. Pure.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use crate::{
    candidate::Candidate,
    cluster::{Cluster, NodeInfo},
    plugins::{NodeView, PLUGINS, Reasons, Scale},
    queue::Happening,
};
use k8s_openapi::api::core::v1::Node;

/// Why a pod fits nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// In the words of Kubernetes: `0/2 nodes are available: 2 Insufficient cpu.`
    pub message: String,
    /// What may help.
    pub helped_by: Vec<Happening>,
}

struct Feasible<'a> {
    name: &'a Arc<str>,
    node: &'a Node,
    info: &'a NodeInfo,
    score: i64,
}

/// The best node for the pod. Of equally good ones `draw` chooses, a number drawn at random.
///
/// # Errors
/// When no node will do.
pub fn decide(pod: &Candidate, cluster: &Cluster, draw: u64) -> Result<Arc<str>, Unfit> {
    let mut refusals = Refusals::default();
    let mut feasible: Vec<Feasible<'_>> = Vec::new();
    for (name, info, node) in cluster.nodes() {
        if refusals.pass(pod, NodeView { node, info }) {
            feasible.push(Feasible {
                name,
                node,
                info,
                score: 0,
            });
        }
    }
    if feasible.len() > 1 {
        rank(pod, &mut feasible);
    }
    let best = feasible.iter().map(|f| f.score).max();
    let ties: Vec<&Feasible<'_>> = feasible.iter().filter(|f| Some(f.score) == best).collect();
    let at = usize::try_from(draw).unwrap_or(0).checked_rem(ties.len());
    match at.and_then(|at| ties.get(at)) {
        Some(chosen) => Ok(chosen.name.clone()),
        None => Err(refusals.sum_up()),
    }
}

fn rank(pod: &Candidate, feasible: &mut [Feasible<'_>]) {
    for score in PLUGINS.iter().filter_map(|plugin| plugin.score.as_ref()) {
        let raw: Vec<i64> = feasible
            .iter()
            .map(|f| {
                (score.score)(
                    pod,
                    NodeView {
                        node: f.node,
                        info: f.info,
                    },
                )
            })
            .collect();
        let most = raw.iter().copied().max().unwrap_or(0);
        for (node, raw) in feasible.iter_mut().zip(raw) {
            let part = match score.scale {
                Scale::Ready => raw,
                Scale::Highest if most > 0 => raw.saturating_mul(100) / most,
                Scale::Highest => 0,
                Scale::Lowest if most > 0 => 100 - raw.saturating_mul(100) / most,
                Scale::Lowest => 100,
            };
            node.score = node.score.saturating_add(part.saturating_mul(score.weight));
        }
    }
}

/// Who refused the pod, and why.
#[derive(Default)]
struct Refusals {
    nodes: usize,
    reasons: BTreeMap<Cow<'static, str>, usize>,
    helped_by: Vec<Happening>,
}

impl Refusals {
    /// Whether all plugins let the pod onto the node; else notes what the first that does not says.
    fn pass(&mut self, pod: &Candidate, view: NodeView<'_>) -> bool {
        self.nodes += 1;
        for plugin in PLUGINS {
            let Some(filter) = plugin.filter else { continue };
            let Err(reasons) = filter(pod, view) else { continue };
            self.note(reasons, plugin.helped_by);
            return false;
        }
        true
    }

    fn note(&mut self, reasons: Reasons, helped_by: &[Happening]) {
        for reason in reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
        for happening in helped_by {
            if !self.helped_by.contains(happening) {
                self.helped_by.push(*happening);
            }
        }
    }

    fn sum_up(self) -> Unfit {
        if self.nodes == 0 {
            let message = "no nodes available to schedule pods".to_owned();
            return Unfit {
                message,
                helped_by: vec![Happening::NodeAdded],
            };
        }
        let mut parts: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        parts.sort();
        let message = format!("0/{} nodes are available: {}.", self.nodes, parts.join(", "));
        Unfit {
            message,
            helped_by: self.helped_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugins::scene::{cluster, named_pod, node, pod};

    #[test]
    fn a_pod_that_fits_nowhere_learns_why() {
        let big = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "64"}}}]}));
        let unfit = decide(&big, &cluster([node("a", json!({})), node("b", json!({}))]), 0).unwrap_err();
        assert_eq!(unfit.message, "0/2 nodes are available: 2 Insufficient cpu.");
        assert!(unfit.helped_by.contains(&Happening::PodGone));
        let cordoned = node("b", json!({"spec": {"unschedulable": true}}));
        let unfit = decide(&big, &cluster([node("a", json!({})), cordoned]), 0).unwrap_err();
        assert_eq!(
            unfit.message,
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable."
        );
        let none = decide(&big, &Cluster::default(), 0).unwrap_err();
        assert_eq!(none.message, "no nodes available to schedule pods");
    }

    #[test]
    fn siblings_spread_over_the_nodes() {
        let mut cluster = cluster(["a", "b", "c"].map(|name| node(name, json!({}))));
        let mut chosen = std::collections::BTreeMap::new();
        for i in 0..9_u64 {
            let pod = named_pod(&i.to_string(), json!({}));
            let name = decide(&pod, &cluster, i).unwrap();
            cluster.place(pod, &name);
            *chosen.entry(name.to_string()).or_insert(0) += 1;
        }
        assert_eq!(chosen.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    }

    #[test]
    fn the_draw_decides_between_equals() {
        let cluster = cluster(["a", "b"].map(|name| node(name, json!({}))));
        let pod = pod(json!({}));
        assert_ne!(decide(&pod, &cluster, 0), decide(&pod, &cluster, 1));
    }
}
