//! Pods for the tests of the deciders.

use crate::observed::{Observed, Seen, State, Terminated, Volumes};
use crate::recover::recover;
use crate::spec::Shape;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A time.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A pod with this specification, its shape, and what is observed at second 100.
pub fn pod(spec: Value) -> (Pod, Shape, Observed) {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 1}, "spec": spec
    }))
    .unwrap();
    let shape = Shape::of(&pod);
    let observed = recover(&pod, &shape, at(100));
    (pod, shape, observed)
}

/// A pod whose network and files are ready.
pub fn ready_pod(spec: Value) -> (Pod, Shape, Observed) {
    let (pod, shape, mut observed) = pod(spec);
    observed.sandbox = crate::observed::Sandbox::Ready(vec![[10, 244, 0, 7].into()]);
    observed.volumes = Volumes::Ready;
    (pod, shape, observed)
}

/// Lets a container run since a time.
pub fn run(seen: &mut Seen, since: i64) {
    seen.state = State::Running {
        since: at(since),
        id: "wasmtime://1".into(),
    };
    (seen.started, seen.ready) = (true, true);
}

/// Lets a container have ended at a time.
pub fn end(seen: &mut Seen, code: i32, finished: i64) {
    seen.state = State::Terminated(Terminated {
        exit_code: code,
        reason: if code == 0 { "Completed" } else { "Error" }.into(),
        message: None,
        started_at: at(finished - 1),
        finished_at: at(finished),
        id: "wasmtime://1".into(),
    });
    (seen.started, seen.ready, seen.stop) = (false, false, None);
}
