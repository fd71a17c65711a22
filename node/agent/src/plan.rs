//! What to do next for a pod: (shape, observed, now) to actions, and when to look again if nothing happens.
//!
//! Pure and level-triggered: the same input gives the same plan, and an action that is under way shows in `Observed`, so it is
//! not planned twice. It never waits for anything: what has to wait is a time in [`Plan::wake_at`] or an event that the driver gets.

use crate::clock::after;
use crate::observed::{Cause, Doom, Failure, Observed, Sandbox, Seen, State, Volumes};
use crate::spec::{Role, Shape};
use crate::status::phase;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::time::Duration;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Give the pod its network.
    CreateSandbox,
    /// Make the pod's volumes, once the objects that it refers to are known.
    Mount,
    /// Create and start a container.
    Start(usize),
    /// Ask a container to end, after its preStop hook.
    Stop(usize),
    /// End a container at once.
    Kill(usize),
    /// The node fails the pod.
    Fail(Doom, Failure),
    /// Take the network away; no container needs it any more.
    RemoveSandbox,
    /// Nothing is left to do but to tell the API.
    Finish,
}

/// What to do and when to look again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// When the plan may change by itself.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Starts a container if its time has come.
    fn start(&mut self, index: usize, seen: &Seen, now: Timestamp) {
        match seen.due {
            Some(due) if due > now => self.wake(due),
            _ => self.actions.push(Action::Start(index)),
        }
    }
}

/// Decides.
pub fn plan(shape: &Shape, pod: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if let Some(doom) = &pod.doom {
        plan_end(&mut plan, shape, pod, doom, now);
        return plan;
    }
    if phase(shape, pod).is_terminal() || pod.phase.is_terminal() {
        plan_rest(&mut plan, pod, now);
        return plan;
    }
    if let Some((doom, failure)) = deadline_exceeded(&mut plan, shape, pod, now) {
        plan.actions.push(Action::Fail(doom, failure));
        return plan;
    }
    match &pod.sandbox {
        Sandbox::Absent => plan.actions.push(Action::CreateSandbox),
        Sandbox::Failed { retry_at } if *retry_at <= now => plan.actions.push(Action::CreateSandbox),
        Sandbox::Failed { retry_at } => plan.wake(*retry_at),
        Sandbox::Ready(_) => match pod.volumes {
            Volumes::Ready => plan_life(&mut plan, shape, pod, now),
            Volumes::Mounting => {}
            Volumes::Failed { retry_at } if retry_at > now => plan.wake(retry_at),
            Volumes::Unmounted | Volumes::Failed { .. } => plan.actions.push(Action::Mount),
        },
        Sandbox::Removed(_) => {}
    }
    plan
}

/// Whoever still looks around in a pod whose work is over has to leave.
fn plan_rest(plan: &mut Plan, pod: &Observed, now: Timestamp) {
    let mut empty = true;
    for (index, seen) in pod.containers.iter().enumerate().filter(|(_, seen)| seen.is_running()) {
        empty = false;
        stop(plan, index, seen, now);
    }
    if empty {
        release(plan, pod);
    }
}

/// Every init container in turn, then all the others at once.
fn plan_life(plan: &mut Plan, shape: &Shape, pod: &Observed, now: Timestamp) {
    let work_is_over = work_is_over(shape, pod);
    let mut initialized = true;
    for (index, (role, seen)) in shape.roles.iter().zip(&pod.containers).enumerate() {
        keep_healthy(plan, index, seen, now);
        match role {
            Role::Ephemeral => keep_running(plan, shape, index, *role, seen, now),
            _ if !initialized => {}
            Role::Sidecar if work_is_over => stop(plan, index, seen, now),
            Role::Main | Role::Init | Role::Sidecar => {
                keep_running(plan, shape, index, *role, seen, now);
                initialized = !holds_up(*role, seen);
            }
        }
    }
}

/// Whether the containers behind this one have to wait for it.
fn holds_up(role: Role, seen: &Seen) -> bool {
    match role {
        Role::Main | Role::Ephemeral => false,
        Role::Init => seen.terminated().is_none_or(|ended| ended.exit_code != 0),
        Role::Sidecar => !(seen.is_running() && seen.started),
    }
}

/// Whether no main container runs or will run again; sidecars are only wanted until then.
fn work_is_over(shape: &Shape, pod: &Observed) -> bool {
    let mut mains = shape
        .roles
        .iter()
        .zip(&pod.containers)
        .filter(|(role, _)| **role == Role::Main);
    mains.all(|(role, seen)| {
        seen.terminated()
            .is_some_and(|ended| !shape.restarts(*role, ended.exit_code))
    })
}

fn keep_running(plan: &mut Plan, shape: &Shape, index: usize, role: Role, seen: &Seen, now: Timestamp) {
    match &seen.state {
        State::Waiting { .. } => plan.start(index, seen, now),
        State::Terminated(ended) if shape.restarts(role, ended.exit_code) => plan.start(index, seen, now),
        State::Terminated(_) | State::Starting | State::Running { .. } => {}
    }
}

/// A container that failed its liveness or startup probe is stopped; `keep_running` starts it again.
fn keep_healthy(plan: &mut Plan, index: usize, seen: &Seen, now: Timestamp) {
    if seen.unhealthy.is_some() {
        stop(plan, index, seen, now);
    }
}

/// Asks once, kills when the time is over.
fn stop(plan: &mut Plan, index: usize, seen: &Seen, now: Timestamp) {
    if !seen.is_running() {
        return;
    }
    match seen.stop {
        None => plan.actions.push(Action::Stop(index)),
        Some(deadline) if deadline <= now => plan.actions.push(Action::Kill(index)),
        Some(deadline) => plan.wake(deadline),
    }
}

/// Main and init containers first; sidecars when those have ended, the last one first.
fn plan_end(plan: &mut Plan, shape: &Shape, pod: &Observed, doom: &Doom, now: Timestamp) {
    let indexed = || shape.roles.iter().zip(&pod.containers).enumerate();
    let overdue = doom.deadline <= now;
    let mut others_run = false;
    for (index, (_, seen)) in indexed().filter(|(_, (role, _))| **role != Role::Sidecar) {
        others_run |= seen.is_running();
        end(plan, index, seen, doom, overdue, now);
    }
    for (index, (_, seen)) in indexed().rev().filter(|(_, (role, _))| **role == Role::Sidecar) {
        if !others_run || overdue {
            end(plan, index, seen, doom, overdue, now);
        }
        others_run |= seen.is_running();
    }
    if others_run {
        if !overdue {
            plan.wake(doom.deadline);
        }
        return;
    }
    release(plan, pod);
    // A pod that the node itself ended stays to be read until somebody deletes it.
    if plan.actions.is_empty() && matches!(doom.cause, Cause::Deleted | Cause::Gone) {
        plan.actions.push(Action::Finish);
    }
}

fn end(plan: &mut Plan, index: usize, seen: &Seen, doom: &Doom, overdue: bool, now: Timestamp) {
    if overdue && seen.is_running() {
        // Killing twice does no harm; not asking a container that has no time left saves it a hook that cannot finish.
        plan.actions.push(Action::Kill(index));
        return;
    }
    let shortened = Seen {
        stop: seen.stop.map(|own| own.min(doom.deadline)),
        ..seen.clone()
    };
    stop(plan, index, &shortened, now);
}

fn release(plan: &mut Plan, pod: &Observed) {
    if matches!(pod.sandbox, Sandbox::Ready(_)) {
        plan.actions.push(Action::RemoveSandbox);
    }
}

fn deadline_exceeded(plan: &mut Plan, shape: &Shape, pod: &Observed, now: Timestamp) -> Option<(Doom, Failure)> {
    let seconds = u64::try_from(shape.active_deadline_seconds?).ok()?;
    let deadline = after(pod.start_time, Duration::from_secs(seconds));
    if deadline > now {
        plan.wake(deadline);
        return None;
    }
    let failure = Failure {
        reason: "DeadlineExceeded".to_owned(),
        message: "Pod was active on the node longer than the specified deadline".to_owned(),
    };
    let deadline = after(now, Duration::from_secs(shape.grace_seconds));
    Some((
        Doom {
            cause: Cause::Failed,
            deadline,
        },
        failure,
    ))
}

/// Why the pod has to end, told from its object: `current` unless that says more.
pub fn doom(current: Option<&Doom>, pod: &Pod, gone: bool, now: Timestamp) -> Option<Doom> {
    if gone {
        return Some(Doom {
            cause: Cause::Gone,
            deadline: now,
        });
    }
    if pod.metadata.deletion_timestamp.is_none() {
        return current.cloned();
    }
    let grace = pod
        .metadata
        .deletion_grace_period_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .unwrap_or(0);
    let deadline = after(now, Duration::from_secs(grace));
    // A second deletion may shorten the time but never lengthen it.
    let deadline = current.map_or(deadline, |current| current.deadline.min(deadline));
    Some(Doom {
        cause: Cause::Deleted,
        deadline,
    })
}

#[cfg(test)]
mod tests;
