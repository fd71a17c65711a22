//! NodeAffinity: a pod chooses nodes by their labels, with `nodeSelector` and with affinity terms.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm};

use super::{NODE_EVENTS, NodeView, Plugin, Reasons, Scale, Score};
use crate::candidate::Candidate;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeAffinity",
    filter: Some(filter),
    score: Some(Score {
        score,
        scale: Scale::Highest,
        weight: 2,
    }),
    helped_by: NODE_EVENTS,
};

fn filter(pod: &Candidate, view: NodeView<'_>) -> Result<(), Reasons> {
    let Some(spec) = pod.spec() else { return Ok(()) };
    let labels = view.node.metadata.labels.as_ref();
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(name, value)| labels.and_then(|l| l.get(name)) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let wanted =
        required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| matches(term, view.node)));
    if selected && wanted {
        Ok(())
    } else {
        Err(vec!["node(s) didn't match Pod's node affinity/selector".into()])
    }
}

/// The weights of the preferences that the node meets.
fn score(pod: &Candidate, view: NodeView<'_>) -> i64 {
    let affinity = pod
        .spec()
        .and_then(|s| s.affinity.as_ref())
        .and_then(|a| a.node_affinity.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    preferred
        .into_iter()
        .flatten()
        .filter(|p| matches(&p.preference, view.node))
        .map(|p| i64::from(p.weight))
        .sum()
}

/// A term without requirements matches nothing.
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let name = node.metadata.name.as_deref();
    (!expressions.is_empty() || !fields.is_empty())
        && expressions
            .iter()
            .all(|r| meets(r, labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| r.key == "metadata.name" && meets(r, name))
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|v| v == value);
    let compared = |holds: fn(i64, i64) -> bool| {
        let bound = values.first().and_then(|v| v.parse().ok());
        value
            .and_then(|v| v.parse().ok())
            .zip(bound)
            .is_some_and(|(value, bound)| holds(value, bound))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(|value, bound| value > bound),
        "Lt" => compared(|value, bound| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::scene::{filter, pod};
    use super::*;

    fn fits(spec: Value) -> bool {
        let labels = json!({"metadata": {"name": "a", "labels": {"disk": "ssd", "cores": "8"}}});
        filter(&PLUGIN, &pod(spec), labels, &[]).is_ok()
    }

    fn affinity(terms: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    }

    #[test]
    fn selectors_ask_for_every_label() {
        assert!(fits(json!({"nodeSelector": {"disk": "ssd"}})));
        assert!(!fits(json!({"nodeSelector": {"disk": "ssd", "zone": "z"}})));
    }

    #[test]
    fn of_terms_one_must_match_and_in_a_term_all() {
        let is = |key: &str, op: &str, values: Value| json!({"key": key, "operator": op, "values": values});
        for (requirement, expected) in [
            (is("disk", "In", json!(["hdd", "ssd"])), true),
            (is("disk", "NotIn", json!(["ssd"])), false),
            (is("zone", "NotIn", json!(["z"])), true),
            (is("disk", "Exists", json!([])), true),
            (is("zone", "Exists", json!([])), false),
            (is("zone", "DoesNotExist", json!([])), true),
            (is("cores", "Gt", json!(["4"])), true),
            (is("cores", "Lt", json!(["8"])), false),
            (is("disk", "Gt", json!(["4"])), false),
        ] {
            assert_eq!(
                fits(affinity(json!([{"matchExpressions": [requirement]}]))),
                expected,
                "{requirement}"
            );
        }
        assert!(fits(affinity(
            json!([{"matchFields": [is("metadata.name", "In", json!(["a"]))]}])
        )));
        assert!(!fits(affinity(json!([{}]))), "an empty term matches nothing");
        let no = json!({"matchExpressions": [is("zone", "Exists", json!([]))]});
        let yes = json!({"matchExpressions": [is("disk", "Exists", json!([]))]});
        assert!(fits(affinity(json!([no, yes]))));
    }
}
