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
    let (_, shape, mut seen) =
        ready_pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "m"}], "restartPolicy": "Never"}));
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
