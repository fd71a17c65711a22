//! Rows of workloads.

use super::{NAME, age, containers, images, name, number, selector, text, wide};
use crate::kinds::Column;
use crate::object;
use serde_json::Value;

/// Columns of deployments.
pub const DEPLOYMENT: &[Column] = &[
    NAME,
    text("Ready"),
    number("Up-to-date"),
    number("Available"),
    text("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

/// Cells of a deployment.
pub fn deployment(deployment: &Value, now: i64) -> Vec<Value> {
    let ready = format!(
        "{}/{}",
        count(deployment, "status.readyReplicas"),
        count(deployment, "spec.replicas")
    );
    let mut cells = vec![
        name(deployment),
        Value::from(ready),
        Value::from(count(deployment, "status.updatedReplicas")),
        Value::from(count(deployment, "status.availableReplicas")),
        age(deployment, now),
    ];
    cells.extend(template(deployment));
    cells
}

/// Columns of replica sets.
pub const REPLICA_SET: &[Column] = &[
    NAME,
    number("Desired"),
    number("Current"),
    number("Ready"),
    text("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

/// Cells of a replica set.
pub fn replica_set(set: &Value, now: i64) -> Vec<Value> {
    let mut cells = vec![
        name(set),
        Value::from(count(set, "spec.replicas")),
        Value::from(count(set, "status.replicas")),
        Value::from(count(set, "status.readyReplicas")),
        age(set, now),
    ];
    cells.extend(template(set));
    cells
}

fn count(object: &Value, path: &str) -> i64 {
    object::integer(object, path).unwrap_or_default()
}

fn template(workload: &Value) -> [Value; 3] {
    let spec = object::get(workload, "spec.template.spec").unwrap_or(&Value::Null);
    [
        containers(spec),
        images(spec),
        selector(object::get(workload, "spec.selector")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deployment_prints_its_counts_and_template() {
        let object = json!({
            "metadata": {"name": "web", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {
                "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"containers": [{"name": "a", "image": "web"}, {"name": "b", "image": "proxy"}]}},
            },
            "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2},
        });
        let cells = json!(["web", "2/3", 3, 2, "90s", "a,b", "web,proxy", "app=web"]);
        assert_eq!(Value::from(deployment(&object, 90_000_000)), cells);
        let cells = json!(["web", 3, 0, 2, "90s", "a,b", "web,proxy", "app=web"]);
        assert_eq!(Value::from(replica_set(&object, 90_000_000)), cells);
    }
}
