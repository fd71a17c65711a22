//! TaintToleration: a tainted node takes only pods that tolerate the taint, or takes others less gladly.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{NODE_EVENTS, NodeView, Plugin, Reasons, Scale, Score};
use crate::candidate::Candidate;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "TaintToleration",
    filter: Some(filter),
    score: Some(Score {
        score,
        scale: Scale::Lowest,
        weight: 3,
    }),
    helped_by: NODE_EVENTS,
};

fn filter(pod: &Candidate, view: NodeView<'_>) -> Result<(), Reasons> {
    let mut hard = taints(&view).filter(|t| t.effect == "NoSchedule" || t.effect == "NoExecute");
    match hard.find(|taint| !tolerates(pod, taint)) {
        None => Ok(()),
        Some(Taint { key, value, .. }) => {
            let value = value.as_deref().unwrap_or_default();
            Err(vec![format!("node(s) had untolerated taint {{{key}: {value}}}").into()])
        }
    }
}

/// How many soft taints the pod does not tolerate.
fn score(pod: &Candidate, view: NodeView<'_>) -> i64 {
    let soft = taints(&view).filter(|t| t.effect == "PreferNoSchedule");
    i64::try_from(soft.filter(|taint| !tolerates(pod, taint)).count()).unwrap_or(i64::MAX)
}

fn taints<'a>(view: &NodeView<'a>) -> impl Iterator<Item = &'a Taint> + use<'a> {
    view.node
        .spec
        .as_ref()
        .and_then(|s| s.taints.as_ref())
        .into_iter()
        .flatten()
}

/// Whether any of the pod's tolerations covers the taint.
pub fn tolerates(pod: &Candidate, taint: &Taint) -> bool {
    let tolerations = pod.spec().and_then(|s| s.tolerations.as_ref());
    tolerations
        .into_iter()
        .flatten()
        .any(|toleration| covers(toleration, taint))
}

fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let or_any = |own: Option<&str>, of_taint: &str| own.is_none_or(|own| own.is_empty() || own == of_taint);
    if !or_any(toleration.effect.as_deref(), &taint.effect) || !or_any(toleration.key.as_deref(), &taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            let value = |v: &Option<String>| v.clone().unwrap_or_default();
            toleration.key.as_deref().is_some_and(|key| !key.is_empty())
                && value(&toleration.value) == value(&taint.value)
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::scene::{filter, pod};
    use super::*;

    #[test]
    fn tolerations_cover_taints() {
        let tainted = |effect: &str| json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": effect}]}});
        let allows = |toleration: Value, effect: &str| {
            filter(
                &PLUGIN,
                &pod(json!({"tolerations": [toleration]})),
                tainted(effect),
                &[],
            )
            .is_ok()
        };
        for (toleration, effect, expected) in [
            (json!({"key": "other", "operator": "Exists"}), "NoSchedule", false),
            (json!({"key": "gpu", "operator": "Exists"}), "NoSchedule", true),
            (
                json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}),
                "NoSchedule",
                false,
            ),
            (json!({"key": "gpu", "value": "yes"}), "NoExecute", true),
            (json!({"key": "gpu", "value": "no"}), "NoExecute", false),
            (json!({"operator": "Exists"}), "NoExecute", true),
            (json!({"key": "other"}), "PreferNoSchedule", true),
        ] {
            assert_eq!(allows(toleration.clone(), effect), expected, "{toleration} {effect}");
        }
        let reasons = filter(&PLUGIN, &pod(json!({})), tainted("NoSchedule"), &[]).unwrap_err();
        assert_eq!(reasons, ["node(s) had untolerated taint {gpu: yes}"]);
    }
}
