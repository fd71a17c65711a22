//! NodeResourcesBalancedAllocation: likes nodes whose cpu and memory would be used in like parts, so that neither is
//! left over.

use super::{NodeView, Plugin, Scale, Score};
use crate::candidate::Candidate;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeResourcesBalancedAllocation",
    filter: None,
    score: Some(Score {
        score,
        scale: Scale::Ready,
        weight: 1,
    }),
    helped_by: &[],
};

fn score(pod: &Candidate, NodeView { info, .. }: NodeView<'_>) -> i64 {
    let part = |used: i64, offer: i64| {
        if offer <= 0 {
            1000
        } else {
            (i128::from(used) * 1000 / i128::from(offer)).clamp(0, 1000)
        }
    };
    let (want, used, offer) = (&pod.presumed, &info.presumed, &info.offer.resources);
    let cpu = part(used.cpu_milli.saturating_add(want.cpu_milli), offer.cpu_milli);
    let memory = part(used.memory_bytes.saturating_add(want.memory_bytes), offer.memory_bytes);
    // Of two numbers the standard deviation is half their distance.
    i64::try_from((1000 - cpu.abs_diff(memory) / 2).min(1000) / 10).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::scene::{cluster, node, pod};
    use super::*;

    #[test]
    fn even_use_is_liked_more() {
        let lopsided = node("b", json!({"status": {"allocatable": {"cpu": "2", "memory": "64Gi"}}}));
        let cluster = cluster([node("a", json!({})), lopsided]);
        let asking =
            pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}}}]}));
        let scores: Vec<i64> = cluster
            .nodes()
            .map(|(_, info, node)| score(&asking, NodeView { node, info }))
            .collect();
        assert_eq!(scores[0], 100);
        assert!(scores[1] < 80, "{scores:?}");
    }
}
