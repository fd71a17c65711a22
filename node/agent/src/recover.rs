//! What a fresh process knows of a pod: what the API was told of it before.
//!
//! Pure. Guests live in the node's process, so a container that the API shows as running is lost; it counts as ended, with
//! 255 as a runtime reports it after a reboot, and starts again as its policy says. Restart counts go on from where they were.

use crate::observed::{Failure, Observed, Phase, Sandbox, Seen, State, Terminated, Volumes, waiting};
use crate::spec::{self, Role, Shape};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

/// Reads a pod's status.
pub fn recover(pod: &Pod, shape: &Shape, now: Timestamp) -> Observed {
    let status = pod.status.as_ref();
    let phase = status
        .and_then(|status| status.phase.as_deref())
        .map_or(Phase::Pending, Phase::parse);
    let containers = spec::containers(pod)
        .zip(&shape.roles)
        .map(|(container, role)| {
            let before = status.and_then(|status| find(status, &container.name));
            before.map_or_else(Seen::default, |before| seen(before, *role, shape, phase, now))
        })
        .collect();
    let start_time = status
        .and_then(|status| status.start_time.as_ref())
        .map_or(now, |time| time.0);
    let failure = status.filter(|_| phase == Phase::Failed).and_then(|status| {
        Some(Failure {
            reason: status.reason.clone()?,
            message: status.message.clone().unwrap_or_default(),
        })
    });
    let sandbox = if phase.is_terminal() {
        Sandbox::Removed(addresses(status))
    } else {
        Sandbox::Absent
    };
    Observed {
        sandbox,
        volumes: Volumes::Unmounted,
        start_time,
        doom: None,
        failure,
        resize: None,
        containers,
        phase,
    }
}

/// The addresses that the pod had.
pub fn addresses(status: Option<&PodStatus>) -> Vec<std::net::IpAddr> {
    let ips = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    ips.iter().filter_map(|ip| ip.ip.parse().ok()).collect()
}

fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let all = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .chain(&status.ephemeral_container_statuses)
        .flatten();
    all.into_iter().find(|container| container.name == name)
}

fn seen(before: &ContainerStatus, role: Role, shape: &Shape, phase: Phase, now: Timestamp) -> Seen {
    let state = before.state.as_ref();
    let ended = state.and_then(|state| state.terminated.as_ref()).map(terminated);
    let lost = state
        .and_then(|state| state.running.as_ref())
        .map(|running| Terminated {
            exit_code: 255,
            reason: "Unknown".to_owned(),
            message: Some("the node's process ended while the container ran".to_owned()),
            started_at: running.started_at.as_ref().map_or(now, |time| time.0),
            finished_at: now,
            id: before.container_id.as_deref().unwrap_or_default().into(),
        });
    let last = before
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
        .map(terminated);
    let fresh = Seen {
        restarts: u32::try_from(before.restart_count).unwrap_or(0),
        image_id: Some(before.image_id.as_str())
            .filter(|id| !id.is_empty())
            .map(Into::into),
        ..Seen::default()
    };
    let over =
        |ended: &Terminated| phase.is_terminal() || (role != Role::Init && !shape.restarts(role, ended.exit_code));
    match ended.or(lost) {
        Some(ended) if over(&ended) => Seen {
            state: State::Terminated(ended),
            last,
            ..fresh
        },
        // Init containers run again too: the pod's network and whatever they prepared in memory are gone.
        Some(ended) => again(fresh, ended),
        None => match last {
            Some(last) => again(fresh, last),
            None => fresh,
        },
    }
}

fn again(fresh: Seen, last: Terminated) -> Seen {
    Seen {
        state: State::Waiting {
            reason: waiting::CREATING,
            message: None,
        },
        restarts: fresh.restarts + 1,
        last: Some(last),
        ..fresh
    }
}

fn terminated(state: &ContainerStateTerminated) -> Terminated {
    let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    };
    Terminated {
        exit_code: state.exit_code,
        reason: state.reason.clone().unwrap_or_default(),
        message: state.message.clone(),
        started_at: time(&state.started_at),
        finished_at: time(&state.finished_at),
        id: state.container_id.as_deref().unwrap_or_default().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;
    use serde_json::{Value, json};

    fn recovered(policy: &str, phase: &str, container: Value) -> (Shape, Observed) {
        let mut container = container;
        container["name"] = "a".into();
        let base = json!({"image": "x", "imageID": "sha256:1", "ready": true, "restartCount": 2});
        for (key, value) in base.as_object().unwrap() {
            if container.get(key).is_none() {
                container[key] = value.clone();
            }
        }
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"restartPolicy": policy, "containers": [{"name": "a"}]},
            "status": {"phase": phase, "startTime": "1970-01-01T00:00:50Z", "podIPs": [{"ip": "10.244.0.9"}], "containerStatuses": [container]}
        }))
        .unwrap();
        let shape = Shape::of(&pod);
        let observed = recover(&pod, &shape, at(100));
        (shape, observed)
    }

    #[test]
    fn a_container_that_ran_is_lost_and_starts_again() {
        let running = json!({"state": {"running": {"startedAt": "1970-01-01T00:01:00Z"}}});
        let (_, pod) = recovered("Always", "Running", running.clone());
        let seen = &pod.containers[0];
        assert_eq!((seen.restarts, seen.last.as_ref().unwrap().exit_code), (3, 255));
        assert!(matches!(seen.state, State::Waiting { .. }));
        assert_eq!((pod.start_time, pod.phase), (at(50), Phase::Running));
        let (shape, never) = recovered("Never", "Running", running);
        assert_eq!(never.containers[0].restarts, 2);
        assert_eq!(crate::status::phase(&shape, &never), Phase::Failed);
    }

    #[test]
    fn what_had_ended_stays_ended() {
        let ended = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let (shape, pod) = recovered("OnFailure", "Running", ended.clone());
        assert_eq!(crate::status::phase(&shape, &pod), Phase::Succeeded);
        let (_, pod) = recovered("Always", "Failed", ended);
        assert_eq!(pod.containers[0].terminated().unwrap().exit_code, 0);
        assert_eq!(pod.sandbox, Sandbox::Removed(vec![[10, 244, 0, 9].into()]));
    }

    #[test]
    fn a_crash_loop_goes_on_counting() {
        let waiting =
            json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}});
        let (_, pod) = recovered("Always", "Running", waiting);
        assert_eq!(pod.containers[0].restarts, 3);
        let fresh = json!({"state": {"waiting": {"reason": "ContainerCreating"}}, "restartCount": 0});
        let (_, pod) = recovered("Always", "Pending", fresh);
        assert_eq!((pod.containers[0].restarts, pod.containers[0].last.clone()), (0, None));
    }
}
