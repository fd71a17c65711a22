//! Jobs: pods that run to their end, as often as asked for.
//!
//! Wants to be true: while a Job is undecided, as many pods are active as may run side by side and are still needed;
//! once it is decided none are, and its status says how it ended and why. Every pod that ended is counted exactly once:
//! a finalizer keeps it until it is. It must never create a pod for a Job that is decided, suspended or being deleted.

pub mod backoff;
pub mod indexes;
pub mod pod;
pub mod policy;
pub mod subject;
pub mod tally;
pub mod verdict;

use std::sync::Arc;

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;

use crate::{
    driver::{Controller, Turn},
    key::Key,
    merge,
    owner::{self, Claimant},
    plan::{Action, EventDraft, Guard, Note, Plan, Target, reference},
    resource::{JOBS, PODS},
    store::{Change, controller_uid},
    world::{Watch, World},
};
use subject::{FINALIZER, Subject, is_tracked};
use tally::{Ledger, Tally};
use verdict::Verdict;

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "job-controller",
    resource: JOBS,
    watches: &[Watch::Job(itself), Watch::Pod(of_pod)],
    reconcile,
};

/// Tells which Job a pod was made for.
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// Who looks after a Job, unless it says so.
const OURSELVES: &str = "kubernetes.io/job-controller";
/// Pods created in one turn; the rest follows when these are seen. The number is Kubernetes' own.
const BURST_LIMIT: usize = 500;

fn itself(change: &Change<Job>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.latest().map(|job| Key::of(&job.metadata)));
}

fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    keys.extend(
        change
            .both()
            .filter_map(|pod| owner::controller_key(&pod.metadata, &JOBS)),
    );
    keys.dedup();
    let Some(pod) = change.new.as_ref().filter(|p| controller_uid(&p.metadata).is_empty()) else {
        return;
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    // A pod that was orphaned must not be held by a Job that has forgotten it.
    keys.extend(is_tracked(pod).then(|| Key::new(namespace, made_for(pod))));
    for job in world.jobs.in_namespace(namespace) {
        if picks(&job, pod) {
            keys.push(Key::of(&job.metadata));
        }
    }
}

/// Decides what to do about one Job.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let job = world.jobs.get(key);
    let strays = strays(key, job.as_deref(), world);
    if !strays.is_empty() {
        let gone = strays.iter().filter_map(|pod| {
            let uid = controller_uid(&pod.metadata);
            let target = Target {
                resource: JOBS.clone(),
                key: key.clone(),
            };
            (!uid.is_empty()).then(|| Guard::Absent(target, uid.to_owned()))
        });
        plan.guards.extend(gone);
        plan.guards.dedup();
        plan.batch(strays.iter().map(release).collect());
        return plan;
    }
    let Some(job) = job.filter(|job| !subject::is_finished(job)) else {
        return plan;
    };
    let Some(subject) = Subject::of(&job, turn.now) else {
        return plan;
    };
    if subject.spec.managed_by.as_deref().is_some_and(|by| by != OURSELVES) {
        return plan;
    }
    let Some(selector) = subject.spec.selector.as_ref().and_then(owner::selector) else {
        return plan;
    };
    let claimant = Claimant {
        resource: &JOBS,
        meta: &job.metadata,
        selector: &selector,
    };
    let pods = claimant.claim(&world.pods, &PODS, &mut plan);
    Course::of(&subject, &pods).follow(&mut plan);
    plan
}

/// The name of the Job that a pod without a controller was made for. Pods of a selector that the user wrote do not tell: such
/// a one stands under its own name, where there is no Job.
fn made_for(pod: &Pod) -> &str {
    let labelled = pod.metadata.labels.as_ref().and_then(|labels| labels.get(NAME_LABEL));
    labelled.or(pod.metadata.name.as_ref()).map_or("", String::as_str)
}

/// Pods made for a Job of this name that a finalizer holds for a Job that is no more.
fn strays(key: &Key, job: Option<&Job>, world: &World) -> Vec<Arc<Pod>> {
    let label = (NAME_LABEL.to_owned(), key.name.to_string());
    let mut pods = world.pods.labelled(&key.namespace, [(&label.0, &label.1)]);
    if job.is_none_or(selects_by_hand) {
        let all = world.pods.in_namespace(&key.namespace).into_iter();
        pods.extend(all.filter(|pod| is_tracked(pod) && is_unlabelled(pod) && is_of(pod, key)));
    }
    let uid = job.and_then(|job| job.metadata.uid.as_deref()).unwrap_or_default();
    pods.retain(|pod| {
        let owner = controller_uid(&pod.metadata);
        let ours = !uid.is_empty() && owner == uid;
        // An orphan may still be adopted by the Job whose selector picks it.
        let adopters = job.is_some() || is_unlabelled(pod) && is_picked(pod, world);
        let adoptable = owner.is_empty() && adopters && pod.metadata.deletion_timestamp.is_none();
        is_tracked(pod) && !ours && !adoptable
    });
    pods
}

/// Whether pods of the Job may come without its name: the server adds that where it makes the selector.
fn selects_by_hand(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.manual_selector) == Some(true)
}

fn is_unlabelled(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.is_none_or(|labels| !labels.contains_key(NAME_LABEL))
}

fn is_of(pod: &Pod, key: &Key) -> bool {
    match controller_uid(&pod.metadata) {
        "" => made_for(pod) == &*key.name,
        _ => owner::controller_key(&pod.metadata, &JOBS).as_ref() == Some(key),
    }
}

/// Whether a Job that still works picks the pod.
fn is_picked(pod: &Pod, world: &World) -> bool {
    let works = |job: &Job| job.metadata.deletion_timestamp.is_none() && !subject::is_finished(job);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut jobs = world.jobs.in_namespace(namespace).into_iter();
    jobs.any(|job| works(&job) && picks(&job, pod))
}

fn picks(job: &Job, pod: &Pod) -> bool {
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = selector.and_then(owner::selector);
    selector.is_some_and(|selector| owner::selects(&selector, &pod.metadata))
}

fn release(pod: &Arc<Pod>) -> Action {
    let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    let patch = json!({"metadata": {
        "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version, "finalizers": finalizers,
    }});
    Action::merge(Target::of(&PODS, &pod.metadata), patch)
}

/// What to do about a Job that is not over.
struct Course<'a> {
    subject: &'a Subject<'a>,
    tally: Tally,
    verdict: Option<Verdict>,
}

impl<'a> Course<'a> {
    fn of(subject: &'a Subject<'a>, pods: &[Arc<Pod>]) -> Self {
        let tally = Tally::of(subject, pods);
        let verdict = verdict::of(subject, &tally);
        Self {
            subject,
            tally,
            verdict,
        }
    }

    fn follow(&self, plan: &mut Plan) {
        let meta = &self.subject.job.metadata;
        let deleting = meta.deletion_timestamp.is_some();
        let failed = self.verdict.as_ref().is_some_and(|v| v.failed);
        let ledger = self
            .tally
            .ledger(self.subject, failed, self.verdict.is_some() || deleting);
        let mut doomed: Vec<Arc<Pod>> = Vec::new();
        let mut creations = Vec::new();
        if self.verdict.is_some() {
            doomed.clone_from(&self.tally.active);
        } else if !deleting {
            doomed = pod::surplus(self.subject, &self.tally.active, self.wanted());
            creations = self.creations(plan);
        }
        if let Some(deadline) = self.subject.deadline().filter(|_| self.verdict.is_none()) {
            plan.requeue(deadline);
        }
        let status = self.status(&ledger, doomed.len(), plan);
        let old = self.subject.job.status.clone().unwrap_or_default();
        if let Some(mut patch) = merge::status(meta.uid.as_deref(), &old, &status) {
            // Two that count from the same status would count a pod twice.
            crate::template::set(
                &mut patch,
                &["metadata", "resourceVersion"],
                json!(meta.resource_version),
            );
            plan.change(Action::status(Target::of(&JOBS, meta), patch));
        }
        plan.batch(ledger.release.iter().map(release).collect());
        if self.verdict.is_none() {
            // Pods that go because fewer are wanted are no failures: they go uncounted.
            plan.batch(doomed.iter().filter(|pod| is_tracked(pod)).map(release).collect());
        }
        plan.batch(doomed.iter().map(|pod| self.deletion(pod)).collect());
        plan.batch(creations);
    }

    /// How many pods should be active.
    fn wanted(&self) -> usize {
        let subject = self.subject;
        if subject.suspended() {
            return 0;
        }
        let wanted = match subject.spec.completions {
            None if self.tally.succeeded > 0 => return self.tally.active.len(),
            None => subject.parallelism(),
            Some(completions) => {
                let lost = if subject.spec.backoff_limit_per_index.is_some() {
                    self.tally.lost.count()
                } else {
                    0
                };
                let needed = completions.saturating_sub(self.tally.succeeded).saturating_sub(lost);
                subject.parallelism().min(needed)
            }
        };
        usize::try_from(wanted).unwrap_or(0)
    }

    fn creations(&self, plan: &mut Plan) -> Vec<Action> {
        let ending = if self.subject.replaces_only_failed() {
            self.tally.terminating.len()
        } else {
            0
        };
        let missing = self
            .wanted()
            .saturating_sub(self.tally.active.len() + ending)
            .min(BURST_LIMIT);
        if missing == 0 {
            return Vec::new();
        }
        let per_index = self.subject.spec.backoff_limit_per_index.is_some();
        if !per_index {
            let start = backoff::next_start(&self.tally.failures, self.tally.last_success);
            if let Some(start) = start.filter(|start| *start > self.subject.now) {
                plan.requeue(start);
                return Vec::new();
            }
        }
        match self.subject.indexes() {
            None => (0..missing).map(|_| self.creation(None)).collect(),
            Some(all) => self.creations_by_index(all, missing, plan),
        }
    }

    fn creations_by_index(&self, all: i32, missing: usize, plan: &mut Plan) -> Vec<Action> {
        let busy = self.tally.busy(self.subject);
        let open = (0..all).filter(|i| !busy.contains(i) && !self.tally.done.has(*i) && !self.tally.lost.has(*i));
        let mut creations = Vec::new();
        for index in open {
            if creations.len() == missing {
                break;
            }
            match self.index_start(index).filter(|start| *start > self.subject.now) {
                Some(start) => plan.requeue(start),
                None => creations.push(self.creation(Some(index))),
            }
        }
        creations
    }

    /// When an index that failed may be tried again.
    fn index_start(&self, index: i32) -> Option<jiff::Timestamp> {
        let last = self.tally.failed_by_index.get(&index)?;
        let tries = usize::try_from(subject::number(last, subject::FAILURES)).unwrap_or(0) + 1;
        let ended = backoff::ended_at(last, self.subject.now);
        Some(crate::clock::after_seconds(ended, backoff::seconds(tries)))
    }

    fn creation(&self, index: Option<i32>) -> Action {
        let after = index.and_then(|index| self.tally.failed_by_index.get(&index));
        let body = pod::of(self.subject, index, after.map(|pod| &**pod));
        let meta = &self.subject.job.metadata;
        let note = Note {
            about: reference(&JOBS, meta),
            success: Some(("SuccessfulCreate", "Created pod: {name}".to_owned())),
            failure: Some(("FailedCreate", "Error creating: {error}".to_owned())),
        };
        Action::create(&PODS, meta.namespace.as_deref().unwrap_or_default(), body).noting(note)
    }

    fn deletion(&self, pod: &Pod) -> Action {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Action::delete(&PODS, &pod.metadata).noting(Note {
            about: reference(&JOBS, &self.subject.job.metadata),
            success: Some(("SuccessfulDelete", format!("Deleted pod: {name}"))),
            failure: Some(("FailedDelete", "Error deleting: {error}".to_owned())),
        })
    }

    fn status(&self, ledger: &Ledger, doomed: usize, plan: &mut Plan) -> JobStatus {
        let mut status = self.subject.status.clone();
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let some = |n: i32| (n > 0).then_some(n);
        status.active = some(count(self.tally.active.len().saturating_sub(doomed)));
        status.ready = Some(if doomed == 0 { count(self.tally.ready) } else { 0 }.min(status.active.unwrap_or(0)));
        status.terminating = Some(count(self.tally.terminating.len() + doomed));
        status.succeeded = some(ledger.succeeded);
        status.failed = some(ledger.failed);
        if self.subject.indexes().is_some() {
            status.completed_indexes = Some(self.tally.done.to_string()).filter(|text| !text.is_empty());
        }
        if self.subject.spec.backoff_limit_per_index.is_some() {
            status.failed_indexes = Some(self.tally.lost.to_string());
        }
        if status.start_time.is_none() && !self.subject.suspended() {
            status.start_time = Some(Time(self.subject.now));
        }
        let nothing_open = ledger.uncounted.succeeded.is_none() && ledger.uncounted.failed.is_none();
        status.uncounted_terminated_pods = Some(ledger.uncounted.clone());
        match &self.verdict {
            None => self.tell_suspension(&mut status, plan),
            Some(verdict) => {
                // A Job that is over is not looked at again: nobody may be held by it.
                let over = nothing_open
                    && ledger.release.is_empty()
                    && self.tally.active.is_empty()
                    && self.tally.terminating.is_empty();
                self.tell_verdict(verdict, over, &mut status, plan);
            }
        }
        status
    }

    fn event(&self, warning: bool, reason: &'static str, message: &str) -> EventDraft {
        let about = reference(&JOBS, &self.subject.job.metadata);
        if warning {
            EventDraft::warning(about, reason, message.to_owned())
        } else {
            EventDraft::normal(about, reason, message.to_owned())
        }
    }

    fn tell_suspension(&self, status: &mut JobStatus, plan: &mut Plan) {
        if self.subject.job.metadata.deletion_timestamp.is_some() {
            return;
        }
        let suspended = self.subject.is("Suspended");
        if self.subject.suspended() && !suspended {
            self.set(status, "Suspended", "True", "JobSuspended", "Job suspended");
            plan.events.push(self.event(false, "Suspended", "Job suspended"));
        } else if !self.subject.suspended() && suspended {
            self.set(status, "Suspended", "False", "JobResumed", "Job resumed");
            plan.events.push(self.event(false, "Resumed", "Job resumed"));
            // The deadline counts from the resumption.
            status.start_time = Some(Time(self.subject.now));
        }
    }

    fn tell_verdict(&self, verdict: &Verdict, over: bool, status: &mut JobStatus, plan: &mut Plan) {
        self.set(status, verdict.interim(), "True", &verdict.reason, &verdict.message);
        if !over {
            return;
        }
        self.set(status, verdict.terminal(), "True", &verdict.reason, &verdict.message);
        if verdict.failed {
            let reason = known_reason(&verdict.reason);
            plan.events.push(self.event(true, reason, &verdict.message));
        } else {
            status.completion_time = Some(Time(self.subject.now));
            plan.events.push(self.event(false, "Completed", "Job completed"));
        }
    }

    fn set(&self, status: &mut JobStatus, type_: &str, value: &str, reason: &str, message: &str) {
        let conditions = status.conditions.get_or_insert_default();
        let now = Some(Time(self.subject.now));
        let condition = JobCondition {
            type_: type_.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: now.clone(),
            last_transition_time: now,
        };
        match conditions.iter_mut().find(|c| c.type_ == type_) {
            Some(found) if found.status == value && found.reason.as_deref() == Some(reason) => {}
            Some(found) => *found = condition,
            None => conditions.push(condition),
        }
    }
}

/// Reasons of events are fixed words; an announced verdict is read back as text.
fn known_reason(reason: &str) -> &'static str {
    const KNOWN: [&str; 5] = [
        "PodFailurePolicy",
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
    ];
    KNOWN.into_iter().find(|known| *known == reason).unwrap_or("JobFailed")
}

#[cfg(test)]
mod tests;
