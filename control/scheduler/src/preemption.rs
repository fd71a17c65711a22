//! DefaultPreemption: whom to ask to leave so that a pod that matters more finds room.
//!
//! Pure but for one thing: victims are taken out of the world for as long as a question about it is asked. It is left as
//! it was. It must never choose a pod that matters as much as the one that needs the room.

use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap, sync::Arc};

use coracle_controllers::pods;
use jiff::Timestamp;

use crate::{
    budgets::Spending,
    candidate::Candidate,
    cluster::Cluster,
    cycle::{self, Unfit},
    node_info::NodeIndex,
    nominations::Nominations,
};

/// Of the nodes on which room can be made so many are tried: a tenth of them, and at least a hundred. Kubernetes' own
/// numbers.
const TRIED_PERCENT: usize = 10;
const TRIED_LEAST: usize = 100;

/// What is said of a node with nobody to ask to leave.
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// The reason of the condition that victims get.
pub const REASON: &str = "PreemptionByScheduler";

/// Room that can be made.
#[derive(Clone, Debug)]
pub struct Room {
    /// Where.
    pub node: Arc<str>,
    /// Who has to leave, the most important first.
    pub victims: Vec<Arc<Candidate>>,
    /// How many of them are covered by a budget that does not allow it.
    pub violations: usize,
}

/// Why no room is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// In the words of Kubernetes, as they stand after `preemption: `.
    pub message: String,
    /// Whether room that was made for the pod before is of no use to it any more.
    pub give_up: bool,
}

/// Whom to ask to leave for the pod, which fits nowhere for the reasons in `unfit`. `draw` says where to begin.
///
/// # Errors
/// When nobody's leaving helps, or the pod is not one that others make room for.
pub fn preempt(
    pod: &Candidate,
    cluster: &mut Cluster,
    kept: &Nominations,
    unfit: &Unfit,
    draw: u64,
) -> Result<Room, NoRoom> {
    if let Some(reason) = not_eligible(pod, cluster, kept, unfit) {
        return Err(NoRoom {
            message: reason.to_owned(),
            give_up: false,
        });
    }
    let nodes = &unfit.for_room;
    let tried = (nodes.len() * TRIED_PERCENT / 100).max(TRIED_LEAST);
    let first = usize::try_from(draw).unwrap_or(0).checked_rem(nodes.len()).unwrap_or(0);
    let (mut rooms, mut reasons) = (Vec::new(), BTreeMap::<Cow<'static, str>, usize>::new());
    let turned = nodes.iter().skip(first).chain(nodes.iter().take(first));
    // Where all matter as much, nobody's pods have to be looked at.
    let useful = cluster.any_below(pod.priority);
    if !useful && !nodes.is_empty() {
        reasons.insert(NO_VICTIMS.into(), nodes.len());
    }
    for index in turned.filter(|_| useful) {
        match room_on(pod, cluster, kept, *index) {
            Ok(room) => rooms.push(room),
            Err(why) => why
                .into_iter()
                .for_each(|reason| *reasons.entry(reason).or_default() += 1),
        }
        if rooms.len() >= tried {
            break;
        }
    }
    if let Some(room) = rooms.into_iter().min_by_key(loss) {
        return Ok(room);
    }
    let helpless = unfit.nodes.saturating_sub(nodes.len());
    if helpless > 0 {
        reasons.insert("Preemption is not helpful for scheduling".into(), helpless);
    }
    Err(NoRoom {
        message: cycle::summary(unfit.nodes, &reasons),
        give_up: true,
    })
}

fn not_eligible(pod: &Candidate, cluster: &Cluster, kept: &Nominations, unfit: &Unfit) -> Option<&'static str> {
    if pod.spec()?.preemption_policy.as_deref() == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let made = cluster.find(kept.of(&pod.uid)?)?;
    let leaving = |victim: &Arc<Candidate>| {
        let told = pods::condition(&victim.pod, "DisruptionTarget");
        let by_us = told.is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some(REASON));
        victim.priority < pod.priority && victim.is_terminating() && by_us
    };
    let useful = unfit.for_room.contains(&made);
    (useful && cluster.on(made).any(leaving)).then_some("not eligible due to a terminating pod on the nominated node.")
}

/// What is lost with the room, in the order of what weighs more; the least is best.
fn loss(room: &Room) -> (usize, i32, i64, usize, Reverse<Timestamp>) {
    let highest = room.victims.first().map_or(i32::MIN, |victim| victim.priority);
    let above_least = |victim: &Arc<Candidate>| i64::from(victim.priority) - i64::from(i32::MIN) + 1;
    let most_important = room.victims.iter().filter(|victim| victim.priority == highest);
    let oldest = most_important
        .map(|victim| victim.started())
        .min()
        .unwrap_or(Timestamp::MAX);
    (
        room.violations,
        highest,
        room.victims.iter().map(above_least).sum(),
        room.victims.len(),
        Reverse(oldest),
    )
}

/// The smallest room that can be made on the node.
fn room_on(
    pod: &Candidate,
    cluster: &mut Cluster,
    kept: &Nominations,
    index: NodeIndex,
) -> Result<Room, Vec<Cow<'static, str>>> {
    let Some(node) = cluster.node(index).map(|(info, _)| info.name.clone()) else {
        return Err(Vec::new());
    };
    let mut lower: Vec<Arc<Candidate>> = cluster
        .on(index)
        .filter(|other| other.priority < pod.priority)
        .cloned()
        .collect();
    if lower.is_empty() {
        return Err(vec![NO_VICTIMS.into()]);
    }
    lower.sort_by_key(|victim| (Reverse(victim.priority), victim.started(), victim.uid.clone()));
    for victim in &lower {
        cluster.displace(&victim.uid);
    }
    let found = match cycle::passes(pod, cluster, kept, index) {
        Ok(()) => Ok(spare(pod, cluster, kept, index, &node, &lower)),
        Err(refusal) => Err(refusal.reasons),
    };
    for victim in lower {
        if cluster.placed(&victim.uid).is_none() {
            cluster.place(victim, &node);
        }
    }
    found
}

/// Lets back all that can stay, first those whose leaving a budget forbids, and of these the most important; who cannot
/// is a victim.
fn spare(
    pod: &Candidate,
    cluster: &mut Cluster,
    kept: &Nominations,
    index: NodeIndex,
    node: &Arc<str>,
    lower: &[Arc<Candidate>],
) -> Room {
    let mut spending = Spending::default();
    let (forbidden, allowed): (Vec<_>, Vec<_>) = lower
        .iter()
        .partition(|victim| cluster.budgets.spend(victim, &mut spending));
    let mut room = Room {
        node: node.clone(),
        victims: Vec::new(),
        violations: 0,
    };
    let count = forbidden.len();
    for (at, victim) in forbidden.into_iter().chain(allowed).enumerate() {
        cluster.place(victim.clone(), node);
        if cycle::passes(pod, cluster, kept, index).is_err() {
            cluster.displace(&victim.uid);
            room.violations += usize::from(at < count);
            room.victims.push(victim.clone());
        }
    }
    room.victims
        .sort_by_key(|victim| (Reverse(victim.priority), victim.started(), victim.uid.clone()));
    room
}
