//! Network policies, as users write them.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::DeleteParams;

use crate::world::{World, ready};

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_denies_all_opens_step_by_step() {
    let world = World::start().await;
    world.load_probe();
    let deny = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
";
    world.apply(deny).await;
    world
        .apply(
            "apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  containers:
  - {name: main, image: hello, ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: server}, ports: [{port: 80, targetPort: http}]}
",
        )
        .await;
    // The kubelet's probes and port-forward reach a pod that nobody else may reach.
    world.pod("server", ready).await;
    assert!(world.http("server", 8080).await.contains("Hello"));
    let ip = crate::world::pod_ip(&world.pod("server", ready).await);
    let address = format!("{ip}:8080");

    // A policy that is there when a pod starts holds from its first instruction, for names as well.
    let said = world.output("client", "probe", &["connect", "web:80", &address]).await;
    assert!(!said.contains("reached"), "{said}");
    assert!(said.contains(&format!("{address}: PermissionDenied")), "{said}");

    let allow = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}], ports: [{port: http}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: friend}}
  policyTypes: [Egress]
  egress:
  - {to: [{podSelector: {matchLabels: {app: server}}}]}
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]
    ports: [{port: 53, protocol: UDP}]
";
    // A probe that tries until it is let through waits for the policies to arrive at the node.
    world
        .run("friend", "caller", &["http://web/", "--every", "0.1"], "")
        .await;
    world.apply(allow).await;
    world.says("friend", "main", "Hello from server").await;
    let said = world.output("stranger", "probe", &["connect", &address]).await;
    assert!(said.contains("PermissionDenied"), "{said}");

    let policies: kube::Api<NetworkPolicy> = world.all();
    for name in ["deny-all", "server", "friends"] {
        policies.delete(name, &DeleteParams::default()).await.unwrap();
    }
    world
        .run("late", "caller", &["http://web/", "--every", "0.1"], "")
        .await;
    world.says("late", "main", "Hello from server").await;
}
