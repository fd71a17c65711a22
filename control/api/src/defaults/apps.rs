//! Defaults of workloads.

use super::{fill, fill_text, items, part, pod, storage};
use crate::object;
use serde_json::{Value, json};

fn template(workload: &mut Value) {
    template_in(object::child(workload, "spec"));
}

/// Completes the pod template of a spec, if it has one.
pub(super) fn template_in(spec: &mut Value) {
    if let Some(pod_spec) = part(spec, "template").and_then(|template| part(template, "spec")) {
        pod::pod_spec(pod_spec);
    }
}

/// A daemon set replaces its pods one after the other, and keeps ten revisions.
pub fn daemon_set(set: &mut Value) {
    template(set);
    let spec = object::child(set, "spec");
    let strategy = object::child(spec, "updateStrategy");
    fill_text(strategy, "type", "RollingUpdate");
    if object::text(strategy, "type") == "RollingUpdate" {
        let rolling = object::child(strategy, "rollingUpdate");
        fill(rolling, "maxUnavailable", 1);
        fill(rolling, "maxSurge", 0);
    }
    fill(spec, "revisionHistoryLimit", 10);
}

/// A stateful set keeps one replica, orders its pods and replaces them one by one, and keeps the claims that it made.
pub fn stateful_set(set: &mut Value) {
    template(set);
    let spec = object::child(set, "spec");
    fill_text(spec, "podManagementPolicy", "OrderedReady");
    let strategy = object::child(spec, "updateStrategy");
    fill_text(strategy, "type", "RollingUpdate");
    if object::text(strategy, "type") == "RollingUpdate" {
        let rolling = object::child(strategy, "rollingUpdate");
        fill(rolling, "partition", 0);
        fill(rolling, "maxUnavailable", 1);
    }
    let retention = object::child(spec, "persistentVolumeClaimRetentionPolicy");
    fill_text(retention, "whenDeleted", "Retain");
    fill_text(retention, "whenScaled", "Retain");
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    for claim in items(spec, "volumeClaimTemplates") {
        fill_text(claim, "kind", "PersistentVolumeClaim");
        fill_text(claim, "apiVersion", "v1");
        storage::claim(claim);
        fill_text(object::child(claim, "status"), "phase", "Pending");
    }
}

/// A pod template is completed as within workloads.
pub fn pod_template(template: &mut Value) {
    template_in(template);
}

/// A replication controller keeps one replica; its labels and its selector are its template's labels.
pub fn replication_controller(controller: &mut Value) {
    template(controller);
    let labels = object::map(controller, "spec.template.metadata.labels")
        .filter(|labels| !labels.is_empty())
        .cloned();
    if let Some(labels) = labels {
        let own = object::child(object::child(controller, "metadata"), "labels");
        if object::fields(own).is_empty() {
            *own = json!(labels);
        }
        let selector = object::child(object::child(controller, "spec"), "selector");
        if object::fields(selector).is_empty() {
            *selector = json!(labels);
        }
    }
    fill(object::child(controller, "spec"), "replicas", 1);
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
    fn the_other_workloads_are_completed() {
        let mut set = json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}});
        super::stateful_set(&mut set);
        let spec = &set["spec"];
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}})
        );
        assert_eq!(spec["podManagementPolicy"], "OrderedReady");
        assert_eq!(
            spec["volumeClaimTemplates"][0],
            json!({
                "kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": {"name": "data"},
                "spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"},
            })
        );
        let mut daemon = json!({"spec": {"updateStrategy": {"type": "OnDelete"}}});
        super::daemon_set(&mut daemon);
        assert_eq!(
            daemon["spec"],
            json!({"updateStrategy": {"type": "OnDelete"}, "revisionHistoryLimit": 10})
        );
        let mut controller = json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
        super::replication_controller(&mut controller);
        assert_eq!(controller["metadata"]["labels"], json!({"a": "b"}));
        assert_eq!(controller["spec"]["selector"], json!({"a": "b"}));
        assert_eq!(controller["spec"]["replicas"], 1);
    }

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
