//! A cluster that stops and starts again finds everything as it was. `kill -9` is tried on the binary, in cli/tests.

use futures::TryStreamExt;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};

use crate::world::{World, pod_of, ready};

#[tokio::test(flavor = "multi_thread")]
async fn objects_stay_and_pods_run_again() {
    let world = World::start().await;
    world
        .apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: b}\n")
        .await;
    world.apply(include_str!("../../examples/hello.yaml")).await;
    world
        .until::<Deployment>(&world.all(), "hello", |deployment| {
            deployment.status.as_ref().and_then(|status| status.available_replicas) == Some(1)
        })
        .await;
    let map = world.all::<ConfigMap>().get("kept").await.unwrap();
    // Written before the end, and seen after it by who watches from an earlier version.
    world
        .apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: later}\ndata: {a: b}\n")
        .await;
    let before = pod_of(&world, "app=hello").await;

    let data = world.cluster.shutdown().await;
    let world = World::start_on(data).await;

    assert_eq!(world.all::<ConfigMap>().get("kept").await.unwrap(), map);
    let maps = world.all::<ConfigMap>();
    let version = map.resource_version().unwrap();
    let mut events = std::pin::pin!(maps.watch(&WatchParams::default(), &version).await.unwrap());
    let mut seen = Vec::new();
    while !seen.iter().any(|name| name == "later") {
        match events.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(map) => seen.push(map.name_any()),
            other => panic!("{other:?} after {seen:?}"),
        }
    }
    assert!(!seen.iter().any(|name| name == "kept"), "{seen:?}");
    let name = before.name_any();
    // The same pod, with its container started once more.
    let after = world
        .pod(&name, |pod| {
            let statuses = pod
                .status
                .as_ref()
                .and_then(|status| status.container_statuses.as_ref());
            ready(pod) && statuses.is_some_and(|statuses| statuses[0].restart_count == 1)
        })
        .await;
    assert_eq!(after.uid(), before.uid());
    let answer = world.http(&name, 8080).await;
    assert!(answer.contains(&format!("Hello from {name}")), "{answer}");
    let pods = world.all::<Pod>().list(&ListParams::default()).await.unwrap();
    assert_eq!(pods.items.len(), 1);
}
