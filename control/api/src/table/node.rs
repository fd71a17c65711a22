//! Rows of nodes.

use super::{NAME, age, name, or_none, text, wide};
use crate::kinds::Column;
use crate::object;
use serde_json::Value;
use std::collections::BTreeSet;

/// Columns of nodes.
pub const COLUMNS: &[Column] = &[
    NAME,
    text("Status"),
    text("Roles"),
    text("Age"),
    text("Version"),
    wide("Internal-IP"),
    wide("External-IP"),
    wide("OS-Image"),
    wide("Kernel-Version"),
    wide("Container-Runtime"),
];

/// Cells of a node.
pub fn cells(node: &Value, now: i64) -> Vec<Value> {
    let info = |field: &str| {
        let text = object::text(node, field);
        Value::from(if text.is_empty() { "<unknown>" } else { text })
    };
    vec![
        name(node),
        Value::from(status(node)),
        or_none(roles(node)),
        age(node, now),
        Value::from(object::text(node, "status.nodeInfo.kubeletVersion")),
        or_none(address(node, "InternalIP")),
        or_none(address(node, "ExternalIP")),
        info("status.nodeInfo.osImage"),
        info("status.nodeInfo.kernelVersion"),
        info("status.nodeInfo.containerRuntimeVersion"),
    ]
}

fn status(node: &Value) -> String {
    let conditions = object::list(node, "status.conditions");
    let ready = conditions
        .iter()
        .find(|condition| object::text(condition, "type") == "Ready");
    let word = match ready.map(|condition| object::text(condition, "status")) {
        None => "Unknown",
        Some("True") => "Ready",
        Some(_) => "NotReady",
    };
    let cordoned = if object::truth(node, "spec.unschedulable") {
        ",SchedulingDisabled"
    } else {
        ""
    };
    format!("{word}{cordoned}")
}

fn roles(node: &Value) -> String {
    let role = |(key, value): (&'_ str, &'_ str)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()),
        None => (key == "kubernetes.io/role").then(|| value.to_owned()),
    };
    let roles: BTreeSet<String> = object::labels(node)
        .filter_map(role)
        .filter(|role| !role.is_empty())
        .collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address(node: &Value, kind: &str) -> String {
    let addresses = object::list(node, "status.addresses");
    let found = addresses.iter().find(|address| object::text(address, "type") == kind);
    found.map_or_else(String::new, |address| object::text(address, "address").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_prints_state_roles_and_addresses() {
        let node = json!({
            "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}, "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.2", "osImage": "Coracle"},
            },
        });
        let wanted = json!([
            "n",
            "Ready,SchedulingDisabled",
            "control-plane,worker",
            "5h",
            "v1.36.2",
            "127.0.0.1",
            "<none>",
            "Coracle",
            "<unknown>",
            "<unknown>"
        ]);
        assert_eq!(Value::from(cells(&node, 5 * 3_600_000_000)), wanted);
        assert_eq!(
            status(&json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})),
            "NotReady"
        );
    }
}
