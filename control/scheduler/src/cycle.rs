//! One attempt to find a node for one pod: ask the plugins about nodes until enough will do, choose the best.
//!
//! In a large cluster not all nodes are looked at: from where the last attempt ended, until a part of them that shrinks
//! with the size of the cluster has been found to fit. So an attempt costs about the same in every cluster that has room.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use crate::{
    candidate::Candidate,
    cluster::Cluster,
    happening::{Happening, Happenings},
    node_info::NodeIndex,
    nominations::Nominations,
    plugins::{Asked, NodeFilter, NodeView, PLUGINS, Plugin, Refusal, Round},
};

/// At least so many nodes that fit are compared, if there are as many: Kubernetes' own number.
const FEASIBLE_LEAST: usize = 100;
/// Of the nodes of a small cluster this percentage is enough; it falls by one for each further 125 nodes, down to the
/// least percentage. Kubernetes' own numbers.
const FEASIBLE_PERCENT: usize = 50;
const NODES_A_PERCENT: usize = 125;
const FEASIBLE_PERCENT_LEAST: usize = 5;

/// How an attempt ended, and where the next one begins.
pub struct Attempt {
    /// The node, or why there is none.
    pub outcome: Result<Arc<str>, Unfit>,
    /// How many nodes were looked at, in order.
    pub looked_at: usize,
}

/// Why a pod fits nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfit {
    /// In the words of Kubernetes: `0/2 nodes are available: 2 Insufficient cpu.`
    pub message: String,
    /// What may help.
    pub helped_by: Happenings,
    /// The nodes that would do if some pods left them.
    pub for_room: Vec<NodeIndex>,
    /// How many nodes there are.
    pub nodes: usize,
}

/// How many nodes that fit are enough in a cluster of this size.
#[must_use]
pub fn enough(nodes: usize) -> usize {
    if nodes < FEASIBLE_LEAST {
        return nodes;
    }
    let percent = FEASIBLE_PERCENT
        .saturating_sub(nodes / NODES_A_PERCENT)
        .max(FEASIBLE_PERCENT_LEAST);
    (nodes * percent / 100).max(FEASIBLE_LEAST)
}

/// The best node for the pod, looking from the node at `start` in order. Of equally good ones `draw` chooses, a number
/// drawn at random. The world is left as it is, but that it may count more than before.
pub fn decide(pod: &Candidate, cluster: &mut Cluster, kept: &Nominations, start: usize, draw: u64) -> Attempt {
    attend(pod, cluster);
    let order = cluster.order();
    let (nodes, first) = (order.len(), start.checked_rem(order.len()).unwrap_or(0));
    let made = kept.of(&pod.uid).and_then(|name| cluster.find(name));
    if let Some(index) = made
        && passes(pod, cluster, kept, index).is_ok()
        && let Some((info, _)) = cluster.node(index)
    {
        return Attempt {
            outcome: Ok(info.name.clone()),
            looked_at: 0,
        };
    }
    let mut search = Search::new(nodes, enough(nodes));
    let questions = match questions(pod, cluster) {
        Ok(questions) => questions,
        Err((refusal, helped_by)) => {
            return Attempt {
                outcome: Err(search.nowhere(refusal, helped_by)),
                looked_at: 0,
            };
        }
    };
    match &pod.named_nodes {
        Some(names) => {
            let named = names.iter().filter_map(|name| cluster.find(name));
            search.look(named, cluster, &questions, kept);
            search.leave_out(nodes);
        }
        None => {
            let order = cluster.known_order();
            let turned = order.iter().skip(first).chain(order.iter().take(first)).copied();
            search.look(turned, cluster, &questions, kept);
        }
    }
    drop(questions);
    search.look_at_kept(pod, cluster, kept);
    let looked_at = search.looked_at;
    let outcome = match best(pod, cluster, &search.feasible, draw) {
        Some(name) => Ok(name),
        None => Err(search.sum_up()),
    };
    Attempt { outcome, looked_at }
}

/// Has the world count what the plugins will ask about.
pub fn attend(pod: &Candidate, cluster: &mut Cluster) {
    for attend in PLUGINS.iter().filter_map(|plugin| plugin.attend) {
        attend(pod, cluster);
    }
}

type Question<'a> = (&'static Plugin, NodeFilter<'a>);

/// What the plugins ask of nodes.
fn questions<'a>(pod: &'a Candidate, cluster: &'a Cluster) -> Result<Vec<Question<'a>>, (Refusal, Happenings)> {
    let mut questions = Vec::with_capacity(PLUGINS.len());
    for plugin in PLUGINS {
        let Some(filter) = plugin.filter else { continue };
        match filter(Round { pod, cluster }) {
            Asked::Nothing => {}
            Asked::Nowhere(refusal) => return Err((refusal, plugin.helped_by)),
            Asked::Each(question) => questions.push((plugin, question)),
        }
    }
    Ok(questions)
}

/// Whether the pod can go to the node, which the plugins have attended to: also when all are there for whom room on it
/// is kept and who matter as much. The world is left as it is.
///
/// # Errors
/// Why not.
pub fn passes(pod: &Candidate, cluster: &mut Cluster, kept: &Nominations, node: NodeIndex) -> Result<(), Refusal> {
    ask(pod, cluster, node)?;
    let Some((info, _)) = cluster.node(node) else {
        return Ok(());
    };
    let name = info.name.clone();
    let guests: Vec<Arc<Candidate>> = kept
        .on(&name)
        .filter(|guest| guest.uid != pod.uid && guest.priority >= pod.priority && cluster.placed(&guest.uid).is_none())
        .cloned()
        .collect();
    if guests.is_empty() {
        return Ok(());
    }
    for guest in &guests {
        cluster.place(guest.clone(), &name);
    }
    let answer = ask(pod, cluster, node);
    for guest in &guests {
        cluster.displace(&guest.uid);
    }
    answer
}

fn ask(pod: &Candidate, cluster: &Cluster, index: NodeIndex) -> Result<(), Refusal> {
    let Some((info, node)) = cluster.node(index) else {
        return Err(Refusal::for_good("node(s) were not found"));
    };
    let view = NodeView { index, node, info };
    for (_, question) in questions(pod, cluster).map_err(|(refusal, _)| refusal)? {
        question(view)?;
    }
    Ok(())
}

/// What each plugin makes of each node that the pod fits: 0 to 100, before its weight.
#[must_use]
pub fn scores(pod: &Candidate, cluster: &Cluster, feasible: &[NodeIndex]) -> Vec<(&'static Plugin, i64, Vec<i64>)> {
    let views: Vec<NodeView<'_>> = feasible
        .iter()
        .filter_map(|index| {
            let (info, node) = cluster.node(*index)?;
            Some(NodeView {
                index: *index,
                node,
                info,
            })
        })
        .collect();
    let round = Round { pod, cluster };
    let scored = PLUGINS.iter().filter_map(|plugin| {
        let score = plugin.score.as_ref()?;
        let of = (score.of)(round, &views)?;
        let mut scores: Vec<i64> = views.iter().map(|view| of(*view)).collect();
        score.scale.apply(&mut scores);
        Some((*plugin, score.weight, scores))
    });
    scored.collect()
}

/// The node of the highest score; of several the one that is drawn.
fn best(pod: &Candidate, cluster: &Cluster, feasible: &[NodeIndex], draw: u64) -> Option<Arc<str>> {
    let mut sums = vec![0_i64; feasible.len()];
    if feasible.len() > 1 {
        for (_, weight, scores) in scores(pod, cluster, feasible) {
            for (sum, score) in sums.iter_mut().zip(scores) {
                *sum = sum.saturating_add(score.saturating_mul(weight));
            }
        }
    }
    let most = sums.iter().max()?;
    let ties = || feasible.iter().zip(&sums).filter(|(_, sum)| *sum == most);
    let at = usize::try_from(draw).unwrap_or(0).checked_rem(ties().count())?;
    let (index, _) = ties().nth(at)?;
    cluster.node(*index).map(|(info, _)| info.name.clone())
}

/// The way through the nodes.
struct Search {
    nodes: usize,
    wanted: usize,
    looked_at: usize,
    feasible: Vec<NodeIndex>,
    /// Nodes on which room is kept for others: they are looked at one by one, after the rest.
    kept: Vec<NodeIndex>,
    reasons: BTreeMap<Cow<'static, str>, usize>,
    helped_by: Happenings,
    for_room: Vec<NodeIndex>,
}

impl Search {
    fn new(nodes: usize, wanted: usize) -> Self {
        Self {
            nodes,
            wanted,
            looked_at: 0,
            feasible: Vec::with_capacity(wanted),
            kept: Vec::new(),
            reasons: BTreeMap::new(),
            helped_by: Happenings::NONE,
            for_room: Vec::new(),
        }
    }

    fn look<'a>(
        &mut self,
        nodes: impl Iterator<Item = NodeIndex>,
        cluster: &'a Cluster,
        questions: &[Question<'a>],
        kept: &Nominations,
    ) {
        for index in nodes {
            if self.feasible.len() >= self.wanted {
                return;
            }
            let Some((info, node)) = cluster.node(index) else {
                continue;
            };
            self.looked_at += 1;
            let view = NodeView { index, node, info };
            let refused = questions
                .iter()
                .find_map(|(plugin, question)| question(view).err().map(|refusal| (*plugin, refusal)));
            match refused {
                Some((plugin, refusal)) => self.note(index, refusal, plugin.helped_by),
                None if kept.any_on(&info.name) => self.kept.push(index),
                None => self.feasible.push(index),
            }
        }
    }

    fn look_at_kept(&mut self, pod: &Candidate, cluster: &mut Cluster, kept: &Nominations) {
        for index in std::mem::take(&mut self.kept) {
            match passes(pod, cluster, kept, index) {
                Ok(()) => self.feasible.push(index),
                Err(refusal) => {
                    let helped_by = Happenings::of(&[Happening::PodGone, Happening::NodeAdded, Happening::NodeRoom]);
                    self.note(index, refusal, helped_by);
                }
            }
        }
    }

    fn note(&mut self, index: NodeIndex, refusal: Refusal, helped_by: Happenings) {
        self.helped_by = self.helped_by.and(helped_by);
        if refusal.for_room {
            self.for_room.push(index);
        }
        for reason in refusal.reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    /// The nodes that were not looked at are not those that the pod names.
    fn leave_out(&mut self, nodes: usize) {
        let others = nodes.saturating_sub(self.looked_at);
        if others > 0 {
            self.reasons
                .insert("node(s) didn't satisfy plugin(s) [NodeAffinity]".into(), others);
            self.helped_by = self.helped_by.and(Happenings::of(&[Happening::NodeAdded]));
        }
        self.looked_at = 0;
    }

    fn nowhere(self, refusal: Refusal, helped_by: Happenings) -> Unfit {
        if self.nodes == 0 {
            return self.sum_up();
        }
        Unfit {
            message: format!("0/{} nodes are available: {}.", self.nodes, refusal.reasons.join(", ")),
            helped_by,
            for_room: Vec::new(),
            nodes: self.nodes,
        }
    }

    fn sum_up(self) -> Unfit {
        let (message, helped_by) = if self.nodes == 0 {
            let message = "no nodes available to schedule pods".to_owned();
            (message, Happenings::of(&[Happening::NodeAdded]))
        } else {
            (summary(self.nodes, &self.reasons), self.helped_by)
        };
        Unfit {
            message,
            helped_by,
            for_room: self.for_room,
            nodes: self.nodes,
        }
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
#[must_use]
pub fn summary(nodes: usize, reasons: &BTreeMap<Cow<'static, str>, usize>) -> String {
    let mut parts: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    parts.sort();
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugins::scene::{cluster, named_pod, node, pod};

    fn decide(pod: &Candidate, cluster: &mut Cluster, draw: u64) -> Result<Arc<str>, Unfit> {
        super::decide(pod, cluster, &Nominations::default(), 0, draw).outcome
    }

    #[test]
    fn a_pod_that_fits_nowhere_learns_why() {
        let big = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "64"}}}]}));
        let unfit = decide(&big, &mut cluster([node("a", json!({})), node("b", json!({}))]), 0).unwrap_err();
        assert_eq!(unfit.message, "0/2 nodes are available: 2 Insufficient cpu.");
        assert!(unfit.helped_by.hold(Happening::PodGone) && !unfit.helped_by.hold(Happening::NodeTaints));
        let cordoned = node("b", json!({"spec": {"unschedulable": true}}));
        let unfit = decide(&big, &mut cluster([node("a", json!({})), cordoned]), 0).unwrap_err();
        assert_eq!(
            unfit.message,
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable."
        );
        let none = decide(&big, &mut Cluster::default(), 0).unwrap_err();
        assert_eq!(none.message, "no nodes available to schedule pods");
    }

    #[test]
    fn siblings_spread_over_the_nodes() {
        let mut cluster = cluster(["a", "b", "c"].map(|name| node(name, json!({}))));
        let mut chosen = BTreeMap::new();
        for i in 0..9_u64 {
            let pod = Arc::new(named_pod(&i.to_string(), json!({})));
            let name = decide(&pod, &mut cluster, i).unwrap();
            cluster.place(pod, &name);
            *chosen.entry(name.to_string()).or_insert(0) += 1;
        }
        assert_eq!(chosen.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    }

    #[test]
    fn the_draw_decides_between_equals() {
        let mut cluster = cluster(["a", "b"].map(|name| node(name, json!({}))));
        let pod = pod(json!({}));
        assert_ne!(decide(&pod, &mut cluster, 0), decide(&pod, &mut cluster, 1));
    }

    #[test]
    fn a_large_cluster_is_looked_at_in_parts() {
        for (nodes, wanted) in [
            (0, 0),
            (3, 3),
            (99, 99),
            (100, 100),
            (1000, 420),
            (5000, 500),
            (50_000, 2500),
        ] {
            assert_eq!(enough(nodes), wanted, "{nodes}");
        }
        let mut cluster = cluster((0..300).map(|n| node(&format!("n{n:03}"), json!({}))));
        let pod = pod(json!({}));
        let kept = Nominations::default();
        let attempt = super::decide(&pod, &mut cluster, &kept, 250, 0);
        assert_eq!(attempt.looked_at, enough(300));
        assert_eq!(&*attempt.outcome.unwrap(), "n250", "it begins where it is told");
    }

    #[test]
    fn a_pod_that_names_its_node_is_asked_about_that_one_alone() {
        let named = json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": named}});
        let daemon = pod(json!({"affinity": affinity}));
        let mut cluster = cluster([node("a", json!({})), node("b", json!({})), node("c", json!({}))]);
        assert_eq!(&*decide(&daemon, &mut cluster, 0).unwrap(), "b");
        let full = (0..3).map(|n| Arc::new(named_pod(&n.to_string(), json!({}))));
        full.for_each(|pod| cluster.place(pod, "b"));
        assert_eq!(
            decide(&daemon, &mut cluster, 0).unwrap_err().message,
            "0/3 nodes are available: 1 Too many pods, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
        );
    }
}
