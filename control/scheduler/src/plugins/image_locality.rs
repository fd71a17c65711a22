//! ImageLocality: likes nodes that have the pod's images already, the more the larger they are, and the more nodes have
//! them: an image that only one node has must not draw all pods there.

use super::{NodeScore, NodeView, Plugin, Round, Scale, Score};
use crate::happening::Happenings;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "ImageLocality",
    attend: None,
    filter: None,
    score: Some(Score {
        of: score,
        scale: Scale::Ready,
        weight: 1,
    }),
    helped_by: Happenings::NONE,
};

/// Fewer bytes than this are not worth a thought, more than this for each container count no more: Kubernetes' own numbers.
const LEAST_BYTES: i64 = 23 * 1024 * 1024;
const MOST_BYTES: i64 = 1000 * 1024 * 1024;

fn score<'a>(round: Round<'a>, _: &[NodeView<'a>]) -> Option<NodeScore<'a>> {
    let spec = round.pod.spec()?;
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let count = i64::try_from(containers.clone().count()).ok()?;
    let known: Vec<(String, i64)> = containers
        .filter_map(|container| {
            let image = normalised(container.image.as_deref()?);
            let nodes = round.cluster.images().nodes_with(&image);
            (nodes > 0).then_some((image, nodes))
        })
        .collect();
    if known.is_empty() {
        return None;
    }
    let all = i64::try_from(round.cluster.size()).ok()?.max(1);
    let most = MOST_BYTES.saturating_mul(count);
    Some(Box::new(move |view| {
        let here = known.iter().filter_map(|(image, nodes)| {
            let size = view.info.images.get(image.as_str())?;
            Some(size.saturating_mul(*nodes) / all)
        });
        let sum: i64 = here.sum();
        100 * (sum.clamp(LEAST_BYTES, most) - LEAST_BYTES) / (most - LEAST_BYTES)
    }))
}

/// The name with its tag, as nodes tell it.
fn normalised(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    if last.contains(':') || last.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}
