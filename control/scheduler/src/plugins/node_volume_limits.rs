//! NodeVolumeLimits: a node takes only so many volumes of a driver, as its CSINode says. A volume that several pods of
//! a node share counts once.

use std::collections::BTreeSet;

use super::{Asked, Plugin, Refusal, Round};
use crate::{
    candidate::Candidate,
    happening::{Happening, Happenings},
};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeVolumeLimits",
    attend: None,
    filter: Some(filter),
    score: None,
    helped_by: Happenings::of(&[
        Happening::NodeAdded,
        Happening::PodGone,
        Happening::Claim,
        Happening::Volume,
    ]),
};

fn filter(round: Round<'_>) -> Asked<'_> {
    let volumes = &round.cluster.volumes;
    if round.pod.claims.is_empty() || !volumes.any_limit() {
        return Asked::Nothing;
    }
    let of = move |pod: &Candidate| -> Vec<_> {
        let claims = pod.claims.iter();
        claims.filter_map(|name| volumes.driver_of(&name.key)).collect()
    };
    let wanted = of(round.pod);
    Asked::Each(Box::new(move |view| {
        let limits = volumes.limits(view.node.metadata.name.as_deref().unwrap_or_default());
        let asked = |driver: &str| wanted.iter().any(|(of, _)| *of == driver);
        if !limits.iter().any(|(driver, _)| asked(driver)) {
            return Ok(());
        }
        let here: BTreeSet<_> = round.cluster.on(view.index).flat_map(|pod| of(pod)).collect();
        let exceeded = limits.iter().any(|(driver, limit)| {
            let used = here.iter().filter(|(of, _)| of == driver).count();
            let new: BTreeSet<_> = wanted
                .iter()
                .filter(|one| one.0 == driver && !here.contains(*one))
                .collect();
            !new.is_empty() && used + new.len() > *limit
        });
        match exceeded {
            true => Err(Refusal::for_room("node(s) exceed max volume count")),
            false => Ok(()),
        }
    }))
}
