//! What the system sets in workloads.

use crate::object;
use serde_json::Value;

/// Counts the templates that a daemon set has had. Kubernetes keeps the count where an old version of the API had it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// A new daemon set has its first template.
pub fn create_daemon_set(set: &mut Value) {
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
    use serde_json::json;

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
