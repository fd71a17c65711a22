//! Defaults of jobs and of what makes them.

use super::{apps, fill, fill_text, items, part};
use crate::object;
use serde_json::{Value, json};

/// How often a job tries again when nothing is said.
const BACKOFF_LIMIT: u32 = 6;

/// A job runs one pod once, tries six times, and starts at once.
pub fn job(job: &mut Value) {
    let spec = object::child(job, "spec");
    shared(spec);
    if object::get(spec, "completions").is_none() && object::get(spec, "parallelism").is_none() {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let limit = match object::get(spec, "backoffLimitPerIndex") {
        Some(_) => json!(i32::MAX),
        None => json!(BACKOFF_LIMIT),
    };
    fill(spec, "backoffLimit", limit);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    fill(spec, "manualSelector", false);
    let replacement = match object::get(spec, "podFailurePolicy") {
        Some(_) => "Failed",
        None => "TerminatingOrFailed",
    };
    fill(spec, "podReplacementPolicy", replacement);
    adopt_labels(job);
}

/// A job without labels has those of its pods.
pub(crate) fn adopt_labels(job: &mut Value) {
    let labels = object::map(job, "spec.template.metadata.labels")
        .filter(|labels| !labels.is_empty())
        .cloned();
    if let Some(labels) = labels {
        let own = object::child(object::child(job, "metadata"), "labels");
        if object::fields(own).is_empty() {
            *own = json!(labels);
        }
    }
}

/// What a job's spec gets wherever it stands.
fn shared(spec: &mut Value) {
    apps::template_in(spec);
    let Some(policy) = part(spec, "podFailurePolicy") else {
        return;
    };
    for rule in items(policy, "rules") {
        items(rule, "onPodConditions").for_each(|pattern| fill_text(pattern, "status", "True"));
    }
}

/// A cron job lets its jobs overlap, and keeps three that succeeded and one that failed.
pub fn cron_job(job: &mut Value) {
    let spec = object::child(job, "spec");
    fill_text(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    if let Some(inner) = part(spec, "jobTemplate").and_then(|template| part(template, "spec")) {
        shared(inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_completed() {
        let mut job = json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}}});
        super::job(&mut job);
        let spec = &job["spec"];
        assert_eq!((&spec["completions"], &spec["parallelism"]), (&json!(1), &json!(1)));
        assert_eq!(spec["backoffLimit"], 6);
        assert_eq!(spec["podReplacementPolicy"], "TerminatingOrFailed");
        assert_eq!(spec["template"]["spec"]["dnsPolicy"], "ClusterFirst");
        assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
        let mut queue = json!({"spec": {"parallelism": 3, "backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": [{"onPodConditions": [{"type": "x"}]}]}}});
        super::job(&mut queue);
        let spec = &queue["spec"];
        assert!(spec.get("completions").is_none());
        assert_eq!(spec["backoffLimit"], i32::MAX);
        assert_eq!(spec["podReplacementPolicy"], "Failed");
        assert_eq!(
            spec["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"],
            "True"
        );
    }

    #[test]
    fn a_cron_job_completes_the_pods_but_not_the_job() {
        let mut job = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never"}}}}}});
        cron_job(&mut job);
        let inner = &job["spec"]["jobTemplate"]["spec"];
        assert_eq!(inner["template"]["spec"]["schedulerName"], "default-scheduler");
        assert!(inner.get("backoffLimit").is_none());
        assert_eq!(job["spec"]["concurrencyPolicy"], "Allow");
    }
}
