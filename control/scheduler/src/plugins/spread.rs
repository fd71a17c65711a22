//! PodTopologySpread, its default: pods of one controller spread over the nodes.

use super::{NodeView, Plugin, Scale, Score};
use crate::candidate::Candidate;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "PodTopologySpread",
    filter: None,
    score: Some(Score {
        score,
        scale: Scale::Lowest,
        weight: 2,
    }),
    helped_by: &[],
};

/// How many siblings the node has already.
fn score(pod: &Candidate, NodeView { info, .. }: NodeView<'_>) -> i64 {
    info.of_controller.get(&pod.controller).copied().unwrap_or(0)
}
