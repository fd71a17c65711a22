//! NodeAffinity: a pod chooses nodes by their labels and names, with `nodeSelector` and with affinity terms.

use coracle_controllers::placement;
use k8s_openapi::api::core::v1::NodeAffinity;

use super::{Asked, NodeScore, NodeView, Plugin, Refusal, Round, Scale, Score};
use crate::happening::{Happening, Happenings};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeAffinity",
    attend: None,
    filter: Some(filter),
    score: Some(Score {
        of: score,
        scale: Scale::Highest,
        weight: 2,
    }),
    helped_by: Happenings::of(&[Happening::NodeAdded, Happening::NodeLabels]),
};

fn filter(round: Round<'_>) -> Asked<'_> {
    let Some(spec) = round.pod.spec() else {
        return Asked::Nothing;
    };
    let required = affinity(round).and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let selector = spec.node_selector.as_ref().filter(|selector| !selector.is_empty());
    if required.is_none() && selector.is_none() {
        return Asked::Nothing;
    }
    Asked::Each(Box::new(move |view| {
        let labels = view.node.metadata.labels.as_ref();
        let label = |name: &String| labels.and_then(|labels| labels.get(name));
        let has_labels = selector.is_none_or(|s| s.iter().all(|(name, value)| label(name) == Some(value)));
        if has_labels && required.is_none_or(|required| placement::selected(required, view.node)) {
            Ok(())
        } else {
            Err(Refusal::for_good("node(s) didn't match Pod's node affinity/selector"))
        }
    }))
}

/// The weights of the preferences that the node meets.
fn score<'a>(round: Round<'a>, _: &[NodeView<'a>]) -> Option<NodeScore<'a>> {
    let preferred = affinity(round)?
        .preferred_during_scheduling_ignored_during_execution
        .as_deref()
        .filter(|preferred| !preferred.is_empty())?;
    Some(Box::new(move |view| {
        let met = preferred
            .iter()
            .filter(|p| placement::term_fits(&p.preference, view.node));
        met.map(|p| i64::from(p.weight)).sum()
    }))
}

fn affinity(round: Round<'_>) -> Option<&NodeAffinity> {
    round.pod.spec()?.affinity.as_ref()?.node_affinity.as_ref()
}
