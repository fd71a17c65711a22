//! `metrics.k8s.io`: what nodes tell, as objects that are read.

use http::Method;
use serde_json::json;

use crate::world::world;

const ROOT: &str = "/apis/metrics.k8s.io/v1beta1";

#[tokio::test]
async fn nodes_are_measured_when_somebody_reads() {
    let world = world().await;
    for (name, zone) in [("a", "x"), ("b", "y"), ("silent", "x")] {
        let node = json!({"metadata": {"name": name, "labels": {"zone": zone}}});
        world.ok(Method::POST, "/api/v1/nodes", node).await;
    }
    let all = world.get(&format!("{ROOT}/nodes")).await;
    assert_eq!(
        (&all["kind"], all["items"].as_array().unwrap().len()),
        (&json!("NodeMetricsList"), 2)
    );
    let one = world.get(&format!("{ROOT}/nodes?labelSelector=zone%3Dx")).await;
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    assert_eq!(one["items"][0]["usage"], json!({"cpu": "250m", "memory": "3Mi"}));
    assert_eq!(one["items"][0]["metadata"]["name"], "a");
    let named = world.get(&format!("{ROOT}/nodes/b")).await;
    assert_eq!(
        (&named["kind"], &named["window"]),
        (&json!("NodeMetrics"), &json!("5s"))
    );
    let (code, message) = world
        .fails(Method::GET, &format!("{ROOT}/nodes/silent"), json!({}))
        .await;
    assert_eq!(
        (code, message.as_str()),
        (404, "nodes.metrics.k8s.io \"silent\" not found")
    );
    let (code, _) = world.fails(Method::DELETE, &format!("{ROOT}/nodes/a"), json!({})).await;
    assert_eq!(code, 405);
}

#[tokio::test]
async fn the_nodes_own_api_is_behind_its_proxy() {
    let world = world().await;
    world
        .ok(Method::POST, "/api/v1/nodes", json!({"metadata": {"name": "a"}}))
        .await;
    let told = world
        .get("/api/v1/nodes/a/proxy/stats/summary?only_cpu_and_memory=true")
        .await;
    assert_eq!(told["asked"], "/stats/summary?only_cpu_and_memory=true");
}
