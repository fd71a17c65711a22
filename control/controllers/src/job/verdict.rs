//! Whether a Job is decided: the first reason that holds, in the order of Kubernetes.

use k8s_openapi::api::{batch::v1::JobCondition, core::v1::Pod};

use super::{indexes::Indexes, subject::Subject, tally::Tally};
use crate::pods;

/// Announces failure while pods still end.
pub const FAILURE_TARGET: &str = "FailureTarget";
/// Announces success while pods still end.
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";

/// How a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it failed.
    pub failed: bool,
    /// Why, in one word.
    pub reason: String,
    /// Why, in one sentence.
    pub message: String,
}

impl Verdict {
    fn failure(reason: &str, message: impl Into<String>) -> Option<Self> {
        Some(Self {
            failed: true,
            reason: reason.to_owned(),
            message: message.into(),
        })
    }

    fn success(reason: &str, message: impl Into<String>) -> Option<Self> {
        Some(Self {
            failed: false,
            reason: reason.to_owned(),
            message: message.into(),
        })
    }

    /// The condition that announces it.
    #[must_use]
    pub fn interim(&self) -> &'static str {
        if self.failed {
            FAILURE_TARGET
        } else {
            SUCCESS_CRITERIA_MET
        }
    }

    /// The condition that ends the Job.
    #[must_use]
    pub fn terminal(&self) -> &'static str {
        if self.failed { "Failed" } else { "Complete" }
    }
}

/// The verdict, if there is one.
#[must_use]
pub fn of(subject: &Subject<'_>, tally: &Tally) -> Option<Verdict> {
    announced(subject)
        .or_else(|| {
            tally
                .fatal
                .clone()
                .and_then(|why| Verdict::failure("PodFailurePolicy", why))
        })
        .or_else(|| out_of_tries(subject, tally))
        .or_else(|| out_of_time(subject))
        .or_else(|| out_of_indexes(subject, tally))
        .or_else(|| by_success_policy(subject, tally))
        .or_else(|| by_completions(subject, tally))
}

/// What was announced stays.
fn announced(subject: &Subject<'_>) -> Option<Verdict> {
    let conditions = subject.status.conditions.as_deref().unwrap_or_default();
    let find = |type_: &str| conditions.iter().find(|c| c.type_ == type_ && c.status == "True");
    let text = |c: &JobCondition| {
        (
            c.reason.clone().unwrap_or_default(),
            c.message.clone().unwrap_or_default(),
        )
    };
    if let Some((reason, message)) = find(SUCCESS_CRITERIA_MET).map(text) {
        return Verdict::success(&reason, message);
    }
    let (reason, message) = find(FAILURE_TARGET).map(text)?;
    Verdict::failure(&reason, message)
}

fn out_of_tries(subject: &Subject<'_>, tally: &Tally) -> Option<Verdict> {
    // With a limit per index the limit over all is out of reach unless it is given.
    let default = if subject.spec.backoff_limit_per_index.is_some() {
        i32::MAX
    } else {
        6
    };
    let limit = subject.spec.backoff_limit.unwrap_or(default);
    let template = subject.spec.template.spec.as_ref();
    let restarts_in_place = template.and_then(|s| s.restart_policy.as_deref()) == Some("OnFailure");
    let restarts = || {
        let running = tally
            .active
            .iter()
            .chain(&tally.terminating)
            .filter(|pod| matches!(pods::phase(pod), "Running" | "Pending"));
        running.fold(0_i32, |sum, pod| sum.saturating_add(restarts(pod)))
    };
    let exceeded = tally.failed > limit || (restarts_in_place && restarts() >= limit.max(1));
    if !exceeded {
        return None;
    }
    Verdict::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit")
}

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.iter();
    let all = status.flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten());
    all.fold(0, |sum, container| sum.saturating_add(container.restart_count))
}

fn out_of_time(subject: &Subject<'_>) -> Option<Verdict> {
    subject.deadline().filter(|deadline| *deadline <= subject.now)?;
    Verdict::failure("DeadlineExceeded", "Job was active longer than specified deadline")
}

fn out_of_indexes(subject: &Subject<'_>, tally: &Tally) -> Option<Verdict> {
    let all = subject.indexes()?;
    subject.spec.backoff_limit_per_index?;
    if subject
        .spec
        .max_failed_indexes
        .is_some_and(|limit| tally.lost.count() > limit)
    {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Verdict::failure("MaxFailedIndexesExceeded", message);
    }
    let over = tally.lost.count() > 0 && tally.lost.count().saturating_add(tally.done.count()) >= all;
    if !over {
        return None;
    }
    Verdict::failure("FailedIndexes", "Job has failed indexes")
}

fn by_success_policy(subject: &Subject<'_>, tally: &Tally) -> Option<Verdict> {
    let all = subject.indexes()?;
    for (at, rule) in subject.spec.success_policy.as_ref()?.rules.iter().enumerate() {
        let wanted = rule.succeeded_indexes.as_deref().map(|text| Indexes::parse(text, all));
        let done = match &wanted {
            Some(wanted) => wanted.0.iter().filter(|index| tally.done.has(**index)).count(),
            None => tally.done.0.len(),
        };
        let needed = match (rule.succeeded_count, &wanted) {
            (Some(count), _) => usize::try_from(count).unwrap_or(0),
            (None, Some(wanted)) => wanted.0.len(),
            (None, None) => continue,
        };
        if done >= needed {
            return Verdict::success("SuccessPolicy", format!("Matched rules at index {at}"));
        }
    }
    None
}

fn by_completions(subject: &Subject<'_>, tally: &Tally) -> Option<Verdict> {
    let complete = match subject.spec.completions {
        // Any success means that the work is done; the others find that out by themselves.
        None => tally.succeeded > 0 && tally.active.is_empty(),
        Some(completions) => tally.succeeded >= completions,
    };
    if !complete {
        return None;
    }
    Verdict::success("CompletionsReached", "Reached expected number of succeeded pods")
}
