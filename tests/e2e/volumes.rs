//! Claims, the volumes that are made for them, and what is in these.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, ResourceExt};

use crate::world::{World, ready};

const DB: &str = "apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: toolbox
        command: [toolbox, sleep, '3600']
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
";

fn bound(claim: &PersistentVolumeClaim) -> bool {
    claim
        .status
        .as_ref()
        .is_some_and(|status| status.phase.as_deref() == Some("Bound"))
}

fn holds(amount: &'static str) -> impl Fn(&PersistentVolumeClaim) -> bool {
    move |claim| {
        let capacity = claim
            .status
            .as_ref()
            .and_then(|status| status.capacity.as_ref()?.get("storage"));
        capacity.is_some_and(|capacity| capacity.0 == amount)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn a_stateful_set_keeps_its_claims_when_it_shrinks_and_finds_them_when_it_grows() {
    let world = World::start().await;
    let (claims, pods): (Api<PersistentVolumeClaim>, Api<Pod>) = (world.all(), world.all());
    let volumes: Api<PersistentVolume> = Api::all(world.client());
    world.apply(DB).await;
    let rolled = || world.kubectl(&["rollout", "status", "statefulset/db", "--timeout=90s"]);
    rolled().await;
    let second = world
        .until(&claims, "data-db-1", bound)
        .await
        .spec
        .unwrap()
        .volume_name
        .unwrap();
    world
        .kubectl(&["exec", "db-1", "--", "sh", "-c", "echo kept > /data/note"])
        .await;

    world.kubectl(&["scale", "statefulset/db", "--replicas=1"]).await;
    world.gone(&pods, "db-1").await;
    let listed = world.kubectl(&["get", "pvc", "data-db-1", "--no-headers"]).await;
    assert!(listed.contains("Bound") && listed.contains("standard"), "{listed}");
    world.kubectl(&["scale", "statefulset/db", "--replicas=2"]).await;
    rolled().await;
    let again = claims
        .get("data-db-1")
        .await
        .unwrap()
        .spec
        .unwrap()
        .volume_name
        .unwrap();
    assert_eq!(again, second);
    world.pod("db-1", ready).await;
    let note = world.kubectl(&["exec", "db-1", "--", "cat", "/data/note"]).await;
    assert_eq!(note, "kept\n");

    // A claim grows; it never shrinks.
    let grow = |amount: &str| format!("{{\"spec\":{{\"resources\":{{\"requests\":{{\"storage\":\"{amount}\"}}}}}}}}");
    world.kubectl(&["patch", "pvc", "data-db-1", "-p", &grow("3Mi")]).await;
    world.until(&claims, "data-db-1", holds("3Mi")).await;
    let (good, _, said) = world
        .try_kubectl(&["patch", "pvc", "data-db-1", "-p", &grow("2Mi")], "")
        .await;
    assert!(!good && said.contains("field can not be less than"), "{said}");

    // A claim in use is held; when its pod is gone the claim goes, and its volume with it.
    world.kubectl(&["delete", "pvc", "data-db-1", "--wait=false"]).await;
    let held = claims.get("data-db-1").await.unwrap();
    assert!(held.metadata.deletion_timestamp.is_some() && !held.finalizers().is_empty());
    world.kubectl(&["scale", "statefulset/db", "--replicas=1"]).await;
    world.gone(&claims, "data-db-1").await;
    world.gone(&volumes, &second).await;
}
