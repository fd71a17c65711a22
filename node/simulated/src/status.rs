//! What a pretending pod says of itself.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{node::seconds, pods::Seen};

/// The status of a pod that runs and is ready.
pub fn running(pod: &Seen, address: Ipv4Addr, now: Timestamp) -> Value {
    let at = seconds(now);
    let state = json!({"running": {"startedAt": at}});
    json!({"metadata": {"uid": pod.metadata.uid}, "status": {
        "phase": "Running",
        "hostIP": "127.0.0.1",
        "podIP": address.to_string(),
        "podIPs": [{"ip": address.to_string()}],
        "startTime": at,
        "conditions": conditions("True", None, &at),
        "containerStatuses": containers(pod, true, &state),
    }})
}

/// The status of a pod that has done what it was for.
pub fn succeeded(pod: &Seen, now: Timestamp) -> Value {
    let at = seconds(now);
    let state = json!({"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": at}});
    json!({"metadata": {"uid": pod.metadata.uid}, "status": {
        "phase": "Succeeded",
        "conditions": conditions("False", Some("PodCompleted"), &at),
        "containerStatuses": containers(pod, false, &state),
    }})
}

fn conditions(ready: &str, reason: Option<&str>, at: &str) -> Value {
    let of = |type_: &str, status: &str, reason: Option<&str>| json!({"type": type_, "status": status, "reason": reason, "lastTransitionTime": at});
    json!([
        of("PodReadyToStartContainers", "True", None),
        of("Initialized", "True", None),
        of("Ready", ready, reason),
        of("ContainersReady", ready, reason),
        of("PodScheduled", "True", None),
    ])
}

fn containers(pod: &Seen, ready: bool, state: &Value) -> Value {
    let of = |container: &crate::pods::Container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "", "containerID": format!("simulated://{}", pod.metadata.uid),
            "ready": ready, "started": ready, "restartCount": 0, "state": state,
        })
    };
    pod.spec.containers.iter().map(of).collect()
}
