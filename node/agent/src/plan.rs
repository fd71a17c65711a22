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
mod tests {
    use super::*;
    use crate::observed::{Phase, waiting};
    use crate::testing::{at, end, pod, ready_pod, run};
    use proptest::prelude::*;
    use serde_json::json;

    fn actions(shape: &Shape, pod: &Observed, second: i64) -> Vec<Action> {
        plan(shape, pod, at(second)).actions
    }

    #[test]
    fn network_then_files_then_all_main_containers() {
        let (_, shape, mut seen) = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
        assert_eq!(actions(&shape, &seen, 100), [Action::CreateSandbox]);
        seen.sandbox = Sandbox::Ready(vec![]);
        assert_eq!(actions(&shape, &seen, 100), [Action::Mount]);
        seen.volumes = Volumes::Mounting;
        assert_eq!(actions(&shape, &seen, 100), []);
        seen.volumes = Volumes::Failed { retry_at: at(110) };
        assert_eq!(
            plan(&shape, &seen, at(100)),
            Plan {
                actions: vec![],
                wake_at: Some(at(110))
            }
        );
        assert_eq!(actions(&shape, &seen, 110), [Action::Mount]);
        seen.volumes = Volumes::Ready;
        assert_eq!(actions(&shape, &seen, 100), [Action::Start(0), Action::Start(1)]);
        seen.containers.iter_mut().for_each(|seen| run(seen, 100));
        assert_eq!(plan(&shape, &seen, at(101)), Plan::default());
    }

    #[test]
    fn init_containers_one_by_one_and_sidecars_stay() {
        let (_, shape, mut seen) = ready_pod(json!({
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}],
            "containers": [{"name": "m"}], "restartPolicy": "OnFailure",
        }));
        assert_eq!(actions(&shape, &seen, 100), [Action::Start(0)]);
        run(&mut seen.containers[0], 100);
        assert_eq!(actions(&shape, &seen, 100), []);
        end(&mut seen.containers[0], 0, 101);
        assert_eq!(actions(&shape, &seen, 101), [Action::Start(1)]);
        run(&mut seen.containers[1], 101);
        seen.containers[1].started = false;
        assert_eq!(
            actions(&shape, &seen, 101),
            [],
            "the sidecar's startup probe has not held yet"
        );
        seen.containers[1].started = true;
        assert_eq!(actions(&shape, &seen, 101), [Action::Start(2)]);
        end(&mut seen.containers[2], 0, 102);
        assert_eq!(actions(&shape, &seen, 102), [Action::Start(3)]);
        run(&mut seen.containers[3], 102);
        end(&mut seen.containers[1], 1, 103);
        assert_eq!(
            actions(&shape, &seen, 103),
            [Action::Start(1)],
            "a sidecar restarts whatever the policy"
        );
        run(&mut seen.containers[1], 103);
        end(&mut seen.containers[3], 0, 104);
        assert_eq!(actions(&shape, &seen, 104), [Action::Stop(1)], "the work is over");
        end(&mut seen.containers[1], 143, 105);
        assert_eq!(actions(&shape, &seen, 105), [Action::RemoveSandbox]);
    }

    #[test]
    fn restart_policy_against_exit_code() {
        for (policy, code, again) in [
            ("Always", 0, true),
            ("Always", 1, true),
            ("OnFailure", 0, false),
            ("OnFailure", 1, true),
            ("Never", 0, false),
            ("Never", 1, false),
        ] {
            let (_, shape, mut seen) = ready_pod(json!({"containers": [{"name": "a"}], "restartPolicy": policy}));
            end(&mut seen.containers[0], code, 100);
            let expected = if again { Action::Start(0) } else { Action::RemoveSandbox };
            assert_eq!(actions(&shape, &seen, 100), [expected], "{policy} {code}");
            seen.containers[0].due = Some(at(110));
            if again {
                assert_eq!(
                    plan(&shape, &seen, at(100)),
                    Plan {
                        actions: vec![],
                        wake_at: Some(at(110))
                    }
                );
                assert_eq!(actions(&shape, &seen, 110), [Action::Start(0)]);
            }
        }
    }

    #[test]
    fn a_failed_init_container_under_never_ends_the_pod() {
        let (_, shape, mut seen) = ready_pod(
            json!({"initContainers": [{"name": "i"}], "containers": [{"name": "m"}], "restartPolicy": "Never"}),
        );
        end(&mut seen.containers[0], 1, 100);
        assert_eq!(actions(&shape, &seen, 100), [Action::RemoveSandbox]);
    }

    #[test]
    fn an_unhealthy_container_is_asked_then_killed_then_restarted() {
        let (_, shape, mut seen) = ready_pod(json!({"containers": [{"name": "a"}]}));
        run(&mut seen.containers[0], 100);
        seen.containers[0].unhealthy = Some("failed liveness probe".into());
        assert_eq!(actions(&shape, &seen, 110), [Action::Stop(0)]);
        seen.containers[0].stop = Some(at(140));
        assert_eq!(
            plan(&shape, &seen, at(110)),
            Plan {
                actions: vec![],
                wake_at: Some(at(140))
            }
        );
        assert_eq!(actions(&shape, &seen, 140), [Action::Kill(0)]);
        end(&mut seen.containers[0], 137, 141);
        assert_eq!(actions(&shape, &seen, 141), [Action::Start(0)]);
    }

    #[test]
    fn deletion_stops_mains_then_sidecars_and_finishes() {
        let (_, shape, mut seen) = ready_pod(json!({
            "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "t", "restartPolicy": "Always"}],
            "containers": [{"name": "m"}],
        }));
        seen.containers.iter_mut().for_each(|seen| run(seen, 100));
        seen.doom = Some(Doom {
            cause: Cause::Deleted,
            deadline: at(130),
        });
        assert_eq!(
            plan(&shape, &seen, at(101)),
            Plan {
                actions: vec![Action::Stop(2)],
                wake_at: Some(at(130))
            }
        );
        end(&mut seen.containers[2], 143, 102);
        assert_eq!(
            actions(&shape, &seen, 102),
            [Action::Stop(1)],
            "the last sidecar goes first"
        );
        end(&mut seen.containers[1], 143, 103);
        assert_eq!(actions(&shape, &seen, 103), [Action::Stop(0)]);
        end(&mut seen.containers[0], 143, 104);
        assert_eq!(actions(&shape, &seen, 104), [Action::RemoveSandbox]);
        seen.sandbox = Sandbox::Removed(vec![]);
        assert_eq!(actions(&shape, &seen, 104), [Action::Finish]);
    }

    #[test]
    fn an_ephemeral_container_runs_once_and_leaves_with_the_pod() {
        let mut object = pod(
            json!({"containers": [{"name": "m"}], "restartPolicy": "OnFailure", "initContainers": [{"name": "i"}],
            "ephemeralContainers": [{"name": "e", "targetContainerName": "m"}]}),
        )
        .0;
        crate::spec::adopt(&mut object);
        let shape = Shape::of(&object);
        let mut seen = crate::recover::recover(&object, &shape, at(100));
        (seen.sandbox, seen.volumes) = (Sandbox::Ready(vec![]), Volumes::Ready);
        assert_eq!(
            crate::spec::field_path(&object, 2).unwrap(),
            "spec.ephemeralContainers{e}"
        );
        assert_eq!(actions(&shape, &seen, 100), [Action::Start(0), Action::Start(2)]);
        run(&mut seen.containers[0], 100);
        run(&mut seen.containers[2], 100);
        assert_eq!(phase(&shape, &seen), Phase::Pending);
        end(&mut seen.containers[0], 0, 101);
        run(&mut seen.containers[1], 101);
        assert_eq!(phase(&shape, &seen), Phase::Running);
        end(&mut seen.containers[1], 0, 102);
        assert_eq!(phase(&shape, &seen), Phase::Succeeded);
        assert_eq!(actions(&shape, &seen, 102), [Action::Stop(2)]);
        end(&mut seen.containers[2], 143, 103);
        assert_eq!(actions(&shape, &seen, 103), [Action::RemoveSandbox]);
        assert_eq!(phase(&shape, &seen), Phase::Succeeded);
    }

    #[test]
    fn when_the_grace_is_over_all_are_killed_and_nothing_starts() {
        let (_, shape, mut seen) = ready_pod(json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}));
        run(&mut seen.containers[0], 100);
        run(&mut seen.containers[1], 100);
        seen.containers[0].stop = Some(at(130));
        seen.doom = Some(Doom {
            cause: Cause::Gone,
            deadline: at(105),
        });
        assert_eq!(actions(&shape, &seen, 105), [Action::Kill(0), Action::Kill(1)]);
    }

    #[test]
    fn the_active_deadline_fails_the_pod() {
        let (_, shape, mut seen) = ready_pod(
            json!({"containers": [{"name": "a"}], "activeDeadlineSeconds": 5, "terminationGracePeriodSeconds": 2}),
        );
        run(&mut seen.containers[0], 100);
        assert_eq!(
            plan(&shape, &seen, at(104)),
            Plan {
                actions: vec![],
                wake_at: Some(at(105))
            }
        );
        let [Action::Fail(doom, failure)] = &actions(&shape, &seen, 105)[..] else {
            panic!("not failed")
        };
        assert_eq!((doom.deadline, failure.reason.as_str()), (at(107), "DeadlineExceeded"));
        (seen.doom, seen.failure) = (Some(doom.clone()), Some(failure.clone()));
        end(&mut seen.containers[0], 143, 106);
        seen.sandbox = Sandbox::Removed(vec![]);
        assert_eq!(
            plan(&shape, &seen, at(106)),
            Plan::default(),
            "it stays until it is deleted"
        );
    }

    #[test]
    fn a_pod_that_was_over_stays_over() {
        let (_, shape, mut seen) = pod(json!({"containers": [{"name": "a"}]}));
        seen.phase = Phase::Succeeded;
        assert_eq!(plan(&shape, &seen, at(100)), Plan::default());
    }

    #[test]
    fn deletion_shortens_and_never_lengthens() {
        let mut object = pod(json!({"containers": []})).0;
        assert_eq!(doom(None, &object, false, at(1)), None);
        object.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(31)));
        object.metadata.deletion_grace_period_seconds = Some(30);
        let first = doom(None, &object, false, at(1)).unwrap();
        assert_eq!(
            first,
            Doom {
                cause: Cause::Deleted,
                deadline: at(31)
            }
        );
        object.metadata.deletion_grace_period_seconds = Some(60);
        assert_eq!(doom(Some(&first), &object, false, at(5)), Some(first.clone()));
        object.metadata.deletion_grace_period_seconds = Some(1);
        assert_eq!(doom(Some(&first), &object, false, at(5)).unwrap().deadline, at(6));
        assert_eq!(
            doom(Some(&first), &object, true, at(5)).unwrap(),
            Doom {
                cause: Cause::Gone,
                deadline: at(5)
            }
        );
    }

    proptest! {
        /// Whatever happens to containers: nothing starts twice or while it runs, restart counts only grow, the phase never
        /// goes back, and a pod that is being ended starts nothing.
        #[test]
        fn laws_of_a_pods_life(
            policy in prop::sample::select(vec!["Always", "OnFailure", "Never"]),
            inits in 0usize..3, mains in 1usize..4,
            steps in prop::collection::vec((0usize..8, 0u8..6, 0i64..700), 1..80),
        ) {
            let named = |prefix: &str, count: usize| (0..count).map(|n| json!({"name": format!("{prefix}{n}")})).collect::<Vec<_>>();
            let (_, shape, mut seen) = ready_pod(json!({
                "restartPolicy": policy, "initContainers": named("i", inits), "containers": named("m", mains),
            }));
            let (mut now, mut limits) = (100, crate::backoff::Limits::default());
            limits.max = Duration::from_secs(60);
            for (index, what, wait) in steps {
                now += wait;
                for action in plan(&shape, &seen, at(now)).actions {
                    match action {
                        Action::Start(index) => {
                            prop_assert!(seen.doom.is_none());
                            let container = &mut seen.containers[index];
                            prop_assert!(!container.is_running() && container.state != State::Starting);
                            prop_assert!(container.due.is_none_or(|due| due <= at(now)));
                            if let Some(ended) = container.terminated().cloned() {
                                container.last = Some(ended);
                                container.restarts += 1;
                            }
                            container.state = State::Starting;
                        }
                        Action::Stop(index) => seen.containers[index].stop = Some(at(now + 30)),
                        Action::Kill(index) => end(&mut seen.containers[index], 137, now),
                        Action::RemoveSandbox => seen.sandbox = Sandbox::Removed(vec![]),
                        _ => {}
                    }
                }
                let before = phase(&shape, &seen);
                seen.phase = before;
                if let Some(container) = seen.containers.get_mut(index) {
                    match (what, &container.state) {
                        (0, State::Starting) => run(container, now),
                        (1, State::Starting) => {
                            container.due = Some(container.attempts.after_failure(&limits, at(now)));
                            container.state = State::Waiting { reason: waiting::IMAGE_PULL, message: None };
                        }
                        (2 | 3, State::Running { since, .. }) => {
                            let since = *since;
                            end(container, i32::from(what == 2), now);
                            container.due = Some(container.backoff.after_exit(&limits, since, at(now)));
                        }
                        (5, _) if now % 7 == 0 => seen.doom = Some(Doom { cause: Cause::Deleted, deadline: at(now + 5) }),
                        _ => {}
                    }
                }
                prop_assert!(phase(&shape, &seen) >= before);
            }
        }
    }
}
