//! What a watch says, replayed on a list, is what the next list says: for any history, whatever is selected, and from wherever
//! one resumes.

use std::collections::BTreeMap;

use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{World, pod, send, world};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// By nothing, by labels, by a field that only the status has, and by both.
const SELECTIONS: [&str; 6] = [
    "",
    "&labelSelector=l%3Dx",
    "&labelSelector=l%21%3Dx",
    "&fieldSelector=status.phase%3DRunning",
    "&fieldSelector=metadata.name%3Da",
    "&labelSelector=l+in+(x,y)&fieldSelector=status.phase%21%3DRunning",
];

#[derive(Debug, Clone, Copy)]
enum Step {
    Make,
    Label(&'static str),
    Unlabel,
    Phase(&'static str),
    Delete,
}

fn step() -> impl Strategy<Value = (&'static str, Step)> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let step = prop_oneof![
        3 => Just(Step::Make),
        2 => prop::sample::select(vec!["x", "y", "z"]).prop_map(Step::Label),
        1 => Just(Step::Unlabel),
        2 => prop::sample::select(vec!["Pending", "Running"]).prop_map(Step::Phase),
        1 => Just(Step::Delete),
    ];
    (name, step)
}

/// Takes a step; those that do not fit what is there are refused, which is no event.
async fn take(world: &World, name: &str, step: Step) {
    let one = format!("{PODS}/{name}");
    let label = |label: Value| json!({"metadata": {"labels": {"l": label}}});
    let (method, path, body) = match step {
        Step::Make => (Method::POST, PODS.to_owned(), pod(name)),
        Step::Label(value) => (Method::PATCH, one, label(json!(value))),
        Step::Unlabel => (Method::PATCH, one, label(Value::Null)),
        Step::Phase(phase) => (
            Method::PATCH,
            format!("{one}/status"),
            json!({"status": {"phase": phase}}),
        ),
        Step::Delete => (Method::DELETE, one, Value::Null),
    };
    let (status, answer) = send(world.admin(), method, &path, body).await;
    assert!(
        status.is_success() || matches!(status.as_u16(), 404 | 409),
        "{step:?} of {name}: {answer}"
    );
}

type Pods = BTreeMap<String, Value>;

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

async fn list(world: &World, selection: &str) -> (Pods, u64) {
    let list = world.get(&format!("{PODS}?limit=500{selection}")).await;
    let pods = list["items"].as_array().unwrap().iter();
    // Items of a list may leave out what the list says for them.
    let pods = pods.map(|pod| (name(pod), pod.clone())).collect();
    (pods, version(&list))
}

async fn events(world: &World, selection: &str, from: u64) -> Vec<Value> {
    let path = format!("{PODS}?watch=1&timeoutSeconds=0&resourceVersion={from}{selection}");
    match world.get(&path).await {
        Value::String(lines) => lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        event => vec![event],
    }
}

/// Replays events on a list; each must fit what is there.
fn replay(pods: &mut Pods, events: &[Value]) {
    for event in events {
        let object = &event["object"];
        let before = match event["type"].as_str().unwrap() {
            "DELETED" => (true, pods.remove(&name(object)).is_some()),
            "MODIFIED" => (true, pods.insert(name(object), object.clone()).is_some()),
            "ADDED" => (false, pods.insert(name(object), object.clone()).is_some()),
            other => panic!("{other}"),
        };
        assert_eq!(before.0, before.1, "{event} does not fit");
    }
}

async fn follow(steps: Vec<(&'static str, Step)>, begin: usize) {
    let world = world().await;
    let (before, after) = steps.split_at(begin.min(steps.len()));
    for (name, step) in before {
        take(&world, name, *step).await;
    }
    let mut lists = Vec::new();
    for selection in SELECTIONS {
        lists.push(list(&world, selection).await);
    }
    for (name, step) in after {
        take(&world, name, *step).await;
    }
    for (selection, (mut pods, from)) in SELECTIONS.iter().zip(lists) {
        let all = events(&world, selection, from).await;
        let versions: Vec<u64> = all.iter().map(|event| version(&event["object"])).collect();
        assert!(versions.is_sorted_by(|one, other| one < other), "{versions:?}");
        replay(&mut pods, &all);
        assert_eq!(pods, list(&world, selection).await.0, "selected by {selection:?}");
        // Whoever resumes in the middle sees the rest.
        if let Some(middle) = versions.get(versions.len() / 2) {
            let rest = events(&world, selection, *middle).await;
            assert_eq!(rest, all[versions.len() / 2 + 1..], "selected by {selection:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn events_replayed_give_the_list(steps in prop::collection::vec(step(), 1..40), begin in 0usize..20) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(follow(steps, begin));
    }
}
