//! What a Job asks for, read once and with its defaults, and how its pods are told apart.

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, JobStatus},
    core::v1::Pod,
};

use crate::{clock::after_seconds, pods};

/// Keeps a pod until its Job has counted it.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The completion index of a pod: an annotation and a label.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the pod's index had failed before.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How often the pod's index had failed before without that counting.
pub const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// A Job under consideration.
pub struct Subject<'a> {
    /// The Job.
    pub job: &'a Job,
    /// Its specification.
    pub spec: &'a JobSpec,
    /// Its status as last written.
    pub status: JobStatus,
    /// The time.
    pub now: Timestamp,
}

impl<'a> Subject<'a> {
    /// The Job at that time; `None` if it has no specification.
    #[must_use]
    pub fn of(job: &'a Job, now: Timestamp) -> Option<Self> {
        Some(Self {
            job,
            spec: job.spec.as_ref()?,
            status: job.status.clone().unwrap_or_default(),
            now,
        })
    }

    /// How many pods may run at a time.
    #[must_use]
    pub fn parallelism(&self) -> i32 {
        self.spec.parallelism.unwrap_or(1).max(0)
    }

    /// How many indexes there are; `None` if pods are alike.
    #[must_use]
    pub fn indexes(&self) -> Option<i32> {
        let indexed = self.spec.completion_mode.as_deref() == Some("Indexed");
        indexed.then(|| self.spec.completions.unwrap_or(0))
    }

    /// Whether it should not run now.
    #[must_use]
    pub fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Whether a pod counts as failed, and is replaced, only when it has ended; else when it is being deleted.
    #[must_use]
    pub fn replaces_only_failed(&self) -> bool {
        match self.spec.pod_replacement_policy.as_deref() {
            Some(policy) => policy == "Failed",
            None => self.spec.pod_failure_policy.is_some(),
        }
    }

    /// The completion index of a pod, if it is one of this Job's.
    #[must_use]
    pub fn index(&self, pod: &Pod) -> Option<i32> {
        let index: i32 = pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()?;
        (index >= 0 && index < self.indexes()?).then_some(index)
    }

    /// Whether the pod counts as failed.
    #[must_use]
    pub fn has_failed(&self, pod: &Pod) -> bool {
        match pods::phase(pod) {
            "Failed" => true,
            "Succeeded" => false,
            _ => pods::is_terminating(pod) && !self.replaces_only_failed(),
        }
    }

    /// When the Job has run too long, if it is running.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        // One that is about to be resumed gets a new start.
        let runs = !self.suspended() && !self.is("Suspended");
        let started = self.status.start_time.as_ref().filter(|_| runs)?;
        Some(after_seconds(started.0, self.spec.active_deadline_seconds?))
    }

    /// Whether that condition of the Job is true.
    #[must_use]
    pub fn is(&self, condition: &str) -> bool {
        is(self.job, condition)
    }
}

/// Whether that condition of the Job is true.
#[must_use]
pub fn is(job: &Job, condition: &str) -> bool {
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|c| c.type_ == condition && c.status == "True")
}

/// Whether the Job is over, well or not.
#[must_use]
pub fn is_finished(job: &Job) -> bool {
    is(job, "Complete") || is(job, "Failed")
}

/// Whether the pod waits to be counted.
#[must_use]
pub fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

/// The number in that annotation of the pod; 0 if there is none.
#[must_use]
pub fn number(pod: &Pod, annotation: &str) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|a| a.get(annotation)?.parse().ok()).unwrap_or(0)
}
