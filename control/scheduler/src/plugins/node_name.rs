//! NodeName: a pod that names its node goes nowhere else.

use super::{NODE_EVENTS, NodeView, Plugin, Reasons};
use crate::candidate::Candidate;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeName",
    filter: Some(filter),
    score: None,
    helped_by: NODE_EVENTS,
};

fn filter(pod: &Candidate, view: NodeView<'_>) -> Result<(), Reasons> {
    let wanted = pod
        .spec()
        .and_then(|s| s.node_name.as_deref())
        .filter(|name| !name.is_empty());
    if wanted.is_none_or(|name| view.node.metadata.name.as_deref() == Some(name)) {
        Ok(())
    } else {
        Err(vec!["node(s) didn't match the requested node name".into()])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::scene::{filter, pod};
    use super::*;

    #[test]
    fn only_the_named_node_will_do() {
        assert!(filter(&PLUGIN, &pod(json!({})), json!({}), &[]).is_ok());
        assert!(filter(&PLUGIN, &pod(json!({"nodeName": "a"})), json!({}), &[]).is_ok());
        assert!(filter(&PLUGIN, &pod(json!({"nodeName": "b"})), json!({}), &[]).is_err());
    }
}
