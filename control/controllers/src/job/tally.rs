//! How a Job's pods stand, counted so that no pod is forgotten and none counts twice.
//!
//! A pod that ended is first named in the status as uncounted, then loses its finalizer, and is added to the counters
//! when it is seen without it. Whichever step a crash falls between, the next turn goes on from what is written.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::UncountedTerminatedPods, core::v1::Pod};

use super::{
    backoff,
    indexes::Indexes,
    policy::{self, Ruling},
    subject::{FAILURES, IGNORED, Subject, is_tracked, number},
};
use crate::pods;

/// Pods that a status names as uncounted at a time, so that it stays small; the others wait their turn.
const UNCOUNTED_LIMIT: usize = 500;

/// The pods of a Job, sorted and counted.
#[derive(Default)]
pub struct Tally {
    /// Those that run or will run.
    pub active: Vec<Arc<Pod>>,
    /// How many of the active are ready.
    pub ready: usize,
    /// Those that are being deleted and have not ended.
    pub terminating: Vec<Arc<Pod>>,
    /// All that succeeded, counted or not yet.
    pub succeeded: i32,
    /// All that failed, counted or not yet.
    pub failed: i32,
    /// The indexes that are done.
    pub done: Indexes,
    /// The indexes that failed for good.
    pub lost: Indexes,
    /// Why the pod failure policy ends the Job, if it does.
    pub fatal: Option<String>,
    /// When the pods that failed did so.
    pub failures: Vec<Timestamp>,
    /// When the last success was.
    pub last_success: Option<Timestamp>,
    /// The last failed pod of each index that is to be tried again.
    pub failed_by_index: HashMap<i32, Arc<Pod>>,
    counted: (i32, i32),
    pending: (Vec<String>, Vec<String>),
    fresh_successes: Vec<Arc<Pod>>,
    fresh_failures: Vec<Arc<Pod>>,
    /// Named in the status, or not to be counted at all: only the finalizer is left to be taken.
    settled: Vec<Arc<Pod>>,
}

/// What is to be written of a tally.
pub struct Ledger {
    /// Successes for the status.
    pub succeeded: i32,
    /// Failures for the status.
    pub failed: i32,
    /// Pods that the status names until their finalizer is gone.
    pub uncounted: UncountedTerminatedPods,
    /// Pods that lose their finalizer once that is written.
    pub release: Vec<Arc<Pod>>,
}

impl Tally {
    /// Sorts and counts `all`, the Job's pods.
    #[must_use]
    pub fn of(subject: &Subject<'_>, all: &[Arc<Pod>]) -> Self {
        let status = &subject.status;
        let completions = subject.indexes().unwrap_or(0);
        let indexes = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        let mut tally = Self {
            done: indexes(&status.completed_indexes),
            lost: indexes(&status.failed_indexes),
            counted: (status.succeeded.unwrap_or(0), status.failed.unwrap_or(0)),
            ..Self::default()
        };
        tally.flush(subject, all);
        for pod in all {
            tally.sort(subject, pod);
        }
        let fresh = |pods: &[Arc<Pod>]| i32::try_from(pods.len()).unwrap_or(i32::MAX);
        let pending = |uids: &[String]| i32::try_from(uids.len()).unwrap_or(i32::MAX);
        tally.failed = tally.counted.1 + pending(&tally.pending.1) + fresh(&tally.fresh_failures);
        tally.succeeded = if subject.indexes().is_some() {
            tally.done.count()
        } else {
            tally.counted.0 + pending(&tally.pending.0) + fresh(&tally.fresh_successes)
        };
        tally
    }

    /// Counts the uncounted pods that have lost their finalizer.
    fn flush(&mut self, subject: &Subject<'_>, all: &[Arc<Pod>]) {
        let Some(uncounted) = &subject.status.uncounted_terminated_pods else {
            return;
        };
        let tracked = all.iter().filter(|pod| is_tracked(pod));
        let tracked: HashSet<&str> = tracked.filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        let split = |uids: &Option<Vec<String>>| -> (Vec<String>, i32) {
            let uids = uids.iter().flatten().cloned();
            let (held, gone): (Vec<_>, Vec<_>) = uids.partition(|uid| tracked.contains(uid.as_str()));
            (held, i32::try_from(gone.len()).unwrap_or(i32::MAX))
        };
        let (succeeded, failed) = (split(&uncounted.succeeded), split(&uncounted.failed));
        self.counted.0 += succeeded.1;
        self.counted.1 += failed.1;
        self.pending = (succeeded.0, failed.0);
    }

    fn sort(&mut self, subject: &Subject<'_>, pod: &Arc<Pod>) {
        if pods::is_active(pod) {
            self.ready += usize::from(pods::is_ready(pod));
            self.active.push(pod.clone());
        } else if !pods::is_finished(pod) {
            self.terminating.push(pod.clone());
        }
        let succeeded = pods::phase(pod) == "Succeeded";
        let failed = subject.has_failed(pod);
        if succeeded {
            self.last_success = self.last_success.max(Some(backoff::ended_at(pod, subject.now)));
        } else if failed {
            self.failures.push(backoff::ended_at(pod, subject.now));
        }
        if !is_tracked(pod) || !(succeeded || failed) {
            return;
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if self.pending.0.iter().chain(&self.pending.1).any(|named| named == uid) {
            self.settled.push(pod.clone());
        } else if succeeded {
            self.success(subject, pod);
        } else {
            self.failure(subject, pod);
        }
    }

    fn success(&mut self, subject: &Subject<'_>, pod: &Arc<Pod>) {
        if subject.indexes().is_none() {
            return self.fresh_successes.push(pod.clone());
        }
        // The set of indexes cannot count a pod twice: the finalizer may go at once.
        self.done.0.extend(subject.index(pod));
        self.settled.push(pod.clone());
    }

    fn failure(&mut self, subject: &Subject<'_>, pod: &Arc<Pod>) {
        let index = subject.index(pod);
        if subject.indexes().is_some() && index.is_none() {
            return self.settled.push(pod.clone());
        }
        let ruling = policy::ruling(subject.spec.pod_failure_policy.as_ref(), pod);
        let counts = ruling != Ruling::Ignore;
        if let (Some(index), Some(limit)) = (index, subject.spec.backoff_limit_per_index) {
            let exhausted = counts && number(pod, FAILURES) >= limit;
            if exhausted || ruling == Ruling::FailIndex {
                self.lost.0.insert(index);
            }
            let tries = |pod: &Pod| number(pod, FAILURES).saturating_add(number(pod, IGNORED));
            let last = self.failed_by_index.entry(index).or_insert_with(|| pod.clone());
            if tries(pod) > tries(last) {
                *last = pod.clone();
            }
        }
        if let Ruling::FailJob(message) = ruling {
            self.fatal.get_or_insert(message);
        }
        if counts {
            self.fresh_failures.push(pod.clone());
        } else {
            self.settled.push(pod.clone());
        }
    }

    /// The active pod indexes, and those of pods that are ending where these are waited for.
    #[must_use]
    pub fn busy(&self, subject: &Subject<'_>) -> HashSet<i32> {
        let ending = self.terminating.iter().filter(|_| subject.replaces_only_failed());
        self.active
            .iter()
            .chain(ending)
            .filter_map(|pod| subject.index(pod))
            .collect()
    }

    /// What to write. `ending` says that the Job is about to fail, so that all pods that have not ended count as failed;
    /// `over` that no pod will be replaced any more.
    #[must_use]
    pub fn ledger(&self, subject: &Subject<'_>, ending: bool, over: bool) -> Ledger {
        let (mut succeeded, mut failed) = self.pending.clone();
        let mut release = self.settled.clone();
        let mut fresh = self.fresh_failures.clone();
        if ending {
            let known: HashSet<Option<&str>> = fresh.iter().map(|pod| pod.metadata.uid.as_deref()).collect();
            let left = self
                .active
                .iter()
                .chain(&self.terminating)
                .filter(|pod| is_tracked(pod));
            let left: Vec<Arc<Pod>> = left
                .filter(|pod| !known.contains(&pod.metadata.uid.as_deref()))
                .filter(|pod| !failed.iter().any(|uid| Some(uid) == pod.metadata.uid.as_ref()))
                .cloned()
                .collect();
            fresh.extend(left);
        }
        let kept = if over { HashSet::new() } else { self.kept(subject) };
        let is_kept = |pod: &Pod| kept.contains(pod.metadata.uid.as_deref().unwrap_or_default());
        release.retain(|pod| !is_kept(pod));
        let mut room = UNCOUNTED_LIMIT.saturating_sub(succeeded.len() + failed.len());
        let mut name = |uids: &mut Vec<String>, pods: &[Arc<Pod>]| {
            for pod in pods.iter().filter(|pod| !is_kept(pod)) {
                let Some(uid) = pod.metadata.uid.clone().filter(|_| room > 0) else {
                    continue;
                };
                room -= 1;
                uids.push(uid);
                release.push(pod.clone());
            }
        };
        name(&mut succeeded, &self.fresh_successes);
        name(&mut failed, &fresh);
        let some = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
        Ledger {
            succeeded: if subject.indexes().is_some() {
                self.done.count()
            } else {
                self.counted.0
            },
            failed: self.counted.1,
            uncounted: UncountedTerminatedPods {
                succeeded: some(succeeded),
                failed: some(failed),
            },
            release,
        }
    }

    /// The uids of failed pods that stay until they are replaced: only they know how often their index has failed.
    fn kept(&self, subject: &Subject<'_>) -> HashSet<String> {
        let busy = self.busy(subject);
        let waiting = self
            .failed_by_index
            .iter()
            .filter(|(index, _)| !busy.contains(index) && !self.done.has(**index) && !self.lost.has(**index));
        waiting.filter_map(|(_, pod)| pod.metadata.uid.clone()).collect()
    }
}
