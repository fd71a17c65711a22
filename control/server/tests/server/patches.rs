//! Patches and the options of writes, as clients meet them.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::{World, deployment, world};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

struct Answer {
    code: u16,
    body: Value,
    warnings: Vec<String>,
}

impl Answer {
    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

async fn send(world: &World, method: Method, path: &str, media: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media);
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let answer = world.admin().oneshot(request).await.unwrap();
    let warnings = answer.headers().get_all("warning").iter();
    let warnings = warnings.map(|value| value.to_str().unwrap().to_owned()).collect();
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap();
    Answer { code, body, warnings }
}

async fn patch(world: &World, path: &str, media: &str, body: Value) -> Answer {
    send(world, Method::PATCH, path, media, &body.to_string()).await
}

#[tokio::test]
async fn fields_are_checked_as_strictly_as_asked() {
    let world = world().await;
    world.ok(Method::POST, DEPLOYMENTS, deployment("a")).await;
    let path = format!("{DEPLOYMENTS}/a");
    let body = json!({"spec": {"nonsense": 1, "replicas": 3}});
    let strict = patch(&world, &format!("{path}?fieldValidation=Strict"), MERGE, body.clone()).await;
    assert_eq!(strict.code, 422);
    assert!(
        strict
            .message()
            .contains("strict decoding error: unknown field \"spec.nonsense\""),
        "{}",
        strict.message()
    );
    let warned = patch(&world, &path, MERGE, body.clone()).await;
    assert_eq!((warned.code, &warned.body["spec"]["replicas"]), (200, &json!(3)));
    assert_eq!(warned.warnings, ["299 - \"unknown field \\\"spec.nonsense\\\"\""]);
    let silent = patch(&world, &format!("{path}?fieldValidation=Ignore"), MERGE, body).await;
    assert_eq!((silent.code, silent.warnings.len()), (200, 0));
    let unknown = patch(&world, &format!("{path}?fieldValidation=Some"), MERGE, json!({})).await;
    assert_eq!(
        unknown.message(),
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Some\": supported values: \"Ignore\", \"Strict\", \"Warn\""
    );
    let twice = r#"{"metadata":{"name":"b"},"data":{"k":"1","k":"2"}}"#;
    let strict = send(
        &world,
        Method::POST,
        &format!("{MAPS}?fieldValidation=Strict"),
        "application/json",
        twice,
    )
    .await;
    assert_eq!(strict.code, 400);
    assert!(
        strict
            .message()
            .ends_with("strict decoding error: duplicate field \"data.k\""),
        "{}",
        strict.message()
    );
    let made = send(&world, Method::POST, MAPS, "application/json", twice).await;
    assert_eq!((made.code, &made.body["data"]["k"]), (201, &json!("2")));
    assert_eq!(made.warnings, ["299 - \"duplicate field \\\"data.k\\\"\""]);
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata:\n  k: '1'\n  k: '2'\n";
    let applied = send(
        &world,
        Method::PATCH,
        &format!("{MAPS}/b?fieldManager=me&force=true&fieldValidation=Strict"),
        APPLY,
        yaml,
    )
    .await;
    assert_eq!(applied.code, 400);
    assert!(
        applied
            .message()
            .starts_with("error strict decoding YAML: line 6: key \"k\" already set in map"),
        "{}",
        applied.message()
    );
}

#[tokio::test]
async fn each_patch_type_says_what_is_wrong_with_it() {
    let world = world().await;
    world.ok(Method::POST, DEPLOYMENTS, deployment("a")).await;
    let path = format!("{DEPLOYMENTS}/a");
    let containers = |list: Value| json!({"spec": {"template": {"spec": {"containers": list}}}});
    let keyless = patch(&world, &path, STRATEGIC, containers(json!([{"image": "x"}]))).await;
    assert_eq!(keyless.code, 400);
    assert!(
        keyless.message().contains("does not contain declared merge key: name"),
        "{}",
        keyless.message()
    );
    let many = json!(vec![
        json!({"op": "test", "path": "/kind", "value": "Deployment"});
        10_001
    ]);
    let many = patch(&world, &path, JSON, many).await;
    assert_eq!(many.code, 413);
    assert!(many.message().contains("10000"), "{}", many.message());
    assert_eq!(
        patch(
            &world,
            &path,
            JSON,
            json!([{"op": "test", "path": "/kind", "value": "Pod"}])
        )
        .await
        .code,
        422
    );
    assert_eq!(
        patch(&world, &path, JSON, json!([{"op": "remove", "path": "/nothing"}]))
            .await
            .code,
        422
    );
    assert_eq!(patch(&world, &path, MERGE, json!([])).await.code, 400);
    let media = patch(&world, &path, "application/json", json!({})).await;
    assert_eq!(media.code, 415);
    assert!(
        media.message().contains("application/apply-patch+yaml"),
        "{}",
        media.message()
    );
    let named = patch(&world, &path, MERGE, json!({"metadata": {"name": "b"}})).await;
    assert_eq!(named.code, 400);
    assert_eq!(
        patch(&world, &format!("{DEPLOYMENTS}/none"), MERGE, json!({}))
            .await
            .code,
        404
    );
    let merged = patch(
        &world,
        &path,
        STRATEGIC,
        containers(json!([{"name": "side", "image": "s"}])),
    )
    .await;
    let list = merged.body["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap();
    assert_eq!(list.len(), 2);
    let gone = patch(
        &world,
        &path,
        STRATEGIC,
        containers(json!([{"name": "side", "$patch": "delete"}])),
    )
    .await;
    assert_eq!(
        gone.body["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let replaced = patch(
        &world,
        &path,
        MERGE,
        containers(json!([{"name": "only", "image": "o"}])),
    )
    .await;
    assert_eq!(
        replaced.body["spec"]["template"]["spec"]["containers"][0]["name"],
        "only"
    );
}

#[tokio::test]
async fn a_patch_with_a_version_is_a_condition_and_without_one_always_succeeds() {
    let world = std::sync::Arc::new(world().await);
    let made = world
        .ok(Method::POST, MAPS, json!({"metadata": {"name": "a"}, "data": {}}))
        .await;
    let path = format!("{MAPS}/a");
    let writers = (0..20).map(|n| {
        let (world, path) = (world.clone(), path.clone());
        tokio::spawn(async move {
            patch(&world, &path, MERGE, json!({"data": {format!("k{n}"): "v"}}))
                .await
                .code
        })
    });
    for code in futures::future::join_all(writers).await {
        assert_eq!(code.unwrap(), 200);
    }
    assert_eq!(world.get(&path).await["data"].as_object().unwrap().len(), 20);
    let stale = json!({"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"late": "v"}});
    let stale = patch(&world, &path, MERGE, stale).await;
    assert_eq!(stale.code, 409);
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let other = patch(&world, &path, MERGE, json!({"metadata": {"uid": "other"}})).await;
    assert_eq!(other.code, 409);
    assert!(
        other
            .message()
            .contains("Precondition failed: UID in precondition: other"),
        "{}",
        other.message()
    );
}

#[tokio::test]
async fn a_delete_can_name_what_it_means() {
    let world = world().await;
    let made = world.ok(Method::POST, MAPS, json!({"metadata": {"name": "a"}})).await;
    let path = format!("{MAPS}/a");
    let (uid, version) = (&made["metadata"]["uid"], &made["metadata"]["resourceVersion"]);
    let (code, message) = world
        .fails(
            Method::DELETE,
            &path,
            json!({"preconditions": {"resourceVersion": "1"}}),
        )
        .await;
    assert_eq!(code, 409);
    assert!(
        message.contains(&format!(
            "Precondition failed: ResourceVersion in precondition: 1, ResourceVersion in object meta: {}",
            version.as_str().unwrap()
        )),
        "{message}"
    );
    let (code, _) = world
        .fails(Method::DELETE, &path, json!({"preconditions": {"uid": "x"}}))
        .await;
    assert_eq!(code, 409);
    world
        .ok(
            Method::DELETE,
            &format!("{path}?dryRun=All"),
            json!({"preconditions": {"uid": uid}}),
        )
        .await;
    let right = json!({"preconditions": {"uid": uid, "resourceVersion": version}});
    world.ok(Method::DELETE, &path, right).await;
    assert_eq!(world.fails(Method::GET, &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_dry_run_shows_and_changes_nothing() {
    let world = world().await;
    let made = world
        .ok(
            Method::POST,
            MAPS,
            json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
        )
        .await;
    let path = format!("{MAPS}/a?dryRun=All");
    let shown = patch(&world, &path, MERGE, json!({"data": {"k": "w"}})).await;
    assert_eq!(shown.body["data"]["k"], "w");
    assert_eq!(
        shown.body["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    let mut other = made.clone();
    other["data"]["k"] = json!("x");
    assert_eq!(world.ok(Method::PUT, &path, other).await["data"]["k"], "x");
    assert_eq!(world.get(&format!("{MAPS}/a")).await, made);
}
