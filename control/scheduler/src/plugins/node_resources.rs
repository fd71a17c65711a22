//! NodeResourcesFit: a node takes a pod only if what the pod asks for is left, and the emptier node is liked more.

use super::{NodeView, Plugin, ROOM_EVENTS, Reasons, Scale, Score};
use crate::candidate::Candidate;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeResourcesFit",
    filter: Some(filter),
    score: Some(Score {
        score,
        scale: Scale::Ready,
        weight: 1,
    }),
    helped_by: ROOM_EVENTS,
};

fn filter(pod: &Candidate, NodeView { info, .. }: NodeView<'_>) -> Result<(), Reasons> {
    let mut reasons = Reasons::new();
    if info.pods >= info.offer.pods {
        reasons.push("Too many pods".into());
    }
    let (want, used, offer) = (&pod.requested, &info.requested, &info.offer.resources);
    let lacks = |want: i64, used: i64, offer: i64| want > 0 && want > offer.saturating_sub(used);
    if lacks(want.cpu_milli, used.cpu_milli, offer.cpu_milli) {
        reasons.push("Insufficient cpu".into());
    }
    if lacks(want.memory_bytes, used.memory_bytes, offer.memory_bytes) {
        reasons.push("Insufficient memory".into());
    }
    for (name, amount) in &want.others {
        let of = |list: &std::collections::BTreeMap<String, i64>| list.get(name).copied().unwrap_or(0);
        if lacks(*amount, of(&used.others), of(&offer.others)) {
            reasons.push(format!("Insufficient {name}").into());
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// The part of cpu and memory that would be left, in percent.
fn score(pod: &Candidate, NodeView { info, .. }: NodeView<'_>) -> i64 {
    let left = |used: i64, offer: i64| {
        if offer <= 0 || used > offer {
            0
        } else {
            (offer - used).saturating_mul(100) / offer
        }
    };
    let (want, used, offer) = (&pod.presumed, &info.presumed, &info.offer.resources);
    let cpu = left(used.cpu_milli.saturating_add(want.cpu_milli), offer.cpu_milli);
    let memory = left(used.memory_bytes.saturating_add(want.memory_bytes), offer.memory_bytes);
    (cpu + memory) / 2
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::scene::{filter, named_pod};
    use super::*;

    fn asking(name: &str, requests: Value) -> Candidate {
        named_pod(
            name,
            json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}),
        )
    }

    #[test]
    fn what_is_left_must_suffice() {
        let fits = |requests: Value, placed: &[Candidate]| filter(&PLUGIN, &asking("p", requests), json!({}), placed);
        let half = asking("half", json!({"cpu": "1500m", "memory": "1Gi"}));
        assert!(fits(json!({"cpu": "2", "memory": "4Gi"}), &[]).is_ok());
        assert!(fits(json!({"cpu": "500m"}), std::slice::from_ref(&half)).is_ok());
        assert_eq!(
            fits(json!({"cpu": "501m", "memory": "4Gi"}), std::slice::from_ref(&half)).unwrap_err(),
            ["Insufficient cpu", "Insufficient memory"]
        );
        assert_eq!(
            fits(json!({"coracle.dev/fuel": "1"}), &[]).unwrap_err(),
            ["Insufficient coracle.dev/fuel"]
        );
        let small: Vec<Candidate> = (0..3).map(|i| asking(&i.to_string(), json!({}))).collect();
        assert_eq!(fits(json!({}), &small).unwrap_err(), ["Too many pods"]);
    }
}
