//! What the cluster's rules add and refuse, through the chain.

use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::world::{World, deployment, pod, send, world};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod_with(name: &str, resources: Value) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = resources;
    pod
}

async fn quota(world: &World, hard: Value) {
    let body = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    world
        .ok(Method::POST, "/api/v1/namespaces/default/resourcequotas", body)
        .await;
}

async fn used(world: &World) -> Value {
    world.get("/api/v1/namespaces/default/resourcequotas/q").await["status"]["used"].clone()
}

#[tokio::test]
async fn a_pod_needs_its_account() {
    let world = world().await;
    let mut wrong = pod("a");
    wrong["spec"]["serviceAccountName"] = json!("nobody");
    let (code, message) = world.fails(Method::POST, PODS, wrong).await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods \"a\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    );
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    world
        .ok(Method::PATCH, account, json!({"imagePullSecrets": [{"name": "pull"}]}))
        .await;
    let made = world.ok(Method::POST, PODS, pod("b")).await;
    assert_eq!(made["spec"]["serviceAccount"], "default");
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(made["spec"]["priority"], 0);
}

#[tokio::test]
async fn a_pod_waits_for_the_account_of_a_new_namespace() {
    let world = world().await;
    world
        .ok(
            Method::POST,
            "/api/v1/namespaces",
            json!({"metadata": {"name": "fresh"}}),
        )
        .await;
    let pods = send(world.admin(), Method::POST, "/api/v1/namespaces/fresh/pods", pod("a"));
    let account = world.ok(
        Method::POST,
        "/api/v1/namespaces/fresh/serviceaccounts",
        json!({"metadata": {"name": "default"}}),
    );
    let ((status, answer), _) = tokio::join!(pods, account);
    assert_eq!(status.as_u16(), 201, "{answer}");
}

#[tokio::test]
async fn limit_ranges_fill_in_and_refuse() {
    let world = world().await;
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "250m"}},
    ]}});
    world
        .ok(Method::POST, "/api/v1/namespaces/default/limitranges", range)
        .await;
    let made = world.ok(Method::POST, PODS, pod("a")).await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "500m"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    assert_eq!(made["spec"].get("initContainers"), None);
    let greedy = pod_with("b", json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}));
    let (code, message) = world.fails(Method::POST, PODS, greedy).await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}

#[tokio::test]
async fn a_quota_is_charged_and_given_back() {
    let world = world().await;
    quota(&world, json!({"pods": "1", "count/configmaps": "5"})).await;
    assert_eq!(used(&world).await["pods"], "0");
    world.ok(Method::POST, PODS, pod("a")).await;
    assert_eq!(used(&world).await["pods"], "1");
    let (code, message) = world.fails(Method::POST, PODS, pod("b")).await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
    );
    let (status, _) = send(world.admin(), Method::POST, &format!("{PODS}?dryRun=All"), pod("b")).await;
    assert_eq!(status.as_u16(), 403);
    world.ok(Method::DELETE, &format!("{PODS}/a"), Value::Null).await;
    assert_eq!(used(&world).await["pods"], "0");
    world.ok(Method::POST, PODS, pod("b")).await;
    let ended = json!({"status": {"phase": "Succeeded"}});
    world.ok(Method::PATCH, &format!("{PODS}/b/status"), ended).await;
    assert_eq!(used(&world).await["pods"], "0");
}

#[tokio::test]
async fn no_race_takes_more_than_there_is() {
    let world = world().await;
    quota(&world, json!({"count/configmaps": "7"})).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let creates = (0..40).map(|index| {
        let body = json!({"metadata": {"name": format!("m{index}")}});
        send(world.admin(), Method::POST, maps, body)
    });
    let made = join_all(creates)
        .await
        .iter()
        .filter(|(status, _)| status.is_success())
        .count();
    let there = world.get(maps).await["items"].as_array().unwrap().len();
    assert_eq!((made, there), (7, 7));
    assert_eq!(used(&world).await["count/configmaps"], "7");
}

#[tokio::test]
async fn containers_say_what_a_quota_limits() {
    let world = world().await;
    quota(&world, json!({"limits.cpu": "2", "requests.memory": "1Gi"})).await;
    let (code, message) = world.fails(Method::POST, PODS, pod("a")).await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods \"a\" is forbidden: failed quota: q: must specify limits.cpu for: c; requests.memory for: c"
    );
    let fits = pod_with("a", json!({"requests": {"memory": "600Mi"}, "limits": {"cpu": "1"}}));
    world.ok(Method::POST, PODS, fits).await;
    let more = pod_with("b", json!({"requests": {"memory": "600Mi"}, "limits": {"cpu": "1"}}));
    let (_, message) = world.fails(Method::POST, PODS, more).await;
    assert_eq!(
        message,
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.memory=600Mi, used: requests.memory=600Mi, limited: requests.memory=1Gi"
    );
}

#[tokio::test]
async fn pod_security_goes_by_the_namespace() {
    let world = world().await;
    let labels = json!({"metadata": {"labels": {
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted",
    }}});
    world.ok(Method::PATCH, "/api/v1/namespaces/default", labels).await;
    world.ok(Method::POST, PODS, pod("plain")).await;
    let mut host = pod("host");
    host["spec"]["hostNetwork"] = json!(true);
    let (code, message) = world.fails(Method::POST, PODS, host).await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods \"host\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    let mut privileged = deployment("d");
    privileged["spec"]["template"]["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    world.ok(Method::POST, path, privileged).await;
}

#[tokio::test]
async fn priorities_come_from_classes() {
    let world = world().await;
    let mut critical = pod("a");
    critical["spec"]["priorityClassName"] = json!("system-node-critical");
    assert_eq!(
        world.ok(Method::POST, PODS, critical).await["spec"]["priority"],
        2_000_001_000
    );
    let mut wrong = pod("b");
    wrong["spec"]["priorityClassName"] = json!("nope");
    let (_, message) = world.fails(Method::POST, PODS, wrong).await;
    assert_eq!(
        message,
        "pods \"b\" is forbidden: no PriorityClass with name nope was found"
    );
}

#[tokio::test]
async fn a_claim_grows_where_its_class_lets_it() {
    let world = world().await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    for (class, grows) in [("fixed", false), ("growing", true)] {
        let body =
            json!({"metadata": {"name": class}, "provisioner": "example.com/disks", "allowVolumeExpansion": grows});
        world
            .ok(Method::POST, "/apis/storage.k8s.io/v1/storageclasses", body)
            .await;
        let body = json!({"metadata": {"name": class}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class, "volumeName": "v",
            "resources": {"requests": {"storage": "1Gi"}},
        }});
        world.ok(Method::POST, claims, body).await;
        let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        world
            .ok(Method::PATCH, &format!("{claims}/{class}/status"), bound)
            .await;
    }
    let more = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    world
        .ok(Method::PATCH, &format!("{claims}/growing"), more.clone())
        .await;
    let (code, message) = world.fails(Method::PATCH, &format!("{claims}/fixed"), more).await;
    assert_eq!(code, 403);
    assert!(
        message.ends_with("the storageclass that provisions the pvc must support resize"),
        "{message}"
    );
}

#[tokio::test]
async fn devices_in_use_are_for_namespaces_that_administrate_them() {
    let world = world().await;
    let requests =
        json!([{"name": "all", "exactly": {"deviceClassName": "gpu", "allocationMode": "All", "adminAccess": true}}]);
    let claim = json!({"metadata": {"name": "watch"}, "spec": {"devices": {"requests": requests}}});
    let claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let (code, message) = world.fails(Method::POST, claims, claim.clone()).await;
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "ResourceClaim.resource.k8s.io \"watch\" is invalid: spec.devices.requests[0].exactly.adminAccess: Forbidden: \
         admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"
    );
    let template = json!({"metadata": {"name": "watch"}, "spec": {"spec": {"devices": {"requests": requests}}}});
    let templates = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates";
    assert_eq!(world.fails(Method::POST, templates, template.clone()).await.0, 422);
    let labels = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
    world.ok(Method::PATCH, "/api/v1/namespaces/default", labels).await;
    world.ok(Method::POST, claims, claim).await;
    world.ok(Method::POST, templates, template).await;
}

#[tokio::test]
async fn a_claim_is_reserved_when_it_is_allocated() {
    let world = world().await;
    let claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let requests = json!([{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]);
    let claim = json!({"metadata": {"name": "one"}, "spec": {"devices": {"requests": requests}}});
    let made = world.ok(Method::POST, claims, claim).await;
    assert_eq!(made["spec"]["devices"]["requests"][0]["exactly"]["count"], 1);
    let status = format!("{claims}/one/status");
    let reserved = json!([{"resource": "pods", "name": "p", "uid": "u"}]);
    let (code, message) = world
        .fails(Method::PATCH, &status, json!({"status": {"reservedFor": reserved}}))
        .await;
    assert_eq!(code, 422);
    assert!(
        message.contains("may not be specified when `allocated` is not set"),
        "{message}"
    );
    let result = json!({"request": "gpu", "driver": "gpu.example.com", "pool": "a", "device": "x"});
    let allocation = json!({"devices": {"results": [result]}});
    let both = json!({"status": {"allocation": allocation, "reservedFor": reserved}});
    let written = world.ok(Method::PATCH, &status, both).await;
    assert_eq!(written["status"]["reservedFor"], reserved);
    let other = json!({"status": {"allocation": {"devices": {"results": [{"request": "gpu", "driver": "gpu.example.com", "pool": "a", "device": "y"}]}}}});
    let (_, message) = world.fails(Method::PATCH, &status, other).await;
    assert!(
        message.contains("status.allocation") && message.contains("field is immutable"),
        "{message}"
    );
    let nothing = json!({"status": {"allocation": null, "reservedFor": null}});
    world.ok(Method::PATCH, &status, nothing).await;
}
