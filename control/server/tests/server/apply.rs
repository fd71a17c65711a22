//! Server-side apply and the owners of fields, as clients see them.

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::{World, deployment, pod, world};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn patch(world: &World, content_type: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(path)
        .header("content-type", content_type)
        .header("user-agent", "tester/1.0 (linux)");
    let request = request.body(Full::new(body.to_string().into())).unwrap();
    let answer = world.admin().oneshot(request).await.unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

async fn apply(world: &World, path: &str, body: Value) -> (StatusCode, Value) {
    patch(world, "application/apply-patch+yaml", path, body).await
}

fn config(name: &str) -> Value {
    let mut config = deployment(name);
    config["apiVersion"] = json!("apps/v1");
    config["kind"] = json!("Deployment");
    config
}

fn owners(object: &Value) -> Vec<(String, String, String)> {
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            (
                text(entry, "manager"),
                text(entry, "operation"),
                text(entry, "subresource"),
            )
        })
        .collect()
}

fn owner(manager: &str, operation: &str, subresource: &str) -> (String, String, String) {
    (manager.to_owned(), operation.to_owned(), subresource.to_owned())
}

#[tokio::test]
async fn an_apply_creates_and_the_same_again_changes_nothing() {
    let world = world().await;
    let path = format!("{DEPLOYMENTS}/a?fieldManager=me");
    let (status, created) = apply(&world, &path, config("a")).await;
    assert_eq!(status, 201, "{created}");
    assert_eq!(owners(&created), [owner("me", "Apply", "")]);
    assert_eq!(created["metadata"]["generation"], 1);
    assert_eq!(created["spec"]["strategy"]["type"], "RollingUpdate");
    let fields = &created["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(fields["f:spec"]["f:replicas"], json!({}));
    assert_eq!(fields["f:spec"].get("f:strategy"), None, "defaults are nobody's");
    let (status, again) = apply(&world, &path, config("a")).await;
    assert_eq!((status, &again), (StatusCode::OK, &created));
}

#[tokio::test]
async fn fields_no_longer_applied_go_and_fields_of_others_conflict() {
    let world = world().await;
    let path = format!("{DEPLOYMENTS}/a?fieldManager=me");
    let mut first = config("a");
    first["metadata"]["labels"] = json!({"x": "1", "y": "2"});
    apply(&world, &path, first.clone()).await;
    first["metadata"]["labels"].as_object_mut().unwrap().shift_remove("y");
    let (_, second) = apply(&world, &path, first.clone()).await;
    assert_eq!(second["metadata"]["labels"], json!({"x": "1"}));

    let (status, scaled) = patch(
        &world,
        "application/merge-patch+json",
        &format!("{DEPLOYMENTS}/a"),
        json!({"spec": {"replicas": 5}}),
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(
        owners(&scaled),
        [owner("me", "Apply", ""), owner("tester", "Update", "")]
    );
    let (status, error) = apply(&world, &path, first.clone()).await;
    assert_eq!((status.as_u16(), error["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(
        error["message"],
        "Apply failed with 1 conflict: conflict with \"tester\" using apps/v1: .spec.replicas"
    );
    assert_eq!(
        error["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"tester\" using apps/v1", "field": ".spec.replicas"}])
    );
    let (status, forced) = apply(&world, &format!("{path}&force=true"), first).await;
    assert_eq!(status, 200);
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(owners(&forced), [owner("me", "Apply", "")]);
}

#[tokio::test]
async fn who_applies_must_say_so_and_be_right() {
    let world = world().await;
    let message = |answer: (StatusCode, Value)| (answer.0.as_u16(), answer.1["message"].as_str().unwrap().to_owned());
    let path = format!("{DEPLOYMENTS}/a?fieldManager=me");
    assert_eq!(
        message(apply(&world, &format!("{DEPLOYMENTS}/a"), config("a")).await),
        (
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
                .to_owned()
        )
    );
    let forced = patch(
        &world,
        "application/merge-patch+json",
        &format!("{path}&force=true"),
        json!({}),
    )
    .await;
    assert_eq!(
        message(forced).1,
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
    );
    let mut wrong = config("a");
    wrong["spec"]["nonsense"] = json!(1);
    assert_eq!(
        message(apply(&world, &path, wrong).await),
        (
            500,
            "failed to create typed patch object (default/a; apps/v1, Kind=Deployment): .spec.nonsense: field not declared in schema".to_owned()
        )
    );
    let mut owned = config("a");
    owned["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        message(apply(&world, &path, owned).await),
        (400, "metadata.managedFields must be nil".to_owned())
    );
    let mut other = config("a");
    other["kind"] = json!("ReplicaSet");
    assert_eq!(apply(&world, &path, other).await.0, 400);
    assert_eq!(apply(&world, &path, config("b")).await.0, 400);
    assert_eq!(apply(&world, &path, json!({"metadata": {"name": "a"}})).await.0, 400);
    let mut known = config("a");
    known["metadata"]["uid"] = json!("u");
    assert_eq!(apply(&world, &path, known).await.0, 409);
    assert_eq!(
        world
            .fails(Method::GET, &format!("{DEPLOYMENTS}/a"), Value::Null)
            .await
            .0,
        404
    );
    assert_eq!(
        apply(&world, &format!("{DEPLOYMENTS}/a/status?fieldManager=me"), config("a"))
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn a_dry_run_applies_nothing() {
    let world = world().await;
    let path = format!("{DEPLOYMENTS}/a?fieldManager=me&dryRun=All");
    let (status, made) = apply(&world, &path, config("a")).await;
    assert_eq!((status.as_u16(), &made["spec"]["replicas"]), (201, &json!(2)));
    assert_eq!(
        world
            .fails(Method::GET, &format!("{DEPLOYMENTS}/a"), Value::Null)
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn every_write_leaves_its_owner_once() {
    let world = world().await;
    let created = world
        .ok(
            Method::POST,
            &format!("{DEPLOYMENTS}?fieldManager=maker"),
            deployment("a"),
        )
        .await;
    assert_eq!(owners(&created), [owner("maker", "Update", "")]);
    let path = format!("{DEPLOYMENTS}/a");
    for replicas in 1..5 {
        world
            .ok(
                Method::PATCH,
                &format!("{path}/status?fieldManager=controller"),
                json!({"status": {"replicas": replicas, "observedGeneration": replicas}}),
            )
            .await;
        world
            .ok(
                Method::PUT,
                &format!("{path}/scale?fieldManager=scaler"),
                json!({"metadata": {"name": "a"}, "spec": {"replicas": replicas + 5}}),
            )
            .await;
    }
    let found = world.get(&path).await;
    assert_eq!(found["spec"]["replicas"], 9);
    let mut all = owners(&found);
    all.sort();
    assert_eq!(
        all,
        [
            owner("controller", "Update", "status"),
            owner("maker", "Update", ""),
            owner("scaler", "Update", "scale")
        ]
    );
    let fields = |manager: &str| {
        let list = found["metadata"]["managedFields"].as_array().unwrap();
        list.iter().find(|entry| entry["manager"] == manager).unwrap()["fieldsV1"].clone()
    };
    assert_eq!(fields("scaler"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(
        fields("controller"),
        json!({"f:status": {"f:observedGeneration": {}, "f:replicas": {}}})
    );
    assert_eq!(fields("maker")["f:spec"].get("f:replicas"), None);
    assert_eq!(fields("maker").get("f:status"), None);

    // The same values again are no write at all, whoever writes them.
    let again = world
        .ok(
            Method::PATCH,
            &format!("{path}?fieldManager=late"),
            json!({"spec": {"replicas": 9}}),
        )
        .await;
    assert_eq!(again, found);
    let echo = world
        .ok(Method::PUT, &format!("{path}?fieldManager=late"), found.clone())
        .await;
    assert_eq!(echo, found);
    let (_, error) = apply(&world, &format!("{path}?fieldManager=me"), config("a")).await;
    assert_eq!(
        error["message"],
        "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
}

#[tokio::test]
async fn what_the_server_hands_out_is_nobodys() {
    let world = world().await;
    let services = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let made = world.ok(Method::POST, services, service).await;
    assert!(made["spec"]["clusterIP"].is_string());
    let fields = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(fields.get("f:clusterIP"), None);
    assert!(fields.get("f:ports").is_some());
    let pod = world.ok(Method::POST, PODS, pod("a")).await;
    assert_eq!(pod["metadata"]["managedFields"][0]["fieldsV1"].get("f:status"), None);
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}});
    world.ok(Method::POST, &format!("{PODS}/a/binding"), binding).await;
    let bound = world.get(&format!("{PODS}/a")).await;
    assert_eq!(bound["metadata"]["managedFields"], pod["metadata"]["managedFields"]);
}

#[tokio::test]
async fn status_and_scale_are_applied_through_their_own_doors() {
    let world = world().await;
    apply(&world, &format!("{DEPLOYMENTS}/a?fieldManager=me"), config("a")).await;
    let mut state = config("a");
    state["spec"]["replicas"] = json!(50);
    state["metadata"]["labels"] = json!({"no": "thing"});
    state["status"] = json!({"replicas": 4});
    let (status, after) = apply(&world, &format!("{DEPLOYMENTS}/a/status?fieldManager=it"), state).await;
    assert_eq!(status, 200, "{after}");
    assert_eq!(
        (&after["spec"]["replicas"], &after["status"]["replicas"]),
        (&json!(2), &json!(4))
    );
    assert_eq!(after["metadata"].get("labels"), None);
    assert_eq!(
        owners(&after),
        [owner("it", "Apply", "status"), owner("me", "Apply", "")]
    );
    let scale =
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"}, "spec": {"replicas": 6}});
    let scale_path = format!("{DEPLOYMENTS}/a/scale?fieldManager=auto");
    let (status, error) = apply(&world, &scale_path, scale.clone()).await;
    assert_eq!(status, 409);
    assert_eq!(
        error["message"],
        "Apply failed with 1 conflict: conflict with \"me\": .spec.replicas"
    );
    let (status, scaled) = apply(&world, &format!("{scale_path}&force=true"), scale).await;
    assert_eq!((status.as_u16(), &scaled["spec"]["replicas"]), (200, &json!(6)));
    let found = world.get(&format!("{DEPLOYMENTS}/a")).await;
    assert_eq!(found["metadata"]["generation"], 2);
    assert!(owners(&found).contains(&owner("auto", "Apply", "scale")));
    // Who handed the number over no longer states it.
    let mut less = config("a");
    less["spec"].as_object_mut().unwrap().shift_remove("replicas");
    let (_, after) = apply(&world, &format!("{DEPLOYMENTS}/a?fieldManager=me"), less).await;
    assert_eq!(after["spec"]["replicas"], 6);
}

#[tokio::test]
async fn owners_can_be_forgotten_and_replaced() {
    let world = world().await;
    let made = world
        .ok(
            Method::POST,
            &format!("{MAPS}?fieldManager=one"),
            json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
        )
        .await;
    let path = format!("{MAPS}/a");
    let version = &made["metadata"]["resourceVersion"];
    let mut moved = made["metadata"]["managedFields"].clone();
    moved[0]["manager"] = json!("two");
    moved[0]["operation"] = json!("Apply");
    let operations = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": moved},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
    ]);
    let after = world.ok(Method::PATCH, &path, operations).await;
    assert_eq!(owners(&after), [owner("two", "Apply", "")]);
    assert_ne!(after["metadata"]["resourceVersion"], *version);
    let forget = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]);
    let after = world.ok(Method::PATCH, &path, forget).await;
    assert_eq!(after["metadata"].get("managedFields"), None);
    // Nothing is recorded until somebody applies; then what was there belongs to those before.
    let after = world.ok(Method::PATCH, &path, json!({"data": {"more": "1"}})).await;
    assert_eq!(after["metadata"].get("managedFields"), None);
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "w"}});
    let (status, error) = apply(&world, &format!("{path}?fieldManager=me"), config).await;
    assert_eq!(status, 409);
    assert_eq!(
        error["message"],
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k"
    );
}

#[tokio::test]
async fn many_writers_do_not_blow_up_an_object() {
    let world = world().await;
    world
        .ok(
            Method::POST,
            MAPS,
            json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
        )
        .await;
    for n in 0..40 {
        let path = format!("{MAPS}/a?fieldManager=m{n}");
        world
            .ok(Method::PATCH, &path, json!({"data": {format!("k{n}"): "v"}}))
            .await;
    }
    let found = world.get(&format!("{MAPS}/a")).await;
    assert_eq!(owners(&found).len(), 10);
    assert!(owners(&found).contains(&owner("ancient-changes", "Update", "")));
}

#[tokio::test]
async fn two_appliers_race_and_both_win() {
    let world = std::sync::Arc::new(world().await);
    let appliers = (0..8).map(|n| {
        let world = world.clone();
        tokio::spawn(async move {
            let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {format!("k{n}"): "v"}});
            apply(&world, &format!("{MAPS}/shared?fieldManager=m{n}"), config).await.0
        })
    });
    for applied in futures::future::join_all(appliers).await {
        assert!(applied.unwrap().is_success());
    }
    let found = world.get(&format!("{MAPS}/shared")).await;
    assert_eq!(found["data"].as_object().unwrap().len(), 8);
    assert_eq!(owners(&found).len(), 8);
}
