//! In-cluster clients: a guest finds the API server, a token and the cluster's authority, and roles decide what it may.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{ListParams, PostParams};

use crate::world::{World, ended};

const PODS: &str = "/api/v1/namespaces/default/pods";
const ACCESS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_calls_the_api_as_its_service_account() {
    let world = World::start().await;
    world.load_probe();
    let by_name = ["api", "kubernetes.default.svc", PODS];
    let refused = world.output("refused", "probe", &by_name).await;
    assert!(
        refused.starts_with("403 ") && refused.contains("system:serviceaccount:default:default"),
        "{refused}"
    );
    world
        .apply(
            "apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reads, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: default, namespace: default}]
",
        )
        .await;
    let allowed = world.output("allowed", "probe", &by_name).await;
    assert!(
        allowed.starts_with("200 ") && allowed.contains("\"name\":\"refused\""),
        "{allowed}"
    );
    let variables = ["api", "$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)", PODS];
    let by_variables = world.output("by-variables", "probe", &variables).await;
    assert!(by_variables.starts_with("200 "), "{by_variables}");
    let wrong = world
        .output("wrong-name", "probe", &["api", "10.244.0.1:443", PODS])
        .await;
    assert!(
        !wrong.starts_with("200 "),
        "only the service's port leads to the API: {wrong}"
    );
    // The loopback of the host, where the server listens, stays out of reach.
    let port = world.cluster.access().server.rsplit_once(':').unwrap().1.to_owned();
    let loopback = world
        .output("loopback", "probe", &["connect", &format!("127.0.0.1:{port}")])
        .await;
    assert!(loopback.contains("ConnectionRefused"), "{loopback}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_access_are_there_unless_they_are_not_wanted() {
    let world = World::start().await;
    world.load_probe();
    let ca = world
        .output("ca", "probe", &["read", &format!("{ACCESS}/ca.crt")])
        .await;
    assert!(ca.contains("BEGIN CERTIFICATE"), "{ca}");
    let namespace = world
        .output("namespace", "probe", &["read", &format!("{ACCESS}/namespace")])
        .await;
    assert_eq!(namespace, "Ok(\"default\")\n");
    let pod = world.all::<Pod>().get("ca").await.unwrap().spec.unwrap();
    let volume = &pod.volumes.as_ref().unwrap()[0];
    assert!(volume.name.starts_with("kube-api-access-"), "{volume:?}");
    let mount = &pod.containers[0].volume_mounts.as_ref().unwrap()[0];
    assert_eq!((mount.mount_path.as_str(), mount.read_only), (ACCESS, Some(true)));

    let unwanted: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "unwanted"},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": false,
                 "containers": [{"name": "main", "image": "probe", "args": ["list", ACCESS]}]},
    }))
    .unwrap();
    world
        .all::<Pod>()
        .create(&PostParams::default(), &unwanted)
        .await
        .unwrap();
    let unwanted = world.pod("unwanted", ended).await;
    assert!(unwanted.spec.unwrap().volumes.unwrap_or_default().is_empty());
    assert!(world.log("unwanted", "main").await.starts_with("Err("));

    let services = world.all::<Service>().list(&ListParams::default()).await.unwrap();
    assert_eq!(services.items[0].metadata.name.as_deref(), Some("kubernetes"));
    let endpoints = world
        .kubectl(&["get", "endpointslices", "kubernetes", "-o", "wide"])
        .await;
    assert!(endpoints.contains("10.244.0.1"), "{endpoints}");
}
