//! VolumeZone: a volume that is labelled with a zone or region serves only nodes there.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{Asked, Plugin, Refusal, Round, VOLUMES};
use crate::nodes::{REGION, ZONE};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "VolumeZone",
    attend: None,
    filter: Some(filter),
    score: None,
    helped_by: VOLUMES,
};

/// The labels that tell where a volume is; each with its older name.
const PLACES: [&str; 4] = [
    ZONE,
    REGION,
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];
/// Between the zones of a volume that is in several.
const BETWEEN: &str = "__";

fn filter(round: Round<'_>) -> Asked<'_> {
    let Ok(needs) = round.cluster.volumes.needs(&round.pod.pod, &round.pod.claims) else {
        return Asked::Nothing;
    };
    let places: Vec<(&str, String)> = needs.bound.iter().flat_map(places).collect();
    if places.is_empty() {
        return Asked::Nothing;
    }
    Asked::Each(Box::new(move |view| {
        let labels = view.node.metadata.labels.as_ref();
        // A node that tells no place at all is in a cluster that has none.
        if !PLACES
            .iter()
            .any(|place| labels.is_some_and(|l| l.contains_key(*place)))
        {
            return Ok(());
        }
        let in_place = |(place, values): &(&str, String)| {
            let own = labels.and_then(|l| l.get(*place));
            own.is_some_and(|own| values.split(BETWEEN).any(|value| value == own))
        };
        if places.iter().all(in_place) {
            Ok(())
        } else {
            Err(Refusal::for_good("node(s) had no available volume zone"))
        }
    }))
}

fn places(volume: &Arc<PersistentVolume>) -> Vec<(&'static str, String)> {
    let labels = volume.metadata.labels.as_ref();
    let told = PLACES
        .iter()
        .filter_map(|place| Some((*place, labels?.get(*place)?.clone())));
    told.collect()
}
