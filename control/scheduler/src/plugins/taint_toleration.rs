//! TaintToleration: a tainted node takes only pods that tolerate the taint, or takes others less gladly.

use coracle_controllers::placement;
use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Asked, NodeScore, NodeView, Plugin, Refusal, Round, Scale, Score};
use crate::happening::{Happening, Happenings};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "TaintToleration",
    attend: None,
    filter: Some(filter),
    score: Some(Score {
        of: score,
        scale: Scale::Lowest,
        weight: 3,
    }),
    helped_by: Happenings::of(&[Happening::NodeAdded, Happening::NodeTaints]),
};

fn filter(round: Round<'_>) -> Asked<'_> {
    let tolerations = round.pod.tolerations();
    Asked::Each(Box::new(move |view| {
        if view.info.hard_taints.iter().all(|taint| tolerated(tolerations, taint)) {
            Ok(())
        } else {
            Err(Refusal::for_good("node(s) had untolerated taint(s)"))
        }
    }))
}

/// How many soft taints the pod does not tolerate.
fn score<'a>(round: Round<'a>, feasible: &[NodeView<'a>]) -> Option<NodeScore<'a>> {
    let any = feasible.iter().any(|view| !view.info.soft_taints.is_empty());
    let tolerations = round.pod.tolerations();
    any.then(|| {
        Box::new(move |view: NodeView<'a>| {
            let soft = view.info.soft_taints.iter();
            let bad = soft.filter(|taint| !tolerated(tolerations, taint)).count();
            i64::try_from(bad).unwrap_or(i64::MAX)
        }) as NodeScore<'a>
    })
}

fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations
        .iter()
        .any(|toleration| placement::tolerates(toleration, taint))
}
