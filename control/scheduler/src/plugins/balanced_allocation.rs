//! NodeResourcesBalancedAllocation: likes nodes whose cpu and memory would be used in like parts, so that neither is
//! left over.

use super::{NodeScore, NodeView, Plugin, Round, Scale, Score};
use crate::happening::Happenings;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeResourcesBalancedAllocation",
    attend: None,
    filter: None,
    score: Some(Score {
        of: score,
        scale: Scale::Ready,
        weight: 1,
    }),
    helped_by: Happenings::NONE,
};

/// Pods that ask for nothing change no balance; they would all go to the same node.
fn score<'a>(round: Round<'a>, _: &[NodeView<'a>]) -> Option<NodeScore<'a>> {
    let want = &round.pod.requested;
    if want.cpu_milli == 0 && want.memory_bytes == 0 {
        return None;
    }
    Some(Box::new(move |view| {
        let (used, offer) = (&view.info.requested, &view.info.offer.resources);
        let part = |want: i64, used: i64, offer: i64| {
            let used = i128::from(used.saturating_add(want));
            (offer > 0).then(|| (used * 10_000 / i128::from(offer)).clamp(0, 10_000))
        };
        let cpu = part(want.cpu_milli, used.cpu_milli, offer.cpu_milli);
        let memory = part(want.memory_bytes, used.memory_bytes, offer.memory_bytes);
        // Of two numbers the standard deviation is half their distance; one number has none.
        let apart = cpu.zip(memory).map_or(0, |(cpu, memory)| (cpu - memory).abs() / 2);
        i64::try_from((10_000 - apart) / 100).unwrap_or(0)
    }))
}
