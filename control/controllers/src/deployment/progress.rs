//! What a Deployment's status says of its rollout, and when it has taken too long.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::sizes::Bounds;
use crate::{clock::after_seconds, replicaset::replicas};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// What the present turn does to the new ReplicaSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing to tell.
    None,
    /// It is created, under this name.
    Created(String),
    /// It could not be created; the server's words.
    NotCreated(String),
}

/// All that a status is made of.
pub struct Facts<'a> {
    /// The Deployment.
    pub d: &'a Deployment,
    /// What it allows.
    pub bounds: Bounds,
    /// The ReplicaSet with its template, if there is one.
    pub new: Option<&'a ReplicaSet>,
    /// All its ReplicaSets.
    pub all: &'a [Arc<ReplicaSet>],
    /// What this turn does.
    pub news: News,
    /// The time.
    pub now: Timestamp,
}

/// The deadline for progress in seconds; `None` if there is none.
#[must_use]
pub fn deadline_seconds(d: &Deployment) -> Option<i32> {
    let seconds = d.spec.as_ref().and_then(|s| s.progress_deadline_seconds).unwrap_or(600);
    (seconds != i32::MAX).then_some(seconds)
}

/// Whether the rollout is over: all pods are new, and there and available.
#[must_use]
pub fn is_complete(d: &Deployment, bounds: &Bounds, status: &DeploymentStatus) -> bool {
    status.updated_replicas.unwrap_or(0) == bounds.replicas
        && status.replicas.unwrap_or(0) == bounds.replicas
        && status.available_replicas.unwrap_or(0) == bounds.replicas
        && status.observed_generation >= d.metadata.generation
}

/// When to look whether the rollout has taken too long.
#[must_use]
pub fn check_at(d: &Deployment, bounds: &Bounds, status: &DeploymentStatus) -> Option<Timestamp> {
    let condition = find(status.conditions.as_deref().unwrap_or_default(), PROGRESSING)?;
    let reason = condition.reason.as_deref();
    if is_complete(d, bounds, status) || reason == Some(TIMED_OUT) || reason == Some(COMPLETE) {
        return None;
    }
    let since = condition.last_update_time.as_ref()?.0;
    // A second more, for times in statuses are cut to whole seconds.
    Some(after_seconds(since, i64::from(deadline_seconds(d)?) + 1))
}

impl Facts<'_> {
    /// The status that the Deployment should have.
    #[must_use]
    pub fn status(&self) -> DeploymentStatus {
        let sum = |get: fn(&ReplicaSetStatus) -> i32| {
            self.all
                .iter()
                .filter_map(|rs| rs.status.as_ref())
                .fold(0_i32, |sum, s| sum.saturating_add(get(s)))
        };
        let some = |count: i32| (count > 0).then_some(count);
        let wanted = self.all.iter().fold(0_i32, |sum, rs| sum.saturating_add(replicas(rs)));
        let available = sum(|s| s.available_replicas.unwrap_or(0));
        let old = self.d.status.clone().unwrap_or_default();
        let mut status = DeploymentStatus {
            replicas: some(sum(|s| s.replicas)),
            updated_replicas: some(self.new.and_then(|rs| rs.status.as_ref()).map_or(0, |s| s.replicas)),
            ready_replicas: some(sum(|s| s.ready_replicas.unwrap_or(0))),
            available_replicas: some(available),
            unavailable_replicas: some(wanted.saturating_sub(available)),
            terminating_replicas: Some(sum(|s| s.terminating_replicas.unwrap_or(0))),
            observed_generation: self.d.metadata.generation,
            collision_count: old.collision_count,
            conditions: None,
        };
        let mut conditions = old.conditions.unwrap_or_default();
        self.availability(available, &mut conditions);
        self.failures(&mut conditions);
        self.progress(&status, &mut conditions);
        status.conditions = (!conditions.is_empty()).then_some(conditions);
        status
    }

    fn availability(&self, available: i32, conditions: &mut Vec<DeploymentCondition>) {
        if available >= self.bounds.minimum() {
            let message = "Deployment has minimum availability.";
            self.set(conditions, AVAILABLE, "True", "MinimumReplicasAvailable", message);
        } else {
            let message = "Deployment does not have minimum availability.";
            self.set(conditions, AVAILABLE, "False", "MinimumReplicasUnavailable", message);
        }
    }

    fn failures(&self, conditions: &mut Vec<DeploymentCondition>) {
        let failure = |rs: &ReplicaSet| {
            let all = rs.status.as_ref()?.conditions.as_ref()?;
            let failed = all.iter().find(|c| c.type_ == REPLICA_FAILURE && c.status == "True")?;
            Some((
                failed.reason.clone().unwrap_or_default(),
                failed.message.clone().unwrap_or_default(),
            ))
        };
        let found = self
            .new
            .and_then(failure)
            .or_else(|| self.all.iter().find_map(|rs| failure(rs)));
        match found {
            Some((reason, message)) => self.set(conditions, REPLICA_FAILURE, "True", &reason, &message),
            None => conditions.retain(|c| c.type_ != REPLICA_FAILURE),
        }
    }

    fn progress(&self, status: &DeploymentStatus, conditions: &mut Vec<DeploymentCondition>) {
        let Some(deadline) = deadline_seconds(self.d) else {
            conditions.retain(|c| c.type_ != PROGRESSING);
            return;
        };
        let current = find(conditions, PROGRESSING).cloned();
        let reason = current.as_ref().and_then(|c| c.reason.as_deref());
        if self.d.spec.as_ref().and_then(|s| s.paused) == Some(true) {
            if reason != Some(TIMED_OUT) {
                self.set(conditions, PROGRESSING, "Unknown", PAUSED, "Deployment is paused");
            }
            return;
        }
        if reason == Some(PAUSED) {
            self.set(
                conditions,
                PROGRESSING,
                "Unknown",
                "DeploymentResumed",
                "Deployment is resumed",
            );
        }
        match &self.news {
            News::Created(name) => {
                let message = format!("Created new replica set {name:?}");
                return self.set(conditions, PROGRESSING, "True", "NewReplicaSetCreated", &message);
            }
            News::NotCreated(message) => {
                return self.set(conditions, PROGRESSING, "False", "ReplicaSetCreateError", message);
            }
            News::None => {}
        }
        let subject = match self.new.and_then(|rs| rs.metadata.name.as_deref()) {
            Some(name) => format!("ReplicaSet {name:?}"),
            None => format!("Deployment {:?}", self.d.metadata.name.as_deref().unwrap_or_default()),
        };
        if current.is_none() && self.new.is_some() {
            let name = self.new.and_then(|rs| rs.metadata.name.as_deref()).unwrap_or_default();
            let message = format!("Found new replica set {name:?}");
            self.set(conditions, PROGRESSING, "True", "FoundNewReplicaSet", &message);
        }
        if reason == Some(COMPLETE) && status.replicas == status.updated_replicas {
            // Once complete it stays so, also when pods fail later: that is for availability to tell.
        } else if is_complete(self.d, &self.bounds, status) {
            let message = format!("{subject} has successfully progressed.");
            self.set(conditions, PROGRESSING, "True", COMPLETE, &message);
        } else if self.moved(status) {
            let message = format!("{subject} is progressing.");
            self.refresh(conditions, "ReplicaSetUpdated", &message);
        } else if self.is_late(find(conditions, PROGRESSING), deadline) {
            let message = format!("{subject} has timed out progressing.");
            self.set(conditions, PROGRESSING, "False", TIMED_OUT, &message);
        }
    }

    /// Whether the status is nearer to the end than the last one.
    fn moved(&self, status: &DeploymentStatus) -> bool {
        let before = self.d.status.clone().unwrap_or_default();
        let of = |s: &DeploymentStatus| {
            let n = |field: Option<i32>| field.unwrap_or(0);
            (
                n(s.updated_replicas),
                n(s.replicas) - n(s.updated_replicas),
                n(s.ready_replicas),
                n(s.available_replicas),
            )
        };
        let (was, is) = (of(&before), of(status));
        is.0 > was.0 || is.1 < was.1 || is.2 > was.2 || is.3 > was.3
    }

    fn is_late(&self, condition: Option<&DeploymentCondition>, deadline: i32) -> bool {
        let Some(condition) = condition else { return false };
        match condition.reason.as_deref() {
            Some(COMPLETE) => false,
            Some(TIMED_OUT) => true,
            _ => {
                let since = condition.last_update_time.as_ref().map_or(self.now, |t| t.0);
                after_seconds(since, deadline.into()) < self.now
            }
        }
    }

    fn set(&self, all: &mut Vec<DeploymentCondition>, type_: &str, status: &str, reason: &str, message: &str) {
        let same = |c: &DeploymentCondition| c.status == status && c.reason.as_deref() == Some(reason);
        if find(all, type_).is_some_and(same) {
            return;
        }
        self.replace(all, type_, status, reason, message);
    }

    /// Like [`Self::set`], but the time of the last sign of progress is now also when nothing else differs.
    fn refresh(&self, all: &mut Vec<DeploymentCondition>, reason: &str, message: &str) {
        self.replace(all, PROGRESSING, "True", reason, message);
    }

    fn replace(&self, all: &mut Vec<DeploymentCondition>, type_: &str, status: &str, reason: &str, message: &str) {
        let since = find(all, type_)
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        let condition = DeploymentCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(Time(self.now)),
            last_transition_time: Some(since.unwrap_or(Time(self.now))),
        };
        match all.iter_mut().find(|c| c.type_ == type_) {
            Some(found) => *found = condition,
            None => all.push(condition),
        }
    }
}

fn find<'a>(conditions: &'a [DeploymentCondition], type_: &str) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|c| c.type_ == type_)
}
