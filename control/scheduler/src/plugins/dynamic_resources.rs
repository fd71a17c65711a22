//! DynamicResources: a pod goes where devices serve its claims, and where those can be used that its claims have been
//! given. Of nodes that serve it, those come first where requests get what they list first.

use super::{Asked, NodeScore, NodeView, Plugin, Refusal, Round, Scale, Score};
use crate::{
    devices::{self, claim::Claim, search::Effort},
    happening::{Happening, Happenings},
};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "DynamicResources",
    attend: None,
    filter: Some(filter),
    score: Some(Score {
        of: score,
        scale: Scale::Highest,
        weight: 2,
    }),
    helped_by: Happenings::of(&[
        Happening::NodeAdded,
        Happening::NodeLabels,
        Happening::Devices,
        Happening::DeviceClaim,
    ]),
};

/// So many choices a request can list, and so much is the first one worth.
const CHOICES: usize = coracle_api::validate::devices::CHOICES_LIMIT;

fn filter(round: Round<'_>) -> Asked<'_> {
    let Round { pod, cluster } = round;
    if pod.devices.is_empty() {
        return Asked::Nothing;
    }
    let needs = match cluster.devices.needs(&pod.pod, &pod.devices) {
        Ok(needs) => needs,
        Err(reason) => return Asked::Nowhere(Refusal::for_good(reason)),
    };
    let effort = Effort::default();
    Asked::Each(Box::new(move |view| {
        if !needs
            .allocated
            .iter()
            .all(|claim| devices::is_available(claim, view.node))
        {
            return Err(Refusal::for_good("resourceclaim not available on the node"));
        }
        if needs.open.is_empty() {
            return Ok(());
        }
        match cluster.devices.serve(&needs.open, view.node, &effort) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Refusal::for_good("cannot allocate all claims")),
            Err(error) => Err(Refusal::for_good(error)),
        }
    }))
}

fn score<'a>(round: Round<'a>, _: &[NodeView<'a>]) -> Option<NodeScore<'a>> {
    let Round { pod, cluster } = round;
    if pod.devices.is_empty() {
        return None;
    }
    let open = cluster.devices.needs(&pod.pod, &pod.devices).ok()?.open;
    let prioritised = |claim: &&Claim| claim.requests.iter().any(|request| request.prioritised);
    if !open.iter().any(prioritised) {
        return None;
    }
    let effort = Effort::default();
    Some(Box::new(move |view| {
        let served = cluster.devices.serve(&open, view.node, &effort).ok().flatten();
        let Some(picks) = served else { return 0 };
        let worth = |claim: usize, request: usize| {
            let asked = open
                .get(claim)?
                .requests
                .get(request)
                .filter(|asked| asked.prioritised)?;
            let pick = picks
                .iter()
                .find(|pick| pick.claim == claim && pick.request == request)?;
            let at = asked
                .choices
                .iter()
                .position(|choice| choice.name == pick.choice.name)?;
            i64::try_from(CHOICES.saturating_sub(at)).ok()
        };
        let requests = open
            .iter()
            .enumerate()
            .flat_map(|(at, claim)| (0..claim.requests.len()).map(move |request| (at, request)));
        requests.filter_map(|(claim, request)| worth(claim, request)).sum()
    }))
}
