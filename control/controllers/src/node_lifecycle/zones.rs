//! How fast nodes that are not ready may lose their pods. Where many nodes of a zone fall silent together, the network
//! between them and us is the likelier cause, and pods that were moved in haste would come back twice.
//!
//! The rates and the threshold are those of kube-controller-manager's defaults: `--node-eviction-rate`,
//! `--secondary-node-eviction-rate`, `--unhealthy-zone-threshold`, `--large-cluster-size-threshold`.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::{NOT_READY, UNREACHABLE, ready};
use crate::{clock::after_seconds, key::Key};

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// One node of a zone in ten seconds.
const PAUSE_SECONDS: i64 = 10;
/// The same in a large zone most of whose nodes are not ready.
const LONG_PAUSE_SECONDS: i64 = 100;
/// Of more nodes than this a zone is large; in a small one that is disrupted nothing is moved at all.
const LARGE: usize = 50;
/// Fewer nodes than this never make a zone disrupted in part.
const FEW: usize = 3;

/// Whether the pods of a node that is not ready may be sent away now, which is what its `NoExecute` taint says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Eviction {
    /// They may.
    Now,
    /// Others of its zone come first; to be asked again then.
    At(Timestamp),
    /// Too many of its zone are not ready; what was tainted before stays so.
    Paused,
    /// No node of any zone is ready: it is we who are cut off, and nothing is to be moved.
    Withdrawn,
}

/// Whether `node`, which is not ready, may lose its pods, in a cluster of `nodes` that may be silent for `grace` seconds.
pub fn eviction(node: &Node, nodes: &[Arc<Node>], now: Timestamp, grace: i64) -> Eviction {
    // The node itself may not be marked yet as what it is.
    let key = Key::of(&node.metadata);
    let others = || nodes.iter().map(|n| &**n).filter(|n| Key::of(&n.metadata) != key);
    let longest = others().filter_map(ready_since).min();
    // When the first node is back, the others are given the time that a silent node is given.
    let Some(back) = longest.map(|since| after_seconds(since, grace)) else {
        return Eviction::Withdrawn;
    };
    let ours = zone(node);
    let zone: Vec<&Node> = others().filter(|n| zone(n) == ours).collect();
    let (size, lost) = (
        zone.len() + 1,
        zone.iter().filter(|n| ready_since(n).is_none()).count() + 1,
    );
    // The share is 55 %. A zone that is lost as a whole is taken to be lost for real, while others are well.
    let in_part = lost < size && lost >= FEW && lost * 100 >= size * 55;
    let pause = match in_part {
        true if size <= LARGE => return Eviction::Paused,
        true => LONG_PAUSE_SECONDS,
        false => PAUSE_SECONDS,
    };
    let last = zone.iter().filter_map(|node| tainted_at(node)).max();
    // In the order in which they were lost; those that wait take one place after the other.
    let waits = zone.iter().filter(|n| ready_since(n).is_none() && !is_tainted(n));
    let lost = if ready_since(node).is_some() {
        Some(now)
    } else {
        lost_at(node)
    };
    let earlier = waits.filter(|n| (lost_at(n), Key::of(&n.metadata)) < (lost, key.clone()));
    let places = i64::try_from(earlier.count()).unwrap_or(i64::MAX);
    let next = last.map_or(now, |last| after_seconds(last, pause)).max(back);
    let turn = after_seconds(next.max(now), places.saturating_mul(pause));
    if turn <= now { Eviction::Now } else { Eviction::At(turn) }
}

/// Whether the node carries a taint that sends its pods away because it is not ready.
pub fn is_tainted(node: &Node) -> bool {
    ours(node).next().is_some()
}

fn ours(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    let ours = |key: &str| [NOT_READY, UNREACHABLE].contains(&key);
    taints
        .unwrap_or_default()
        .iter()
        .filter(move |t| t.effect == "NoExecute" && ours(&t.key))
}

fn tainted_at(node: &Node) -> Option<Timestamp> {
    ours(node)
        .filter_map(|taint| taint.time_added.as_ref().map(|t| t.0))
        .max()
}

/// Since when the node is ready; `None` if it is not.
fn ready_since(node: &Node) -> Option<Timestamp> {
    let condition = ready(node).filter(|condition| condition.status == "True")?;
    let since = condition.last_transition_time.as_ref().map(|t| t.0);
    Some(since.unwrap_or(Timestamp::MIN))
}

fn lost_at(node: &Node) -> Option<Timestamp> {
    ready(node)?.last_transition_time.as_ref().map(|t| t.0)
}

fn zone(node: &Node) -> (&str, &str) {
    let of = |key: &str| {
        let labels = node.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(key)).map_or("", String::as_str)
    };
    (of(REGION), of(ZONE))
}
