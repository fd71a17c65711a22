//! Where pods go, and who has to make room, on nodes whose pods only pretend.

use std::collections::BTreeMap;

use coracle::{cluster::ClusterConfig, data_dir::DataDir};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::world::{World, phase};

async fn simulated(count: u16) -> World {
    let mut config = ClusterConfig::new(DataDir::ephemeral().unwrap());
    (config.nodes, config.simulated) = (0, count);
    World::start_with(config).await
}

fn available(count: i32) -> impl Fn(&Deployment) -> bool {
    move |deployment| {
        let status = deployment.status.as_ref();
        status.is_some_and(|status| status.available_replicas == Some(count))
    }
}

/// Each node has 32 cores.
const FILLER: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: filler}
spec:
  replicas: 6
  selector: {matchLabels: {app: filler}}
  template:
    metadata: {labels: {app: filler}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: any, resources: {requests: {cpu: 10}}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: filler}
spec: {minAvailable: 4, selector: {matchLabels: {app: filler}}}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: urgent}
value: 1000
";

const URGENT: &str = "apiVersion: v1
kind: Pod
metadata: {name: urgent}
spec:
  priorityClassName: urgent
  containers: [{name: main, image: any, resources: {requests: {cpu: 20}}}]
";

#[tokio::test(flavor = "multi_thread")]
async fn what_matters_more_takes_the_place_of_what_matters_less() {
    let world = simulated(2).await;
    world.apply(FILLER).await;
    let (deployments, pods): (Api<Deployment>, Api<Pod>) = (world.all(), world.all());
    world.until(&deployments, "filler", available(6)).await;
    let budgets: Api<PodDisruptionBudget> = world.all();
    let two = |budget: &PodDisruptionBudget| budget.status.as_ref().is_some_and(|s| s.disruptions_allowed == Some(2));
    world.until(&budgets, "filler", two).await;

    world.apply(URGENT).await;
    let urgent = world.pod("urgent", |pod| phase(pod) == "Running").await;
    let node = urgent.spec.unwrap().node_name.unwrap();
    world
        .event(&format!("Preempted: Preempted by pod {}", urgent.metadata.uid.unwrap()))
        .await;
    world
        .event("FailedScheduling: 0/2 nodes are available: 2 Insufficient cpu")
        .await;
    // Two made room, on one node, and nobody takes the place of the urgent one while it is there.
    world.until(&deployments, "filler", available(4)).await;
    let of_filler = ListParams::default().labels("app=filler");
    let fillers = pods.list(&of_filler).await.unwrap().items;
    let (placed, waiting): (Vec<&Pod>, Vec<&Pod>) = fillers
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .partition(|pod| pod.spec.as_ref().unwrap().node_name.is_some());
    let beside = placed
        .iter()
        .filter(|pod| pod.spec.as_ref().unwrap().node_name.as_ref() == Some(&node));
    assert_eq!((placed.len(), beside.count(), waiting.len()), (4, 1, 2));

    pods.delete("urgent", &Default::default()).await.unwrap();
    world.until(&deployments, "filler", available(6)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_spread_over_zones_and_wait_where_they_may_not_go() {
    let world = simulated(3).await;
    world
        .apply(
            "apiVersion: apps/v1
kind: Deployment
metadata: {name: spread}
spec:
  replicas: 6
  selector: {matchLabels: {app: spread}}
  template:
    metadata: {labels: {app: spread}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: spread}}}
      containers: [{name: main, image: any}]
",
        )
        .await;
    let deployments: Api<Deployment> = world.all();
    world.until(&deployments, "spread", available(6)).await;
    let (pods, nodes): (Api<Pod>, Api<Node>) = (world.all(), Api::all(world.client()));
    let mut zones = BTreeMap::<String, u32>::new();
    for pod in pods.list(&ListParams::default().labels("app=spread")).await.unwrap() {
        let node = nodes.get(&pod.spec.unwrap().node_name.unwrap()).await.unwrap();
        *zones
            .entry(node.labels()["topology.kubernetes.io/zone"].clone())
            .or_default() += 1;
    }
    assert_eq!(zones.into_values().collect::<Vec<_>>(), [2, 2, 2]);

    // With one zone closed the next replica has nowhere to go: the others would be two ahead.
    let shut = serde_json::json!({"spec": {"unschedulable": true}});
    nodes
        .patch("simulated-1", &Default::default(), &kube::api::Patch::Merge(shut))
        .await
        .unwrap();
    let more = serde_json::json!({"spec": {"replicas": 9}});
    deployments
        .patch("spread", &Default::default(), &kube::api::Patch::Merge(more))
        .await
        .unwrap();
    world
        .event("FailedScheduling: 0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match pod topology spread constraints.")
        .await;
    world.until(&deployments, "spread", available(8)).await;
    let open = serde_json::json!({"spec": {"unschedulable": false}});
    nodes
        .patch("simulated-1", &Default::default(), &kube::api::Patch::Merge(open))
        .await
        .unwrap();
    world.until(&deployments, "spread", available(9)).await;
}
