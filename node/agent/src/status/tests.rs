use super::*;
use crate::observed::{Doom, Failure};
use crate::testing::{at, end, pod, ready_pod, run};
use serde_json::{Value, json};

const HOST: Host = Host {
    ip: IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 1)),
};

fn told(given: &(Pod, Shape, Observed)) -> Value {
    let (pod, shape, seen) = given;
    serde_json::to_value(status(pod, shape, seen, None, &HOST, at(200))).unwrap()
}

fn condition<'a>(status: &'a Value, type_: &str) -> (&'a str, &'a str, &'a str) {
    let all = status["conditions"].as_array().unwrap();
    let found = all.iter().find(|condition| condition["type"] == type_).unwrap();
    let text = |name: &str| found[name].as_str().unwrap_or_default();
    (text("status"), text("reason"), text("message"))
}

#[test]
fn a_fresh_pod_waits() {
    let status = told(&pod(json!({"containers": [{"name": "a", "image": "hello"}]})));
    assert_eq!(status["phase"], "Pending");
    assert_eq!(
        status["containerStatuses"][0]["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    assert_eq!(status["containerStatuses"][0]["image"], "hello");
    assert_eq!(condition(&status, "PodReadyToStartContainers").0, "False");
    assert_eq!(condition(&status, "Initialized").0, "True");
    assert_eq!(
        condition(&status, "Ready"),
        ("False", "ContainersNotReady", "containers with unready status: [a]")
    );
    assert!(status.get("podIP").is_none());
    assert_eq!(status["observedGeneration"], 1);
}

#[test]
fn a_running_pod_is_ready() {
    let mut given = ready_pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    given.2.containers.iter_mut().for_each(|seen| run(seen, 150));
    let status = told(&given);
    assert_eq!(status["phase"], "Running");
    assert_eq!(
        (&status["podIP"], &status["hostIP"]),
        (&json!("10.244.0.7"), &json!("192.168.0.1"))
    );
    assert_eq!(status["podIPs"], json!([{"ip": "10.244.0.7"}]));
    for type_ in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert_eq!(condition(&status, type_), ("True", "", ""), "{type_}");
    }
    assert_eq!(status["containerStatuses"][1]["started"], true);
    given.2.containers[1].ready = false;
    assert_eq!(
        condition(&told(&given), "Ready").2,
        "containers with unready status: [b]"
    );
}

#[test]
fn initialising_pods_say_how_far_they_are() {
    let mut given = ready_pod(json!({
        "initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "m"}],
    }));
    end(&mut given.2.containers[0], 0, 150);
    run(&mut given.2.containers[1], 150);
    let status = told(&given);
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["initContainerStatuses"][0]["ready"], true);
    assert_eq!(
        status["initContainerStatuses"][0]["state"]["terminated"]["reason"],
        "Completed"
    );
    assert_eq!(status["initContainerStatuses"][1]["ready"], false);
    assert_eq!(
        status["containerStatuses"][0]["state"]["waiting"]["reason"],
        "PodInitializing"
    );
    assert_eq!(
        condition(&status, "Initialized"),
        (
            "False",
            "ContainersNotInitialized",
            "containers with incomplete status: [j]"
        )
    );
}

#[test]
fn a_crash_loop_waits_with_its_end_as_last_state() {
    let mut given = ready_pod(json!({"containers": [{"name": "a"}]}));
    let seen = &mut given.2.containers[0];
    end(seen, 7, 190);
    seen.restarts = 3;
    seen.due = Some(at(230));
    seen.crash_message = Some("back-off 40s".into());
    let status = told(&given);
    assert_eq!(status["phase"], "Running");
    let container = &status["containerStatuses"][0];
    assert_eq!(
        container["state"],
        json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}})
    );
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 7);
    assert_eq!(container["restartCount"], 3);
    given.2.containers[0].due = None;
    assert_eq!(
        told(&given)["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        7
    );
}

#[test]
fn ends_by_policy() {
    for (policy, codes, expected) in [
        ("Always", vec![0, 1], "Running"),
        ("OnFailure", vec![0, 1], "Running"),
        ("OnFailure", vec![0, 0], "Succeeded"),
        ("Never", vec![0, 0], "Succeeded"),
        ("Never", vec![0, 1], "Failed"),
    ] {
        let mut given = ready_pod(json!({"containers": [{"name": "a"}, {"name": "b"}], "restartPolicy": policy}));
        given
            .2
            .containers
            .iter_mut()
            .zip(&codes)
            .for_each(|(seen, code)| end(seen, *code, 150));
        assert_eq!(told(&given)["phase"], expected, "{policy} {codes:?}");
    }
    let mut given = ready_pod(json!({"containers": [{"name": "a"}], "restartPolicy": "Never"}));
    end(&mut given.2.containers[0], 0, 150);
    let status = told(&given);
    assert_eq!(condition(&status, "Ready"), ("False", "PodCompleted", ""));
    assert_eq!(condition(&status, "Initialized"), ("True", "PodCompleted", ""));
}

#[test]
fn a_deleted_pod_ends_as_its_containers_did() {
    let mut given = ready_pod(json!({"containers": [{"name": "a"}]}));
    run(&mut given.2.containers[0], 150);
    given.2.doom = Some(Doom {
        cause: Cause::Deleted,
        deadline: at(230),
    });
    assert_eq!(told(&given)["phase"], "Running");
    end(&mut given.2.containers[0], 143, 200);
    assert_eq!(told(&given)["phase"], "Failed");
    end(&mut given.2.containers[0], 0, 200);
    assert_eq!(told(&given)["phase"], "Succeeded");
}

#[test]
fn a_failed_pod_says_why() {
    let mut given = ready_pod(json!({"containers": [{"name": "a"}]}));
    run(&mut given.2.containers[0], 150);
    given.2.doom = Some(Doom {
        cause: Cause::Failed,
        deadline: at(230),
    });
    given.2.failure = Some(Failure {
        reason: "DeadlineExceeded".into(),
        message: "too long".into(),
    });
    let status = told(&given);
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("DeadlineExceeded"))
    );
}

#[test]
fn conditions_keep_their_time_while_they_hold() {
    let (pod, shape, mut seen) = ready_pod(json!({"containers": [{"name": "a"}]}));
    let first = status(&pod, &shape, &seen, None, &HOST, at(200));
    run(&mut seen.containers[0], 205);
    let second = status(&pod, &shape, &seen, Some(&first), &HOST, at(210));
    let time = |status: &PodStatus, type_: &str| {
        let all = status.conditions.as_ref().unwrap();
        all.iter()
            .find(|condition| condition.type_ == type_)
            .unwrap()
            .last_transition_time
            .clone()
            .unwrap()
            .0
    };
    assert_eq!(time(&second, "Initialized"), at(200));
    assert_eq!(time(&second, "Ready"), at(210));
    assert_eq!(status(&pod, &shape, &seen, Some(&second), &HOST, at(300)), second);
}

#[test]
fn readiness_gates_belong_to_others() {
    let (mut pod, shape, mut seen) =
        ready_pod(json!({"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "x/y"}]}));
    run(&mut seen.containers[0], 150);
    let ready = |pod: &Pod| {
        let status = serde_json::to_value(status(pod, &shape, &seen, None, &HOST, at(200))).unwrap();
        let (status, reason, _) = condition(&status, "Ready");
        (status.to_owned(), reason.to_owned())
    };
    assert_eq!(ready(&pod), ("False".into(), "ReadinessGatesNotReady".into()));
    pod.status = Some(serde_json::from_value(json!({"conditions": [{"type": "x/y", "status": "True"}]})).unwrap());
    assert_eq!(ready(&pod), ("True".into(), String::new()));
}
