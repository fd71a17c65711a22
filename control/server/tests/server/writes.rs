//! What writes answer: the texts, codes and versions that clients rely on.

use http::Method;
use serde_json::{Value, json};

use crate::world::{deployment, pod, world};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn unknown_fields_are_refused_or_told() {
    let world = world().await;
    let mut object = deployment("a");
    object["spec"]["nonsense"] = json!(1);
    let (code, message) = world
        .fails(
            Method::POST,
            &format!("{DEPLOYMENTS}?fieldValidation=Strict"),
            object.clone(),
        )
        .await;
    assert_eq!(code, 400);
    assert!(
        message.ends_with("strict decoding error: unknown field \"spec.nonsense\""),
        "{message}"
    );
    let created = world.ok(Method::POST, DEPLOYMENTS, object).await;
    assert_eq!(created["spec"].get("nonsense"), None);
    let patch = json!({"spec": {"more": 1}});
    let (code, message) = world
        .fails(Method::PATCH, &format!("{DEPLOYMENTS}/a?fieldValidation=Strict"), patch)
        .await;
    assert_eq!(code, 422);
    assert!(
        message.contains("strict decoding error: unknown field \"spec.more\""),
        "{message}"
    );
}

#[tokio::test]
async fn names_are_generated() {
    let world = world().await;
    let object = || json!({"metadata": {"generateName": "x-"}});
    let one = world.ok(Method::POST, MAPS, object()).await;
    let two = world.ok(Method::POST, MAPS, object()).await;
    assert!(one["metadata"]["name"].as_str().unwrap().starts_with("x-"));
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
}

#[tokio::test]
async fn an_object_needs_a_living_namespace() {
    let world = world().await;
    let (code, message) = world
        .fails(
            Method::POST,
            "/api/v1/namespaces/none/configmaps",
            json!({"metadata": {"name": "a"}}),
        )
        .await;
    assert_eq!((code, message.as_str()), (404, "namespaces \"none\" not found"));
    world
        .ok(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "a"}}))
        .await;
    let going = world.ok(Method::DELETE, "/api/v1/namespaces/a", Value::Null).await;
    assert_eq!(going["status"]["phase"], "Terminating");
    let (code, _) = world
        .fails(
            Method::POST,
            "/api/v1/namespaces/a/configmaps",
            json!({"metadata": {"name": "a"}}),
        )
        .await;
    assert_eq!(code, 403);
    let mut finalized = going;
    finalized["spec"]["finalizers"] = json!([]);
    world.ok(Method::PUT, "/api/v1/namespaces/a/finalize", finalized).await;
    assert_eq!(
        world.fails(Method::GET, "/api/v1/namespaces/a", Value::Null).await.0,
        404
    );
    assert_eq!(
        world
            .fails(Method::DELETE, "/api/v1/namespaces/default", Value::Null)
            .await
            .0,
        403
    );
}

#[tokio::test]
async fn a_pod_is_bound_once_and_deleted_gracefully() {
    let world = world().await;
    world.ok(Method::POST, PODS, pod("a")).await;
    let binding = || json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}});
    world.ok(Method::POST, &format!("{PODS}/a/binding"), binding()).await;
    let bound = world.get(&format!("{PODS}/a")).await;
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let (code, message) = world.fails(Method::POST, &format!("{PODS}/a/binding"), binding()).await;
    assert_eq!(code, 409);
    assert!(message.contains("already assigned to node \"n1\""), "{message}");
    let going = world.ok(Method::DELETE, &format!("{PODS}/a"), Value::Null).await;
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    let wrong = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}});
    assert_eq!(world.fails(Method::DELETE, &format!("{PODS}/a"), wrong).await.0, 409);
    let right = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": bound["metadata"]["uid"]}});
    assert_eq!(
        world.ok(Method::DELETE, &format!("{PODS}/a"), right).await["status"],
        "Success"
    );
    assert_eq!(world.fails(Method::GET, &format!("{PODS}/a"), Value::Null).await.0, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let world = world().await;
    let path = format!("{MAPS}/a");
    world
        .ok(
            Method::POST,
            MAPS,
            json!({"metadata": {"name": "a", "finalizers": ["x.io/y"]}}),
        )
        .await;
    let going = world.ok(Method::DELETE, &path, Value::Null).await;
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    world
        .ok(
            Method::PATCH,
            &path,
            json!([{"op": "remove", "path": "/metadata/finalizers"}]),
        )
        .await;
    assert_eq!(world.fails(Method::GET, &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let world = world().await;
    let path = format!("{DEPLOYMENTS}/a");
    let created = world.ok(Method::POST, DEPLOYMENTS, deployment("a")).await;
    assert_eq!(created["metadata"]["generation"], 1);
    let both = json!({"spec": {"replicas": 5}, "status": {"replicas": 3}});
    let status = world.ok(Method::PATCH, &format!("{path}/status"), both.clone()).await;
    assert_eq!(
        (&status["spec"]["replicas"], &status["status"]["replicas"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(status["metadata"]["generation"], 1);
    let main = world
        .ok(
            Method::PATCH,
            &path,
            json!({"spec": {"replicas": 5}, "status": {"replicas": 9}}),
        )
        .await;
    assert_eq!(
        (&main["spec"]["replicas"], &main["status"]["replicas"]),
        (&json!(5), &json!(3))
    );
    assert_eq!(main["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_scale_is_read_and_written() {
    let world = world().await;
    let path = format!("{DEPLOYMENTS}/a/scale");
    world.ok(Method::POST, DEPLOYMENTS, deployment("a")).await;
    let mut scale = world.get(&path).await;
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!(2), &json!("app=a"))
    );
    scale["spec"]["replicas"] = json!(4);
    assert_eq!(world.ok(Method::PUT, &path, scale.clone()).await["spec"]["replicas"], 4);
    assert_eq!(world.fails(Method::PUT, &path, scale).await.0, 409);
    let table = world.table(&path).await;
    let columns = table["columnDefinitions"].as_array().unwrap();
    let columns: Vec<&str> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
    assert_eq!(columns, ["Name", "Desired", "Available", "Age"]);
    let cells = &table["rows"][0]["cells"];
    assert_eq!((&cells[0], &cells[1], &cells[2]), (&json!("a"), &json!(4), &json!(0)));
    let patched = world.ok(Method::PATCH, &path, json!({"spec": {"replicas": 0}})).await;
    assert_eq!(patched["spec"].get("replicas"), None);
    let object = world.get(&format!("{DEPLOYMENTS}/a")).await;
    assert_eq!(
        (&object["spec"]["replicas"], &object["metadata"]["generation"]),
        (&json!(0), &json!(3))
    );
}

#[tokio::test]
async fn services_get_addresses_and_give_them_back() {
    let world = world().await;
    let list = "/api/v1/namespaces/default/services";
    let api = world.get(&format!("{list}/kubernetes")).await;
    assert_eq!(api["spec"]["clusterIP"], "10.96.0.1");
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
    let one = world.ok(Method::POST, list, service("one", spec)).await;
    let (address, port) = (
        one["spec"]["clusterIP"].clone(),
        one["spec"]["ports"][0]["nodePort"].as_u64().unwrap(),
    );
    assert!((30000..=32767).contains(&port));
    let same = json!({"clusterIP": address, "ports": [{"port": 80}]});
    let (code, message) = world.fails(Method::POST, list, service("two", same.clone())).await;
    assert_eq!(code, 422);
    assert!(message.contains("provided IP is already allocated"), "{message}");
    // A dry run takes nothing.
    world
        .ok(
            Method::POST,
            &format!("{list}?dryRun=All"),
            service("dry", json!({"clusterIP": "10.96.7.7", "ports": [{"port": 80}]})),
        )
        .await;
    world
        .ok(
            Method::POST,
            list,
            service("three", json!({"clusterIP": "10.96.7.7", "ports": [{"port": 80}]})),
        )
        .await;
    world.ok(Method::DELETE, &format!("{list}/one"), Value::Null).await;
    world.ok(Method::POST, list, service("two", same)).await;
}

#[tokio::test]
async fn lists_are_paged_at_one_revision() {
    let world = world().await;
    for name in ["a", "b", "c", "d", "e"] {
        world.ok(Method::POST, MAPS, json!({"metadata": {"name": name}})).await;
    }
    let first = world.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    world.ok(Method::DELETE, &format!("{MAPS}/c"), Value::Null).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = world.get(&format!("{MAPS}?limit=10&continue={token}")).await;
    assert_eq!(
        rest["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let names: Vec<&str> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["c", "d", "e"]);
    assert_eq!(rest["metadata"].get("continue"), None);
    let (code, message) = world
        .fails(Method::GET, &format!("{MAPS}?resourceVersion=999999"), Value::Null)
        .await;
    assert_eq!(code, 504);
    assert!(message.contains("Too large resource version"), "{message}");
}

#[tokio::test]
async fn nonsense_is_answered_with_a_status() {
    let world = world().await;
    let post = |path: &'static str, body| world.fails(Method::POST, path, body);
    assert_eq!(post(PODS, json!([1])).await.0, 400);
    assert_eq!(post(PODS, json!({"kind": "Service", "apiVersion": "v1"})).await.0, 400);
    assert_eq!(
        post(PODS, json!({"metadata": {"name": "a", "namespace": "other"}}))
            .await
            .0,
        400
    );
    assert_eq!(post(PODS, json!({"metadata": {"name": "a"}})).await.0, 422);
    assert_eq!(post("/api/v1/namespaces/default/nothing", json!({})).await.0, 404);
    assert_eq!(
        post("/api/v1/namespaces/default/pods/a/nothing", json!({})).await.0,
        404
    );
    assert_eq!(
        world.fails(Method::DELETE, "/api/v1/namespaces", Value::Null).await.0,
        405
    );
    let large = json!({"metadata": {"name": "a"}, "data": {"x": "y".repeat(4 << 20)}});
    assert_eq!(world.fails(Method::POST, MAPS, large).await.0, 413);
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    for _ in 0..100 {
        deep = json!({"a": deep});
    }
    assert_eq!(world.fails(Method::POST, MAPS, deep).await.0, 400);
}

#[tokio::test]
async fn a_replace_creates_only_where_that_is_the_custom() {
    let world = world().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    world
        .ok(Method::PUT, &format!("{leases}/a"), json!({"metadata": {"name": "a"}}))
        .await;
    assert_eq!(
        world
            .fails(Method::PUT, &format!("{leases}/a"), json!({"metadata": {"name": "a"}}))
            .await
            .0,
        422
    );
    assert_eq!(
        world
            .fails(Method::PUT, &format!("{MAPS}/a"), json!({"metadata": {"name": "a"}}))
            .await
            .0,
        404
    );
}
