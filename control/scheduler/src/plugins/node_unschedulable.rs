//! NodeUnschedulable: a cordoned node takes no pods but those that tolerate it.

use coracle_controllers::placement;
use k8s_openapi::api::core::v1::Taint;

use super::{Asked, Plugin, Refusal, Round};
use crate::happening::{Happening, Happenings};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeUnschedulable",
    attend: None,
    filter: Some(filter),
    score: None,
    helped_by: Happenings::of(&[Happening::NodeAdded, Happening::NodeTaints]),
};

fn filter(round: Round<'_>) -> Asked<'_> {
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    let tolerations = round.pod.tolerations();
    if tolerations.iter().any(|t| placement::tolerates(t, &cordon)) {
        return Asked::Nothing;
    }
    Asked::Each(Box::new(|view| {
        if view.info.unschedulable {
            Err(Refusal::for_good("node(s) were unschedulable"))
        } else {
            Ok(())
        }
    }))
}
