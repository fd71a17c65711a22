//! What people do with workloads, told with kubectl on real guests.

use coracle::{cluster::ClusterConfig, data_dir::DataDir};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    batch::v1::{CronJob, Job},
    core::v1::Pod,
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::world::World;

async fn two_nodes() -> World {
    let mut config = ClusterConfig::new(DataDir::ephemeral().unwrap());
    config.nodes = 2;
    World::start_with(config).await
}

fn workload(kind: &str, name: &str, app: &str, more: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {app}, track: {name}}}}}
  {more}
  template:
    metadata: {{labels: {{app: {app}, track: {name}}}}}
    spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: main, image: hello}}]}}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn a_job_of_fifty_indexes_computes_and_ends() {
    let world = World::start().await;
    world
        .apply(
            "apiVersion: batch/v1
kind: Job
metadata: {name: primes}
spec:
  completions: 50
  parallelism: 10
  completionMode: Indexed
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: worker, args: ['1000']}]}
",
        )
        .await;
    world
        .kubectl(&["wait", "--for=condition=complete", "--timeout=90s", "job/primes"])
        .await;
    let jobs: Api<Job> = world.all();
    let status = jobs.get("primes").await.unwrap().status.unwrap();
    assert_eq!(
        (status.succeeded, status.completed_indexes.as_deref()),
        (Some(50), Some("0-49"))
    );
    let log = world
        .kubectl(&["logs", "-l", "batch.kubernetes.io/job-completion-index=49"])
        .await;
    assert!(log.contains("168 primes"), "{log}");
    world.event("Job completed").await;
    world.kubectl(&["delete", "job", "primes", "--wait"]).await;
    let pods: Api<Pod> = world.all();
    let left = pods
        .list(&ListParams::default().labels("job-name=primes"))
        .await
        .unwrap();
    for pod in left.items {
        world.gone(&pods, &pod.name_any()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn a_cron_job_runs_again_and_again() {
    let world = World::start().await;
    world
        .apply(
            "apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: '@every 1s'
  jobTemplate:
    spec:
      template:
        spec: {restartPolicy: Never, containers: [{name: main, image: worker, args: ['100']}]}
",
        )
        .await;
    let crons: Api<CronJob> = world.all();
    world
        .until(&crons, "tick", |cron| {
            cron.status.as_ref().is_some_and(|s| s.last_successful_time.is_some())
        })
        .await;
    let jobs: Api<Job> = world.all();
    let names: Vec<String> = jobs
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert!(
        !names.is_empty() && names.iter().all(|name| name.starts_with("tick-")),
        "{names:?}"
    );
    world.kubectl(&["delete", "cronjob", "tick"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn a_stateful_set_grows_rolls_and_shrinks_in_order() {
    let world = World::start().await;
    world
        .apply(&workload("StatefulSet", "db", "db", "replicas: 2\n  serviceName: db"))
        .await;
    let rolled = || world.kubectl(&["rollout", "status", "statefulset/db", "--timeout=90s"]);
    rolled().await;
    world.kubectl(&["scale", "statefulset/db", "--replicas=3"]).await;
    rolled().await;
    let names = world.kubectl(&["get", "pods", "-l", "app=db", "-o", "name"]).await;
    assert_eq!(
        names.split_whitespace().collect::<Vec<_>>(),
        ["pod/db-0", "pod/db-1", "pod/db-2"]
    );
    let before: Vec<_> = uids(&world, "app=db").await;
    world.kubectl(&["set", "env", "statefulset/db", "VERSION=2"]).await;
    rolled().await;
    let after = uids(&world, "app=db").await;
    assert!(before.iter().all(|uid| !after.contains(uid)), "every pod is new");
    world.kubectl(&["rollout", "undo", "statefulset/db"]).await;
    rolled().await;
    world.kubectl(&["scale", "statefulset/db", "--replicas=1"]).await;
    let pods: Api<Pod> = world.all();
    world.gone(&pods, "db-2").await;
    world.gone(&pods, "db-1").await;
    assert!(pods.get_opt("db-0").await.unwrap().is_some());
}

async fn uids(world: &World, labels: &str) -> Vec<String> {
    let pods: Api<Pod> = world.all();
    let pods = pods.list(&ListParams::default().labels(labels)).await.unwrap();
    pods.iter().filter_map(|pod| pod.uid()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn a_drain_waits_for_the_budget_and_leaves_the_daemons() {
    let world = two_nodes().await;
    world.apply(&workload("DaemonSet", "agent", "agent", "")).await;
    world.apply(&workload("Deployment", "web", "web", "replicas: 3")).await;
    world
        .apply(
            "apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}
",
        )
        .await;
    let deployments: Api<Deployment> = world.all();
    let available = |d: &Deployment| d.status.as_ref().is_some_and(|s| s.available_replicas == Some(3));
    world.until(&deployments, "web", available).await;
    let daemons: Api<DaemonSet> = world.all();
    world
        .until(&daemons, "agent", |d| {
            d.status.as_ref().is_some_and(|s| s.number_available == Some(2))
        })
        .await;
    let budgets: Api<PodDisruptionBudget> = world.all();
    world
        .until(&budgets, "web", |b| {
            b.status.as_ref().is_some_and(|s| s.disruptions_allowed == Some(1))
        })
        .await;
    let of_web = ListParams::default().labels("app=web");
    let mut replicas = world.all::<Pod>().list(&of_web).await.unwrap().items;
    let node = replicas.remove(0).spec.unwrap().node_name.unwrap();
    world
        .kubectl(&["drain", &node, "--ignore-daemonsets", "--timeout=80s"])
        .await;
    world.until(&deployments, "web", available).await;
    let pods: Api<Pod> = world.all();
    let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let left: Vec<String> = pods
        .list(&on_node)
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert!(left.len() == 1 && left[0].starts_with("agent-"), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn a_canary_takes_its_share_of_a_service() {
    let world = World::start().await;
    world
        .apply(&workload("Deployment", "stable", "shop", "replicas: 3"))
        .await;
    world
        .apply(&workload("Deployment", "canary", "shop", "replicas: 1"))
        .await;
    world
        .apply("apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec: {selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}\n")
        .await;
    world
        .kubectl(&["rollout", "status", "deployment/stable", "--timeout=90s"])
        .await;
    world
        .kubectl(&["rollout", "status", "deployment/canary", "--timeout=90s"])
        .await;
    let slices: Api<EndpointSlice> = world.all();
    let list = slices
        .list(&ListParams::default().labels("kubernetes.io/service-name=shop"))
        .await
        .unwrap();
    let slice = list.items[0].name_any();
    let serving = |count: usize| {
        move |slice: &EndpointSlice| {
            let ready = |e: &k8s_openapi::api::discovery::v1::Endpoint| {
                e.conditions.as_ref().and_then(|c| c.ready) == Some(true)
            };
            slice.endpoints.iter().flatten().filter(|e| ready(e)).count() == count
        }
    };
    world.until(&slices, &slice, serving(4)).await;
    world.kubectl(&["scale", "deployment/canary", "--replicas=0"]).await;
    world.until(&slices, &slice, serving(3)).await;
}
