//! Defaults of workloads.

use super::{fill, fill_text, part, pod};
use crate::object;
use serde_json::Value;

fn template(workload: &mut Value) {
    let spec = object::child(workload, "spec");
    if let Some(pod_spec) = part(spec, "template").and_then(|template| part(template, "spec")) {
        pod::pod_spec(pod_spec);
    }
}

/// A deployment keeps one replica and replaces it gradually.
pub fn deployment(deployment: &mut Value) {
    template(deployment);
    let spec = object::child(deployment, "spec");
    fill(spec, "replicas", 1);
    let strategy = object::child(spec, "strategy");
    fill_text(strategy, "type", "RollingUpdate");
    if object::text(strategy, "type") == "RollingUpdate" {
        let rolling = object::child(strategy, "rollingUpdate");
        fill(rolling, "maxUnavailable", "25%");
        fill(rolling, "maxSurge", "25%");
    }
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
}

/// A replica set keeps one replica.
pub fn replica_set(set: &mut Value) {
    template(set);
    fill(object::child(set, "spec"), "replicas", 1);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_deployment_is_completed_with_its_template() {
        let mut deployment =
            json!({"spec": {"selector": {}, "template": {"spec": {"containers": [{"image": "hello:1"}]}}}});
        super::deployment(&mut deployment);
        let spec = &deployment["spec"];
        assert_eq!(spec["replicas"], 1);
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!(
            (&spec["revisionHistoryLimit"], &spec["progressDeadlineSeconds"]),
            (&json!(10), &json!(600))
        );
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
        let mut recreate = json!({"spec": {"strategy": {"type": "Recreate"}, "replicas": 0}});
        super::deployment(&mut recreate);
        assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
        assert_eq!(recreate["spec"]["replicas"], 0);
    }
}
