//! The addresses of services as objects.

use http::Method;
use serde_json::{Value, json};

use crate::world::{World, condition, world, world_where};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

#[tokio::test]
async fn an_address_says_whose_it_is_and_comes_back() {
    let world = world().await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    let made = world.ok(Method::POST, SERVICES, service).await;
    let address = made["spec"]["clusterIP"].as_str().unwrap();
    let object = world.until(ADDRESSES, address, |kind, _| kind == "ADDED").await;
    assert_eq!(
        object["spec"]["parentRef"],
        json!({"resource": "services", "namespace": "default", "name": "web"})
    );
    world
        .ok(Method::DELETE, &format!("{ADDRESSES}/{address}"), Value::Null)
        .await;
    let again = world.until(ADDRESSES, address, |kind, found| {
        kind == "ADDED" && found["metadata"]["uid"] != object["metadata"]["uid"]
    });
    again.await;
    let gone = world.until(ADDRESSES, address, |kind, _| kind == "DELETED");
    tokio::join!(gone, async {
        world.ok(Method::DELETE, &format!("{SERVICES}/web"), Value::Null).await;
    });
    let ready = |_: &str, range: &Value| condition(range, "Ready") == "True";
    let range = world.until(RANGES, "kubernetes", ready).await;
    assert_eq!(range["spec"]["cidrs"], json!(["10.96.0.0/12"]));
    world.until(ADDRESSES, "10.96.0.1", |kind, _| kind == "ADDED").await;
}

async fn service(world: &World, name: &str, spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": spec});
    service["spec"]["ports"] = json!([{"port": 80}]);
    world.ok(Method::POST, SERVICES, service).await
}

fn range(name: &str, cidr: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}})
}

#[tokio::test]
async fn a_range_that_is_added_gives_addresses_and_waits_for_them() {
    let world = world().await;
    let outside = json!({"metadata": {"name": "far"}, "spec": {"clusterIP": "172.30.0.3", "ports": [{"port": 80}]}});
    let (code, message) = world.fails(Method::POST, SERVICES, outside.clone()).await;
    assert_eq!(code, 422);
    assert!(
        message.contains("the provided network does not match the current range 10.96.0.0/12"),
        "{message}"
    );
    let made = world.ok(Method::POST, RANGES, range("far", "172.30.0.0/29")).await;
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["networking.k8s.io/service-cidr-finalizer"])
    );
    world.ok(Method::POST, SERVICES, outside).await;
    world.until(ADDRESSES, "172.30.0.3", |kind, _| kind == "ADDED").await;
    // Who has an address in it holds it, and nobody gets another.
    let marked = world.ok(Method::DELETE, &format!("{RANGES}/far"), Value::Null).await;
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let waits = world
        .until(RANGES, "far", |_, range| condition(range, "Ready") == "False")
        .await;
    assert_eq!(waits["status"]["conditions"][0]["reason"], "Terminating");
    let late = json!({"metadata": {"name": "late"}, "spec": {"clusterIP": "172.30.0.4", "ports": [{"port": 80}]}});
    assert_eq!(world.fails(Method::POST, SERVICES, late.clone()).await.0, 422);
    // What it has, a service keeps through other changes.
    let labels = json!({"metadata": {"labels": {"x": "y"}}});
    let kept = world.ok(Method::PATCH, &format!("{SERVICES}/far"), labels).await;
    assert_eq!(kept["spec"]["clusterIP"], "172.30.0.3");
    world.ok(Method::DELETE, &format!("{SERVICES}/far"), Value::Null).await;
    world.gone(RANGES, "far").await;
    assert_eq!(world.fails(Method::POST, SERVICES, late).await.0, 422);
}

#[tokio::test]
async fn when_a_range_is_full_the_next_one_gives() {
    let world = world_where(|config| config.service_cidr_prefix = 30).await;
    let one = service(&world, "one", json!({})).await;
    assert_eq!(one["spec"]["clusterIP"], "10.96.0.2");
    let two = json!({"metadata": {"name": "two"}, "spec": {"ports": [{"port": 80}]}});
    let (_, message) = world.fails(Method::POST, SERVICES, two.clone()).await;
    assert!(message.contains("range is full"), "{message}");
    world.ok(Method::POST, RANGES, range("more", "172.30.0.0/30")).await;
    let two = world.ok(Method::POST, SERVICES, two).await;
    assert_eq!(two["spec"]["clusterIP"], "172.30.0.2");
}

#[tokio::test]
async fn the_range_that_every_cluster_has_comes_back() {
    let world = world().await;
    let first = world.get(&format!("{RANGES}/kubernetes")).await;
    // A wider range holds the addresses meanwhile.
    world.ok(Method::POST, RANGES, range("wide", "10.0.0.0/8")).await;
    world
        .ok(Method::DELETE, &format!("{RANGES}/kubernetes"), Value::Null)
        .await;
    let again = world.until(RANGES, "kubernetes", |_, range| {
        range["metadata"]["uid"] != first["metadata"]["uid"] && condition(range, "Ready") == "True"
    });
    assert_eq!(again.await["spec"]["cidrs"], json!(["10.96.0.0/12"]));
}

#[tokio::test]
async fn what_others_do_to_addresses_is_respected_or_repaired() {
    let world = world().await;
    // An address that somebody keeps for something else.
    let parent = json!({"group": "example.com", "resource": "boats", "name": "one"});
    let claim = json!({"metadata": {"name": "10.96.8.8"}, "spec": {"parentRef": parent}});
    world.ok(Method::POST, ADDRESSES, claim).await;
    let wants = json!({"metadata": {"name": "wants"}, "spec": {"clusterIP": "10.96.8.8", "ports": [{"port": 80}]}});
    let (code, message) = world.fails(Method::POST, SERVICES, wants.clone()).await;
    assert_eq!(code, 422);
    assert!(message.contains("provided IP is already allocated"), "{message}");
    world
        .ok(Method::DELETE, &format!("{ADDRESSES}/10.96.8.8"), Value::Null)
        .await;
    world.ok(Method::POST, SERVICES, wants).await;
    let object = world.until(ADDRESSES, "10.96.8.8", |kind, _| kind == "ADDED").await;
    // The server's mark comes back.
    let unmarked = json!({"metadata": {"labels": {"ipaddress.kubernetes.io/managed-by": null}}});
    world
        .ok(Method::PATCH, &format!("{ADDRESSES}/10.96.8.8"), unmarked)
        .await;
    let repaired = world.until(ADDRESSES, "10.96.8.8", |kind, found| {
        kind == "ADDED" && found["metadata"]["uid"] != object["metadata"]["uid"]
    });
    assert_eq!(
        repaired.await["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"],
        "ipallocator.k8s.io"
    );
    // One that says of a service what is not so goes.
    let stray = json!({
        "metadata": {"name": "10.96.9.9", "labels": {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": "default", "name": "wants"}},
    });
    world.ok(Method::POST, ADDRESSES, stray).await;
    world.gone(ADDRESSES, "10.96.9.9").await;
}
