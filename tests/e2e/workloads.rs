//! Deployments and ReplicaSets keep what was asked for.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::world::{World, pod_of, ready};

const HELLO: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: hello, image: hello}]}
";

fn available(count: i32) -> impl Fn(&Deployment) -> bool {
    move |deployment| {
        let status = deployment.status.as_ref();
        status.is_some_and(|status| {
            status.observed_generation == deployment.metadata.generation
                && status.available_replicas.unwrap_or(0) == count
                && status.replicas.unwrap_or(0) == count
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_scales_heals_and_takes_its_pods_with_it() {
    let world = World::start().await;
    let deployments: Api<Deployment> = world.all();
    let pods: Api<Pod> = world.all();
    world.apply(HELLO).await;
    world.until(&deployments, "hello", available(1)).await;

    // A pod that goes is replaced.
    let first = pod_of(&world, "app=hello").await;
    pods.delete(&first.name_any(), &DeleteParams::default()).await.unwrap();
    world.gone(&pods, &first.name_any()).await;
    world.until(&deployments, "hello", available(1)).await;
    let second = pod_of(&world, "app=hello").await;
    assert_ne!(first.uid(), second.uid());

    for count in [5, 2, 0] {
        let scale = json!({"spec": {"replicas": count}});
        deployments
            .patch_scale("hello", &PatchParams::default(), &Patch::Merge(&scale))
            .await
            .unwrap();
        world.until(&deployments, "hello", available(count)).await;
    }

    let scale = json!({"spec": {"replicas": 1}});
    deployments
        .patch_scale("hello", &PatchParams::default(), &Patch::Merge(&scale))
        .await
        .unwrap();
    world.until(&deployments, "hello", available(1)).await;
    let pod = pod_of(&world, "app=hello").await.name_any();
    deployments.delete("hello", &DeleteParams::default()).await.unwrap();
    world.gone(&pods, &pod).await;
    let sets: Api<ReplicaSet> = world.all();
    assert!(sets.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_stay_and_are_adopted() {
    let world = World::start().await;
    let deployments: Api<Deployment> = world.all();
    let sets: Api<ReplicaSet> = world.all();
    world.apply(HELLO).await;
    world.until(&deployments, "hello", available(1)).await;
    let set = sets.list(&ListParams::default()).await.unwrap().items.remove(0);
    deployments.delete("hello", &DeleteParams::orphan()).await.unwrap();
    world.gone(&deployments, "hello").await;
    let orphan = world
        .until(&sets, &set.name_any(), |set| set.owner_references().is_empty())
        .await;
    assert_eq!(orphan.uid(), set.uid());
    world.apply(HELLO).await;
    world
        .until(&sets, &set.name_any(), |set| !set.owner_references().is_empty())
        .await;
    world.until(&deployments, "hello", available(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fits_nowhere_says_why_and_starts_when_it_does() {
    let world = World::start().await;
    let pods: Api<Pod> = world.all();
    world
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: picky}
spec:
  nodeSelector: {disk: fast}
  containers: [{name: main, image: hello}]
---
apiVersion: v1
kind: Pod
metadata: {name: huge}
spec:
  containers: [{name: main, image: hello, resources: {requests: {cpu: '100000'}}}]
",
        )
        .await;
    world
        .event("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")
        .await;
    world.event("0/1 nodes are available: 1 Insufficient cpu.").await;
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(world.client());
    let label = json!({"metadata": {"labels": {"disk": "fast"}}});
    nodes
        .patch("coracle-1", &PatchParams::default(), &Patch::Merge(&label))
        .await
        .unwrap();
    world.until(&pods, "picky", ready).await;
    let huge = pods.get("huge").await.unwrap();
    let conditions = huge.status.unwrap().conditions.unwrap();
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled").unwrap();
    assert_eq!(
        (scheduled.status.as_str(), scheduled.reason.as_deref()),
        ("False", Some("Unschedulable"))
    );
}
