//! The laws of a watch: ordered, gapless, resumable, and true to its selection.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::{World, world};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Events(Pin<Box<dyn Stream<Item = Bytes> + Send>>);

async fn watch(world: &World, query: &str, accept: &str) -> Events {
    let request = Request::get(format!("{MAPS}?watch=1&{query}")).header("accept", accept);
    let answer = world
        .admin()
        .oneshot(request.body(Full::<Bytes>::default()).unwrap())
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    // A piece holds whole events, one a line.
    let pieces = answer.into_body().into_data_stream().map(Result::unwrap);
    let lines = |piece: Bytes| {
        piece
            .split(|byte| *byte == b'\n')
            .map(Bytes::copy_from_slice)
            .collect::<Vec<_>>()
    };
    let lines = pieces.flat_map(move |piece| futures::stream::iter(lines(piece)));
    Events(Box::pin(lines.filter(|line| std::future::ready(!line.is_empty()))))
}

impl Events {
    async fn next(&mut self) -> Value {
        serde_json::from_slice(&self.0.next().await.expect("an event")).unwrap()
    }

    async fn names(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            let event = self.next().await;
            let object = &event["object"]["metadata"];
            names.push(format!(
                "{} {}",
                event["type"].as_str().unwrap(),
                object["name"].as_str().unwrap_or("-")
            ));
        }
        names
    }
}

fn map(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"l": label}}})
}

fn label(label: &str) -> Value {
    json!({"metadata": {"labels": {"l": label}}})
}

#[tokio::test]
async fn the_state_comes_first_and_then_every_change() {
    let world = world().await;
    world.ok(Method::POST, MAPS, map("a", "x")).await;
    let mut all = watch(&world, "", "").await;
    let mut some = watch(&world, "labelSelector=l%3Dx", "").await;
    world.ok(Method::POST, MAPS, map("b", "y")).await;
    world.ok(Method::PATCH, &format!("{MAPS}/b"), label("x")).await;
    let left = world.ok(Method::PATCH, &format!("{MAPS}/a"), label("y")).await;
    world.ok(Method::DELETE, &format!("{MAPS}/b"), Value::Null).await;
    assert_eq!(
        all.names(5).await,
        ["ADDED a", "ADDED b", "MODIFIED b", "MODIFIED a", "DELETED b"]
    );
    assert_eq!(some.names(2).await, ["ADDED a", "ADDED b"]);
    let gone = some.next().await;
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(
        gone["object"]["metadata"]["labels"]["l"], "x",
        "the last state that was selected"
    );
    assert_eq!(
        gone["object"]["metadata"]["resourceVersion"],
        left["metadata"]["resourceVersion"]
    );
    assert_eq!(some.names(1).await, ["DELETED b"]);
}

#[tokio::test]
async fn a_watch_resumes_without_gap_or_repetition() {
    let world = world().await;
    let start = world.get(MAPS).await["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut versions = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let created = world.ok(Method::POST, MAPS, map(name, "x")).await;
        versions.push(created["metadata"]["resourceVersion"].as_str().unwrap().to_owned());
    }
    let mut from_start = watch(&world, &format!("resourceVersion={start}"), "").await;
    assert_eq!(from_start.names(4).await, ["ADDED a", "ADDED b", "ADDED c", "ADDED d"]);
    let mut resumed = watch(&world, &format!("resourceVersion={}", versions[1]), "").await;
    assert_eq!(resumed.names(2).await, ["ADDED c", "ADDED d"]);
    world.ok(Method::DELETE, &format!("{MAPS}/a"), Value::Null).await;
    let event = resumed.next().await;
    let deleted: u64 = event["object"]["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        deleted > versions[3].parse().unwrap(),
        "a deletion has a version of its own"
    );
}

#[tokio::test]
async fn the_end_of_the_initial_events_is_marked() {
    let world = world().await;
    world.ok(Method::POST, MAPS, map("a", "x")).await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = watch(&world, query, "").await;
    assert_eq!(events.names(1).await, ["ADDED a"]);
    let mark = events.next().await;
    assert_eq!(
        (&mark["type"], &mark["object"]["kind"]),
        (&json!("BOOKMARK"), &json!("ConfigMap"))
    );
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    world.ok(Method::POST, MAPS, map("b", "x")).await;
    assert_eq!(events.names(1).await, ["ADDED b"]);
}

#[tokio::test]
async fn tables_name_their_columns_once() {
    let world = world().await;
    world.ok(Method::POST, MAPS, map("a", "x")).await;
    world.ok(Method::POST, MAPS, map("b", "x")).await;
    let mut events = watch(&world, "", "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let (first, second) = (events.next().await, events.next().await);
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    assert_eq!(second["object"]["columnDefinitions"], Value::Null);
}

#[tokio::test]
async fn a_quiet_watch_says_how_far_it_is_and_ends_in_time() {
    let world = world().await;
    let mut events = watch(
        &world,
        "allowWatchBookmarks=true&timeoutSeconds=130&labelSelector=l%3Dnone",
        "",
    )
    .await;
    let version = world.ok(Method::POST, MAPS, map("a", "x")).await["metadata"]["resourceVersion"].clone();
    // Only now: the clock jumps whenever all tasks wait, also for a write, which would then be too late.
    tokio::time::pause();
    let mut bookmarks = Vec::new();
    while let Some(bytes) = events.0.next().await {
        let event: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(event["type"], "BOOKMARK");
        let shown = event["object"]["metadata"]["resourceVersion"].as_str().unwrap();
        bookmarks.push(shown.parse::<u64>().unwrap());
    }
    // The server's own lease goes on being renewed beside it.
    let version: u64 = version.as_str().unwrap().parse().unwrap();
    assert_eq!(bookmarks.len(), 3, "at 60 s, 120 s and 128 s: {bookmarks:?}");
    assert!(
        bookmarks[0] >= version && bookmarks.is_sorted(),
        "{version} {bookmarks:?}"
    );
}
