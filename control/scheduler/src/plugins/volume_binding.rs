//! VolumeBinding: a pod goes where its claims' volumes can be reached, and where those of its claims that wait for it
//! find a volume or can have one made.

use super::{Asked, Plugin, Refusal, Round, VOLUMES};
use crate::volumes;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "VolumeBinding",
    attend: None,
    filter: Some(filter),
    score: None,
    helped_by: VOLUMES,
};

fn filter(round: Round<'_>) -> Asked<'_> {
    if round.pod.claims.is_empty() {
        return Asked::Nothing;
    }
    let known = &round.cluster.volumes;
    let needs = match known.needs(&round.pod.pod, &round.pod.claims) {
        Ok(needs) => needs,
        Err(reason) => return Asked::Nowhere(Refusal::for_good(reason)),
    };
    Asked::Each(Box::new(move |view| {
        if needs.lost {
            return Err(Refusal::for_good(
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            ));
        }
        if !needs.bound.iter().all(|volume| volumes::reachable(volume, view.node)) {
            return Err(Refusal::for_good("node(s) had volume node affinity conflict"));
        }
        match known.serve(&needs, view.node) {
            Some(_) => Ok(()),
            None => Err(Refusal::for_good(
                "node(s) didn't find available persistent volumes to bind",
            )),
        }
    }))
}
