//! PodTopologySpread: pods that are alike spread over nodes and zones, as they ask or a little by default.

use super::{Asked, NodeScore, NodeView, Plugin, Refusal, Round, Scale, Score};
use crate::{
    candidate::Candidate,
    cluster::Cluster,
    crowds::Counts,
    happening::{Happening, Happenings},
    spread::{Constraint, defaults},
};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "PodTopologySpread",
    attend: Some(attend),
    filter: Some(filter),
    score: Some(Score {
        of: score,
        scale: Scale::Fewest,
        weight: 2,
    }),
    helped_by: Happenings::of(&[
        Happening::NodeAdded,
        Happening::NodeLabels,
        Happening::NodeTaints,
        Happening::PodGone,
        Happening::PodPlaced,
    ]),
};

fn attend(pod: &Candidate, cluster: &mut Cluster) {
    if pod.spread.is_empty() {
        for constraint in defaults(pod, cluster) {
            cluster.ask(&constraint.query, &constraint.topology);
        }
    }
    for constraint in &pod.spread {
        cluster.ask(&constraint.query, &constraint.topology);
    }
}

fn filter(round: Round<'_>) -> Asked<'_> {
    let hard = round.pod.spread.iter().filter(|constraint| constraint.hard);
    let counted: Vec<(&Constraint, Counts<'_>, u32)> = hard
        .filter_map(|constraint| {
            let counts = round.cluster.counts(&constraint.query, &constraint.topology)?;
            let domains = i32::try_from(counts.domains()).unwrap_or(i32::MAX);
            let least = if domains < constraint.min_domains {
                0
            } else {
                counts.least()
            };
            Some((constraint, counts, least))
        })
        .collect();
    if counted.is_empty() {
        return Asked::Nothing;
    }
    Asked::Each(Box::new(move |view| {
        for (constraint, counts, least) in &counted {
            let labels = view.node.metadata.labels.as_ref();
            if !labels.is_some_and(|labels| labels.contains_key(&*constraint.topology.key)) {
                return Err(Refusal::for_good(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            }
            let here = counts.around(view.index).unwrap_or(0) + u32::from(constraint.counts_itself);
            if i64::from(here) - i64::from(*least) > i64::from(constraint.max_skew) {
                return Err(Refusal::for_room(
                    "node(s) didn't match pod topology spread constraints",
                ));
            }
        }
        Ok(())
    }))
}

/// A soft wish with what it needs for its part of a score.
struct Wish<'a> {
    counts: Counts<'a>,
    by_node: bool,
    /// Domains count more where there are many of them, for each has fewer pods then.
    weight: f64,
    /// Softens the differences of those who can bear some.
    slack: f64,
}

/// How many pods like this one are around the node; below nothing for a node that lacks a label that the pod names.
fn score<'a>(round: Round<'a>, feasible: &[NodeView<'a>]) -> Option<NodeScore<'a>> {
    let by_default = round.pod.spread.is_empty();
    let wishes: Vec<Wish<'a>> = if by_default {
        let defaults = defaults(round.pod, round.cluster);
        defaults.iter().filter_map(|c| wish(c, round, feasible)).collect()
    } else {
        let soft = round.pod.spread.iter().filter(|constraint| !constraint.hard);
        soft.filter_map(|c| wish(c, round, feasible)).collect()
    };
    if wishes.is_empty() {
        return None;
    }
    Some(Box::new(move |view| {
        let mut sum = 0.0;
        for wish in &wishes {
            let Some(around) = wish.counts.around(view.index) else {
                if by_default {
                    continue;
                }
                return -1;
            };
            let count = if wish.by_node {
                wish.counts.on(view.index)
            } else {
                around
            };
            sum += f64::from(count) * wish.weight + wish.slack;
        }
        sum.round() as i64
    }))
}

fn wish<'a>(constraint: &Constraint, round: Round<'a>, feasible: &[NodeView<'a>]) -> Option<Wish<'a>> {
    let counts = round.cluster.counts(&constraint.query, &constraint.topology)?;
    let domains = feasible.iter().filter_map(|view| counts.domain(view.index));
    let size = if constraint.by_node {
        domains.count()
    } else {
        let mut seen = vec![false; counts.numbers()];
        for domain in domains {
            if let Some(seen) = seen.get_mut(domain.at()) {
                *seen = true;
            }
        }
        seen.into_iter().filter(|seen| *seen).count()
    };
    Some(Wish {
        counts,
        by_node: constraint.by_node,
        weight: (size as f64 + 2.0).ln(),
        slack: f64::from(constraint.max_skew - 1),
    })
}
