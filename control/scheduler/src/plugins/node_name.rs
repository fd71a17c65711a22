//! NodeName: a pod that names its node goes nowhere else.

use super::{Asked, Plugin, Refusal, Round};
use crate::happening::{Happening, Happenings};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeName",
    attend: None,
    filter: Some(filter),
    score: None,
    helped_by: Happenings::of(&[Happening::NodeAdded]),
};

fn filter(round: Round<'_>) -> Asked<'_> {
    let named = round.pod.spec().and_then(|spec| spec.node_name.as_deref());
    let Some(wanted) = named.filter(|name| !name.is_empty()) else {
        return Asked::Nothing;
    };
    Asked::Each(Box::new(move |view| {
        if *view.info.name == *wanted {
            Ok(())
        } else {
            Err(Refusal::for_good("node(s) didn't match the requested node name"))
        }
    }))
}
