//! The addresses of services as objects.

use http::Method;
use serde_json::{Value, json};

use crate::world::{condition, world};

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
