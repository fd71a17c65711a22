//! Which pods go first when there are too many: those whose loss is felt least.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pods;

/// Lets a user say which pod is cheap to lose; an integer, 0 if absent.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What is compared, in order; the least goes first.
type Rank = (bool, u8, bool, i32, Reverse<usize>, i64, Reverse<i32>, i64);

/// The `count` pods of `pods` to delete. `siblings` are all pods that should stay spread over the nodes, these included.
#[must_use]
pub fn choose(pods: &[Arc<Pod>], count: usize, siblings: &[Arc<Pod>], now: Timestamp) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for node in siblings.iter().filter_map(|pod| pods::node(pod)) {
        *on_node.entry(node).or_default() += 1;
    }
    let mut ranked: Vec<&Arc<Pod>> = pods.iter().collect();
    ranked.sort_by_cached_key(|pod| {
        let crowd = pods::node(pod).and_then(|node| on_node.get(node)).copied().unwrap_or(0);
        (rank(pod, crowd, now), pod.metadata.name.clone())
    });
    ranked.into_iter().take(count).cloned().collect()
}

fn rank(pod: &Pod, crowd: usize, now: Timestamp) -> Rank {
    let phase = match pods::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let cost = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(DELETION_COST)?.parse().ok())
        .unwrap_or(0);
    let created = pod.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    // Ready for less time goes first; a smaller age in doublings means less time, so the newest bucket leads.
    let ready = pods::ready_since(pod).map_or(0, |since| doublings(now, since));
    (
        pods::node(pod).is_some(),
        phase,
        pods::is_ready(pod),
        cost,
        Reverse(crowd),
        ready,
        Reverse(pods::restarts(pod)),
        doublings(now, created),
    )
}

/// Age as a power of two of seconds, so that pods of about the same age count as equal.
fn doublings(now: Timestamp, since: Timestamp) -> i64 {
    let seconds = u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0);
    i64::from(u64::BITS - seconds.leading_zeros())
}
