//! Rows of workloads.

use super::{NAME, age, containers, images, labels, name, number, selector, text, wide};
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

/// Cells of a replication controller, which has the columns of a replica set.
pub fn replication_controller(controller: &Value, now: i64) -> Vec<Value> {
    let mut cells = replica_set(controller, now);
    if let Some(last) = cells.last_mut() {
        *last = labels(object::map(controller, "spec.selector"));
    }
    cells
}

/// Columns of daemon sets.
pub const DAEMON_SET: &[Column] = &[
    NAME,
    number("Desired"),
    number("Current"),
    number("Ready"),
    number("Up-to-date"),
    number("Available"),
    text("Node Selector"),
    text("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

/// Cells of a daemon set.
pub fn daemon_set(set: &Value, now: i64) -> Vec<Value> {
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ];
    let mut cells = vec![name(set)];
    cells.extend(counts.map(|field| Value::from(count(set, &format!("status.{field}")))));
    cells.push(labels(object::map(set, "spec.template.spec.nodeSelector")));
    cells.push(age(set, now));
    cells.extend(template(set));
    cells
}

/// Columns of stateful sets.
pub const STATEFUL_SET: &[Column] = &[NAME, text("Ready"), text("Age"), wide("Containers"), wide("Images")];

/// Cells of a stateful set.
pub fn stateful_set(set: &Value, now: i64) -> Vec<Value> {
    let ready = format!("{}/{}", count(set, "status.readyReplicas"), count(set, "spec.replicas"));
    let [containers, images, _] = template(set);
    vec![name(set), Value::from(ready), age(set, now), containers, images]
}

/// Columns of controller revisions.
pub const CONTROLLER_REVISION: &[Column] = &[NAME, text("Controller"), number("Revision"), text("Age")];

/// Cells of a controller revision.
pub fn controller_revision(revision: &Value, now: i64) -> Vec<Value> {
    let controller = object::controller_of(revision).map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let kind = object::text(owner, "kind").to_lowercase();
            let name = object::text(owner, "name");
            match crate::kinds::split_api_version(object::text(owner, "apiVersion")).0 {
                "" => format!("{kind}/{name}"),
                group => format!("{kind}.{group}/{name}"),
            }
        },
    );
    vec![
        name(revision),
        Value::from(controller),
        Value::from(count(revision, "revision")),
        age(revision, now),
    ]
}

/// Columns of pod templates.
pub const POD_TEMPLATE: &[Column] = &[NAME, text("Containers"), text("Images"), text("Pod Labels")];

/// Cells of a pod template.
pub fn pod_template(template: &Value, _: i64) -> Vec<Value> {
    let spec = object::get(template, "template.spec").unwrap_or(&Value::Null);
    vec![
        name(template),
        containers(spec),
        images(spec),
        labels(object::map(template, "template.metadata.labels")),
    ]
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

    #[test]
    fn the_other_workloads_print_as_known() {
        let set = json!({"metadata": {"name": "d"}, "spec": {"replicas": 2, "template": {"spec": {"nodeSelector": {"b": "2", "a": "1"}}}},
            "status": {"desiredNumberScheduled": 3, "numberReady": 1, "readyReplicas": 1}});
        let cells = json!(["d", 3, 0, 1, 0, 0, "a=1,b=2", "<unknown>", "", "", "<none>"]);
        assert_eq!(Value::from(daemon_set(&set, 0)), cells);
        assert_eq!(
            Value::from(stateful_set(&set, 0)),
            json!(["d", "1/2", "<unknown>", "", ""])
        );
        let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true});
        let revision = json!({"metadata": {"name": "r", "ownerReferences": [owner]}, "revision": 4});
        assert_eq!(
            Value::from(controller_revision(&revision, 0)),
            json!(["r", "statefulset.apps/web", 4, "<unknown>"])
        );
    }
}
