//! InterPodAffinity: pods that want to be near others, or far from them; and pods that others want near or far.

use super::{Asked, NodeScore, NodeView, Plugin, Refusal, Round, Scale, Score};
use crate::{
    affinity::{Pull, Term},
    candidate::Candidate,
    cluster::Cluster,
    crowds::Counts,
    happening::{Happening, Happenings},
    selection::Query,
};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "InterPodAffinity",
    attend: Some(attend),
    filter: Some(filter),
    score: Some(Score {
        of: score,
        scale: Scale::Between,
        weight: 2,
    }),
    helped_by: Happenings::of(&[
        Happening::NodeAdded,
        Happening::NodeLabels,
        Happening::PodGone,
        Happening::PodPlaced,
        Happening::Namespace,
    ]),
};

/// How much a pod that must be near this one likes to have it near.
const MUST_WEIGHT: i64 = 1;

/// Who a term of the pod means; terms that must all hold mean those that all of them pick.
fn meant(pod: &Candidate, term: &Term) -> Query {
    let selections = match term.pull {
        Pull::Must => musts(pod).map(|must| must.selection.clone()).collect(),
        Pull::MustNot | Pull::Prefers(_) => vec![term.selection.clone()],
    };
    Query::picked(selections, false)
}

fn musts(pod: &Candidate) -> impl Iterator<Item = &Term> {
    pod.terms
        .iter()
        .map(|term| &**term)
        .filter(|term| term.pull == Pull::Must)
}

fn attend(pod: &Candidate, cluster: &mut Cluster) {
    for term in &pod.terms {
        cluster.ask(&meant(pod, term), &term.topology);
    }
}

fn filter(round: Round<'_>) -> Asked<'_> {
    let counts = |pull: Pull| -> Vec<Counts<'_>> {
        let terms = round.pod.terms.iter().filter(|term| term.pull == pull);
        terms
            .filter_map(|term| round.cluster.counts(&meant(round.pod, term), &term.topology))
            .collect()
    };
    let (near, far) = (counts(Pull::Must), counts(Pull::MustNot));
    let facing = round.cluster.facing(round.pod);
    let kept_away: Vec<Counts<'_>> = facing
        .into_iter()
        .filter(|(term, _)| term.pull == Pull::MustNot)
        .map(|(_, counts)| counts)
        .collect();
    if near.is_empty() && far.is_empty() && kept_away.is_empty() {
        return Asked::Nothing;
    }
    // The first of a group that wants to be together has nobody to be near to but itself.
    let first = near.iter().all(Counts::is_empty)
        && musts(round.pod).all(|term| term.selection.picks(round.pod, round.cluster.namespaces()));
    Asked::Each(Box::new(move |view| {
        let some = |counts: &Counts<'_>| counts.around(view.index).is_some_and(|pods| pods > 0);
        let is_near = |counts: &Counts<'_>| match counts.around(view.index) {
            Some(pods) => pods > 0 || first,
            None => false,
        };
        if !near.iter().all(is_near) {
            Err(Refusal::for_good("node(s) didn't match pod affinity rules"))
        } else if far.iter().any(some) {
            Err(Refusal::for_room("node(s) didn't match pod anti-affinity rules"))
        } else if kept_away.iter().any(some) {
            Err(Refusal::for_room(
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ))
        } else {
            Ok(())
        }
    }))
}

/// The weights of all terms that pull the pod to the node, less those that pull it away.
fn score<'a>(round: Round<'a>, _: &[NodeView<'a>]) -> Option<NodeScore<'a>> {
    let own = round.pod.terms.iter().filter_map(|term| {
        let Pull::Prefers(weight) = term.pull else { return None };
        let counts = round.cluster.counts(&meant(round.pod, term), &term.topology)?;
        Some((weight, counts))
    });
    let of_others = round
        .cluster
        .facing(round.pod)
        .into_iter()
        .filter_map(|(term, counts)| match term.pull {
            Pull::Prefers(weight) => Some((weight, counts)),
            Pull::Must => Some((MUST_WEIGHT, counts)),
            Pull::MustNot => None,
        });
    let pulls: Vec<(i64, Counts<'a>)> = own.chain(of_others).collect();
    if pulls.is_empty() {
        return None;
    }
    Some(Box::new(move |view| {
        let around = |(weight, counts): &(i64, Counts<'a>)| weight * i64::from(counts.around(view.index).unwrap_or(0));
        pulls.iter().map(around).sum()
    }))
}
