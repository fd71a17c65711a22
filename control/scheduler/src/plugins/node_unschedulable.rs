//! NodeUnschedulable: a cordoned node takes no pods but those that tolerate it.

use super::{NODE_EVENTS, NodeView, Plugin, Reasons, taint_toleration};
use crate::candidate::Candidate;
use k8s_openapi::api::core::v1::Taint;

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeUnschedulable",
    filter: Some(filter),
    score: None,
    helped_by: NODE_EVENTS,
};

fn filter(pod: &Candidate, view: NodeView<'_>) -> Result<(), Reasons> {
    if view.node.spec.as_ref().and_then(|s| s.unschedulable) != Some(true) {
        return Ok(());
    }
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if taint_toleration::tolerates(pod, &cordon) {
        Ok(())
    } else {
        Err(vec!["node(s) were unschedulable".into()])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::scene::{filter, pod};
    use super::*;

    #[test]
    fn a_cordoned_node_takes_only_the_tolerant() {
        let cordoned = json!({"spec": {"unschedulable": true}});
        assert!(filter(&PLUGIN, &pod(json!({})), json!({}), &[]).is_ok());
        assert_eq!(
            filter(&PLUGIN, &pod(json!({})), cordoned.clone(), &[]),
            Err(vec!["node(s) were unschedulable".into()])
        );
        let tolerant = pod(json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}));
        assert!(filter(&PLUGIN, &tolerant, cordoned, &[]).is_ok());
    }
}
