//! What containers use is measured, told, and acted on.

use std::process::Stdio;

use coracle::{cluster::ClusterConfig, data_dir::DataDir};
use jiff::SignedDuration;
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use kube::{Api, api::ListParams};

use crate::world::{World, pod_of, ready};

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: probe, args: [sleep], resources: {requests: {cpu: 20m}, limits: {cpu: 300m}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 3
  metrics:
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
";

fn wants(count: i32) -> impl Fn(&Deployment) -> bool {
    move |deployment| {
        deployment
            .spec
            .as_ref()
            .is_some_and(|spec| spec.replicas == Some(count))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_brings_replicas_and_rest_takes_them_away() {
    let mut config = ClusterConfig::new(DataDir::ephemeral().unwrap());
    config.autoscaler_period = SignedDuration::from_secs(1);
    let world = World::start_with(config).await;
    world.load_probe();
    world.apply(WEB).await;
    let deployments: Api<Deployment> = world.all();
    let available = |d: &Deployment| d.status.as_ref().is_some_and(|s| s.available_replicas == Some(1));
    world.until(&deployments, "web", available).await;
    let pod = pod_of(&world, "app=web").await.metadata.name.unwrap();
    world.pod(&pod, ready).await;

    // A program in the container's sandbox that computes without end.
    let mut load = world.kubectl_command(&["exec", &pod, "--", "probe", "spin"]);
    let mut load = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    world.until(&deployments, "web", wants(3)).await;
    world
        .event("SuccessfulRescale: New size: 3; reason: cpu resource utilization (percentage of request) above target")
        .await;

    let top = world.kubectl(&["top", "pods", "-l", "app=web", "--no-headers"]).await;
    let busy = top
        .lines()
        .find(|line| line.starts_with(&pod))
        .unwrap_or_else(|| panic!("{top}"));
    let milli: u32 = busy
        .split_whitespace()
        .nth(1)
        .unwrap()
        .trim_end_matches('m')
        .parse()
        .unwrap();
    assert!((10..=400).contains(&milli), "{top}");
    let top = world.kubectl(&["top", "nodes", "--no-headers"]).await;
    assert!(top.starts_with("coracle-1"), "{top}");
    let summary = world
        .kubectl(&["get", "--raw", "/api/v1/nodes/coracle-1/proxy/stats/summary"])
        .await;
    assert!(summary.contains(&pod), "{summary}");
    let metrics = world
        .kubectl(&["get", "--raw", "/api/v1/nodes/coracle-1/proxy/metrics/resource"])
        .await;
    assert!(metrics.contains("container_cpu_usage_seconds_total{"), "{metrics}");

    load.kill().await.unwrap();
    world.until(&deployments, "web", wants(1)).await;
    let autoscalers: Api<HorizontalPodAutoscaler> = world.all();
    let at_rest = |hpa: &HorizontalPodAutoscaler| {
        hpa.status
            .as_ref()
            .is_some_and(|status| status.current_replicas == Some(1) && status.desired_replicas == 1)
    };
    world.until(&autoscalers, "web", at_rest).await;
    world
        .event("SuccessfulRescale: New size: 1; reason: All metrics below target")
        .await;
    let shown = world.kubectl(&["describe", "hpa", "web"]).await;
    assert!(shown.contains("ValidMetricFound"), "{shown}");
    let pods = world
        .all::<Pod>()
        .list(&ListParams::default().labels("app=web"))
        .await
        .unwrap();
    assert!(!pods.items.is_empty());
}
