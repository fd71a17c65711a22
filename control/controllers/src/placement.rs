//! Whether a pod may be on a node, as far as its own specification and the node's taints say: for controllers that must
//! know without asking the scheduler.

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

/// Whether the toleration covers the taint.
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let effect = given(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let key = given(&toleration.key).is_none_or(|key| key == taint.key);
    let value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default(),
    };
    effect && key && value
}

/// The taints of a node with that effect.
pub fn taints<'a>(node: &'a Node, effect: &'a str) -> impl Iterator<Item = &'a Taint> {
    let all = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    all.filter(move |taint| taint.effect == effect)
}

/// Whether the pod's node name, node selector and required node affinity allow the node.
#[must_use]
pub fn wants(spec: &PodSpec, node: &Node) -> bool {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    if spec
        .node_name
        .as_deref()
        .is_some_and(|wanted| !wanted.is_empty() && wanted != name)
    {
        return false;
    }
    let label = |key: &str| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(key))
            .map(String::as_str)
    };
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| label(key) == Some(value.as_str()));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|selector| self::selected(selector, node))
}

/// Whether one of the selector's terms picks the node.
#[must_use]
pub fn selected(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_fits(term, node))
}

/// Whether the term picks the node; an empty one picks none.
#[must_use]
pub fn term_fits(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(key))
            .map(String::as_str)
    };
    let field = |key: &str| (key == "metadata.name").then(|| node.metadata.name.as_deref().unwrap_or_default());
    labels.iter().all(|r| fits(r, label(&r.key))) && fields.iter().all(|r| fits(r, field(&r.key)))
}

fn fits(requirement: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = found.is_some_and(|found| values.iter().any(|value| value == found));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let (have, limit) = (number(found), number(values.first().map(String::as_str)));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => matches!((have, limit), (Some(have), Some(limit)) if have > limit),
        "Lt" => matches!((have, limit), (Some(have), Some(limit)) if have < limit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn all_of_a_pods_wishes_hold() {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "a", "labels": {"zone": "x", "cores": "8"}}})).unwrap();
        let allowed = |spec: Value| wants(&serde_json::from_value(spec).unwrap(), &node);
        let affinity = |term: Value| json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
        let expression = |key: &str, operator: &str, values: Value| {
            affinity(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
        };
        assert!(allowed(json!({"containers": []})));
        assert!(!allowed(json!({"containers": [], "nodeName": "b"})));
        assert!(allowed(json!({"containers": [], "nodeSelector": {"zone": "x"}})));
        assert!(!allowed(json!({"containers": [], "nodeSelector": {"zone": "y"}})));
        assert!(
            allowed(expression("zone", "In", json!(["x", "y"]))) && !allowed(expression("zone", "NotIn", json!(["x"])))
        );
        assert!(allowed(expression("cores", "Gt", json!(["4"]))) && !allowed(expression("cores", "Lt", json!(["4"]))));
        assert!(
            allowed(expression("gpu", "DoesNotExist", json!([]))) && !allowed(expression("gpu", "Exists", json!([])))
        );
        assert!(!allowed(affinity(json!({}))), "an empty term fits nothing");
        assert!(allowed(affinity(
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]})
        )));
    }

    #[test]
    fn tolerations_cover_by_key_value_and_effect() {
        let taint = Taint {
            key: "k".into(),
            value: Some("v".into()),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        let covers = |toleration: Value| tolerates(&serde_json::from_value(toleration).unwrap(), &taint);
        assert!(covers(json!({"key": "k", "value": "v"})) && covers(json!({"operator": "Exists"})));
        assert!(covers(
            json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})
        ));
        assert!(
            !covers(json!({"key": "k", "value": "w"}))
                && !covers(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}))
        );
    }
}
