//! Devices: told of by slices, claimed by pods, and given to one at a time.

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    resource::v1::ResourceClaim,
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::world::{World, phase, ready};

const CLASS: &str = "apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu}
spec: {selectors: [{cel: {expression: device.driver == 'gpu.example.com'}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: large}
spec:
  spec:
    devices:
      requests:
      - name: gpu
        exactly:
          deviceClassName: gpu
          selectors:
          - cel:
              expression: device.capacity['gpu.example.com'].memory.compareTo(quantity('10Gi')) >= 0
";

/// A pool of the node's with one device.
fn slice(node: &str, pool: &str, memory: &str) -> String {
    format!(
        "apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {{name: {pool}}}
spec:
  driver: gpu.example.com
  nodeName: {node}
  pool: {{name: {pool}, generation: 1, resourceSliceCount: 1}}
  devices: [{{name: gpu-0, attributes: {{model: {{string: m}}}}, capacity: {{memory: {{value: {memory}}}}}}}]
"
    )
}

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  resourceClaims: [{{name: gpu, resourceClaimTemplateName: large}}]
  containers:
  - name: main
    image: toolbox
    command: [toolbox, sleep, '3600']
    resources: {{claims: [{{name: gpu}}]}}
"
    )
}

/// The claim that was made for a pod.
fn claim_of(pod: &Pod) -> String {
    let statuses = pod.status.as_ref().unwrap().resource_claim_statuses.as_ref().unwrap();
    statuses[0].resource_claim_name.clone().unwrap()
}

/// The pool of the device that a claim has.
fn pool_of(claim: &ResourceClaim) -> String {
    let allocation = claim.status.as_ref().unwrap().allocation.as_ref().unwrap();
    let results = allocation.devices.as_ref().unwrap().results.as_ref().unwrap();
    results[0].pool.clone()
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn a_device_is_one_pods_and_another_waits_until_there_is_one() {
    let world = World::start().await;
    let nodes: Api<Node> = Api::all(world.client());
    let node = nodes.list(&ListParams::default()).await.unwrap().items[0].name_any();
    world.apply(CLASS).await;
    world.apply(&slice(&node, "small", "4Gi")).await;
    world.apply(&slice(&node, "first", "40Gi")).await;

    world.apply(&pod("one")).await;
    let one = world.pod("one", ready).await;
    let claims: Api<ResourceClaim> = world.all();
    let claim = claim_of(&one);
    assert!(claim.starts_with("one-gpu-"), "{claim}");
    assert_eq!(
        pool_of(&claims.get(&claim).await.unwrap()),
        "first",
        "the small one will not do"
    );
    let listed = world.kubectl(&["get", "resourceclaim", &claim, "--no-headers"]).await;
    assert!(listed.contains("allocated,reserved"), "{listed}");
    world
        .event("NoDeviceDriver: no driver gpu.example.com runs on this node")
        .await;

    world.apply(&pod("two")).await;
    world
        .event("FailedScheduling: 0/1 nodes are available: 1 cannot allocate all claims")
        .await;
    let described = world.kubectl(&["describe", "pod", "two"]).await;
    assert!(described.contains("cannot allocate all claims"), "{described}");
    assert_eq!(phase(&world.pod("two", |_| true).await), "Pending");
    world.apply(&slice(&node, "second", "20Gi")).await;
    let two = world.pod("two", ready).await;
    assert_eq!(pool_of(&claims.get(&claim_of(&two)).await.unwrap()), "second");

    // What a pod had is the next one's, and its claim goes with it.
    world.apply(&pod("three")).await;
    let pods: Api<Pod> = world.all();
    world.kubectl(&["delete", "pod", "one"]).await;
    world.gone(&pods, "one").await;
    world.gone(&claims, &claim).await;
    let three = world.pod("three", ready).await;
    assert_eq!(pool_of(&claims.get(&claim_of(&three)).await.unwrap()), "first");
}
