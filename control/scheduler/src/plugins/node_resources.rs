//! NodeResourcesFit: a node takes a pod only if what the pod asks for is left, and the emptier node is liked more.

use std::collections::BTreeMap;

use super::{Asked, NodeScore, NodeView, Plugin, ROOM, Refusal, Round, Scale, Score};
use crate::{candidate::Candidate, node_info::NodeInfo};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeResourcesFit",
    attend: None,
    filter: Some(filter),
    score: Some(Score {
        of: score,
        scale: Scale::Ready,
        weight: 1,
    }),
    helped_by: ROOM,
};

fn filter(round: Round<'_>) -> Asked<'_> {
    let pod = round.pod;
    Asked::Each(Box::new(move |view| {
        if fits(pod, view.info) {
            Ok(())
        } else {
            Err(shortage(pod, view.info))
        }
    }))
}

fn lacks(want: i64, used: i64, offer: i64) -> bool {
    want > 0 && want > offer.saturating_sub(used)
}

fn of(list: &BTreeMap<String, i64>, name: &str) -> i64 {
    list.get(name).copied().unwrap_or(0)
}

fn has_slot(info: &NodeInfo) -> bool {
    i64::try_from(info.pods.len()).unwrap_or(i64::MAX) < info.offer.pods
}

fn fits(pod: &Candidate, info: &NodeInfo) -> bool {
    let (want, used, offer) = (&pod.requested, &info.requested, &info.offer.resources);
    has_slot(info)
        && !lacks(want.cpu_milli, used.cpu_milli, offer.cpu_milli)
        && !lacks(want.memory_bytes, used.memory_bytes, offer.memory_bytes)
        && !want
            .others
            .iter()
            .any(|(name, amount)| lacks(*amount, of(&used.others, name), of(&offer.others, name)))
}

/// All that the node has too little of.
fn shortage(pod: &Candidate, info: &NodeInfo) -> Refusal {
    let mut refusal = Refusal {
        reasons: Vec::new(),
        for_room: true,
    };
    if !has_slot(info) {
        refusal.reasons.push("Too many pods".into());
    }
    let (want, used, offer) = (&pod.requested, &info.requested, &info.offer.resources);
    let main = [
        ("Insufficient cpu", want.cpu_milli, used.cpu_milli, offer.cpu_milli),
        (
            "Insufficient memory",
            want.memory_bytes,
            used.memory_bytes,
            offer.memory_bytes,
        ),
    ];
    for (reason, want, used, offer) in main {
        if lacks(want, used, offer) {
            refusal.reasons.push(reason.into());
            refusal.for_room &= want <= offer;
        }
    }
    for (name, want) in &want.others {
        let (used, offer) = (of(&used.others, name), of(&offer.others, name));
        if lacks(*want, used, offer) {
            refusal.reasons.push(format!("Insufficient {name}").into());
            refusal.for_room &= *want <= offer;
        }
    }
    refusal
}

/// The part of cpu and memory that would be left, in percent.
fn score<'a>(round: Round<'a>, _: &[NodeView<'a>]) -> Option<NodeScore<'a>> {
    let want = &round.pod.presumed;
    Some(Box::new(move |view| {
        let (used, offer) = (&view.info.presumed, &view.info.offer.resources);
        let left = |want: i64, used: i64, offer: i64| {
            let used = used.saturating_add(want);
            (offer > 0).then(|| (offer - used).max(0).saturating_mul(100) / offer)
        };
        let parts = [
            left(want.cpu_milli, used.cpu_milli, offer.cpu_milli),
            left(want.memory_bytes, used.memory_bytes, offer.memory_bytes),
        ];
        let told = parts.iter().flatten().count();
        let sum: i64 = parts.iter().flatten().sum();
        i64::try_from(told)
            .ok()
            .and_then(|told| sum.checked_div(told))
            .unwrap_or(0)
    }))
}
