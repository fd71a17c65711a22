//! Services at the host's address.

use k8s_openapi::api::core::v1::Service;

use crate::world::{World, http, ready};

/// A port of the host that was free a moment ago.
async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

fn shown(service: &Service) -> Vec<String> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = balancer
        .into_iter()
        .flat_map(|balancer| balancer.ingress.iter().flatten());
    entries.filter_map(|entry| entry.ip.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_is_at_the_address_that_its_status_shows() {
    let world = World::start().await;
    let port = free_port().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let occupied = taken.local_addr().unwrap().port();
    world
        .apply(&format!(
            "apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{port: {port}, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: late}}
spec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{port: {occupied}, targetPort: 8080}}]}}
"
        ))
        .await;
    let service = world
        .until::<Service>(&world.all(), "web", |service| !shown(service).is_empty())
        .await;
    assert_eq!(shown(&service), ["127.0.0.1"]);
    world.event("EnsuredLoadBalancer").await;
    let said = world.event("SyncLoadBalancerFailed").await;
    assert!(said.contains(&format!("127.0.0.1:{occupied} is in use")), "{said}");
    let late = world.until::<Service>(&world.all(), "late", |_| true).await;
    assert!(shown(&late).is_empty());

    world.run("web", "hello", &["hello"], "").await;
    world.pod("web", ready).await;
    // What a pod is led to, the host is led to as well.
    let url = format!("http://web:{port}/");
    world.run("caller", "caller", &[&url, "--every", "0.1"], "").await;
    world.says("caller", "main", "Hello from web").await;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let answer = http(stream).await;
    assert!(answer.contains("Hello from web"), "{answer}");
}
