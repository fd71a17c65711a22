//! What the system sets in workloads, in budgets and in autoscalers.
//!
//! A status whose fields must be there is there from the start, so that clients that insist on them can read new objects.

use crate::object;
use serde_json::{Value, json};

/// Counts the templates that a daemon set has had. Kubernetes keeps the count where an old version of the API had it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// A new replication controller has no replicas yet.
pub fn create_replicated(object: &mut Value) {
    object::set(object, "status", json!({"replicas": 0}));
}

/// A new stateful set has no replicas yet.
pub fn create_stateful_set(set: &mut Value) {
    object::set(set, "status", json!({"replicas": 0, "availableReplicas": 0}));
}

/// A new daemon set is scheduled nowhere, and has its first template.
pub fn create_daemon_set(set: &mut Value) {
    let counts = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
    ];
    let counts: Value = counts.into_iter().map(|field| (field.to_owned(), json!(0))).collect();
    object::set(set, "status", counts);
    object::set_annotation(set, TEMPLATE_GENERATION, "1");
}

/// A changed daemon set counts its templates.
pub fn update_daemon_set(new: &mut Value, old: &Value) {
    let count: i64 = object::annotation(old, TEMPLATE_GENERATION)
        .and_then(|count| count.parse().ok())
        .unwrap_or(1);
    let changed = object::get(new, "spec.template") != object::get(old, "spec.template");
    object::set_annotation(new, TEMPLATE_GENERATION, &(count + i64::from(changed)).to_string());
}

/// A new budget allows nothing yet.
pub fn create_budget(budget: &mut Value) {
    let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
    let counts: Value = counts.into_iter().map(|field| (field.to_owned(), json!(0))).collect();
    object::set(budget, "status", counts);
}

/// A new autoscaler has measured nothing yet.
pub fn create_autoscaler(autoscaler: &mut Value) {
    object::set(
        autoscaler,
        "status",
        json!({"desiredReplicas": 0, "currentMetrics": null}),
    );
}

/// A new job selects its own pods by its uid, unless its maker wants to do that by hand.
pub fn create_job(job: &mut Value) {
    if object::truth(job, "spec.manualSelector") {
        return;
    }
    let (uid, name) = (object::uid(job).to_owned(), object::name(job).to_owned());
    let spec = object::child(job, "spec");
    let template = object::child(spec, "template");
    for (key, value) in [("controller-uid", &uid), ("job-name", &name)] {
        for prefix in ["batch.kubernetes.io/", ""] {
            let labels = object::fields(object::child(object::child(template, "metadata"), "labels"));
            labels
                .entry(format!("{prefix}{key}"))
                .or_insert_with(|| Value::from(value.as_str()));
        }
    }
    let selector = object::child(object::child(spec, "selector"), "matchLabels");
    object::fields(selector)
        .entry("batch.kubernetes.io/controller-uid")
        .or_insert_with(|| Value::from(uid));
    crate::defaults::batch::adopt_labels(job);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_selects_its_own_pods() {
        let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {}}});
        create_job(&mut job);
        assert_eq!(
            job["spec"]["selector"],
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
        );
        assert_eq!(
            job["spec"]["template"]["metadata"]["labels"],
            json!({
                "batch.kubernetes.io/controller-uid": "u", "controller-uid": "u", "batch.kubernetes.io/job-name": "j", "job-name": "j",
            })
        );
        let mut manual = json!({"spec": {"manualSelector": true}});
        create_job(&mut manual);
        assert_eq!(manual, json!({"spec": {"manualSelector": true}}));
    }

    #[test]
    fn a_daemon_set_counts_its_templates() {
        let mut old = json!({"spec": {"template": {"x": 1}}});
        create_daemon_set(&mut old);
        let mut same = old.clone();
        update_daemon_set(&mut same, &old);
        assert_eq!(same, old);
        let mut new = json!({"spec": {"template": {"x": 2}}});
        update_daemon_set(&mut new, &old);
        assert_eq!(object::annotation(&new, TEMPLATE_GENERATION), Some("2"));
    }
}
