//! Admission webhooks: servers in the pod network that change and refuse writes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::FutureExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

use crate::world::{World, pod, world};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// What a webhook was asked, in order.
pub type Asked = Arc<Mutex<Vec<Value>>>;

/// A webhook at `NAME.default.svc` that answers as `decide` says; its address and authority, as a configuration wants them.
pub fn hook(world: &World, name: &str, decide: impl Fn(&Value) -> Value + Send + Sync + 'static) -> (Value, Asked) {
    let asked = Asked::default();
    let log = asked.clone();
    let decide = Arc::new(decide);
    let ca = world
        .net
        .serve_tls(&format!("{name}.default.svc"), 443, move |request: Request<Bytes>| {
            let (log, decide) = (log.clone(), decide.clone());
            async move {
                let review: Value = serde_json::from_slice(request.body()).unwrap();
                let question = review["request"].clone();
                let mut response = decide(&question);
                response["uid"] = question["uid"].clone();
                log.lock().push(question);
                let answer =
                    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
                Response::new(answer.to_string().into())
            }
            .boxed()
        });
    let client =
        json!({"service": {"name": name, "namespace": "default", "path": "/check"}, "caBundle": STANDARD.encode(ca)});
    (client, asked)
}

pub fn patch(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

pub fn webhook(name: &str, client: Value, resources: &[&str], more: Value) -> Value {
    let mut webhook = json!({
        "name": format!("{name}.example.com"), "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources}],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        webhook[key] = value.clone();
    }
    webhook
}

pub async fn configure(world: &World, kind: &str, name: &str, webhooks: Vec<Value>) {
    let plural = format!("{}s", kind.to_lowercase());
    let object = json!({"metadata": {"name": name}, "webhooks": webhooks});
    world.ok(Method::POST, &format!("{GROUP}/{plural}"), object).await;
}

pub const MUTATING: &str = "MutatingWebhookConfiguration";
pub const VALIDATING: &str = "ValidatingWebhookConfiguration";

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "1"}})
}

#[tokio::test]
async fn a_mutating_webhook_changes_what_is_stored() {
    let world = world().await;
    let (client, asked) = hook(&world, "adder", |_| {
        patch(json!([{"op": "add", "path": "/data/added", "value": "yes"}]))
    });
    configure(
        &world,
        MUTATING,
        "m",
        vec![webhook("adder", client, &["configmaps"], json!({}))],
    )
    .await;
    let made = world.ok(Method::POST, MAPS, map("a")).await;
    assert_eq!(made["data"], json!({"a": "1", "added": "yes"}));
    let question = asked.lock()[0].clone();
    assert_eq!(question["operation"], "CREATE");
    assert_eq!(
        question["resource"],
        json!({"group": "", "version": "v1", "resource": "configmaps"})
    );
    assert_eq!(
        (&question["name"], &question["namespace"]),
        (&json!("a"), &json!("default"))
    );
    assert_eq!(question["userInfo"]["username"], "coracle-admin");
    assert_eq!(question["object"]["data"], json!({"a": "1"}));
    assert_eq!(
        (&question["oldObject"], &question["dryRun"]),
        (&Value::Null, &json!(false))
    );
    assert_eq!(question["options"]["kind"], "CreateOptions");
    // What a webhook was not asked for is left alone.
    world
        .ok(Method::POST, "/api/v1/namespaces/default/pods", pod("p"))
        .await;
    assert_eq!(asked.lock().len(), 1);
}

#[tokio::test]
async fn a_validating_webhook_refuses_creates_updates_and_deletes() {
    let world = world().await;
    world.ok(Method::POST, MAPS, map("kept")).await;
    let (client, asked) = hook(&world, "guard", |question| {
        match question["operation"].as_str().unwrap() {
            "CREATE" => json!({"allowed": true, "warnings": ["careful"]}),
            operation => {
                json!({"allowed": false, "status": {"message": format!("no {operation}"), "code": 403, "reason": "Forbidden"}})
            }
        }
    });
    configure(
        &world,
        VALIDATING,
        "v",
        vec![webhook("guard", client, &["configmaps"], json!({}))],
    )
    .await;
    let request = Request::post(MAPS)
        .body(Full::new(Bytes::from(map("b").to_string())))
        .unwrap();
    let answer = world.admin().oneshot(request).await.unwrap();
    assert_eq!(answer.headers()["warning"], "299 - \"careful\"");
    answer.into_body().collect().await.unwrap();
    for (method, operation) in [(Method::PATCH, "UPDATE"), (Method::DELETE, "DELETE")] {
        let (code, message) = world
            .fails(method, &format!("{MAPS}/kept"), json!({"data": {"a": "2"}}))
            .await;
        assert_eq!(code, 403);
        assert_eq!(
            message,
            format!("admission webhook \"guard.example.com\" denied the request: no {operation}")
        );
    }
    assert_eq!(world.get(&format!("{MAPS}/kept")).await["data"]["a"], "1");
    let last = asked.lock().last().unwrap().clone();
    assert_eq!(
        (&last["object"], &last["oldObject"]["data"]["a"]),
        (&Value::Null, &json!("1"))
    );
}

#[tokio::test]
async fn a_webhook_that_fails_blocks_or_is_ignored_as_it_says() {
    let world = world().await;
    let nobody = json!({"service": {"name": "nobody", "namespace": "default"}});
    configure(
        &world,
        VALIDATING,
        "v",
        vec![webhook("strict", nobody.clone(), &["configmaps"], json!({}))],
    )
    .await;
    let (code, message) = world.fails(Method::POST, MAPS, map("a")).await;
    assert_eq!(code, 500);
    assert!(
        message.starts_with("Internal error occurred: failed calling webhook \"strict.example.com\": failed to call webhook: Post \"https://nobody.default.svc:443/?timeout=10s\": "),
        "{message}"
    );
    // The configuration itself can always be changed.
    let object = json!({"webhooks": [webhook("strict", nobody, &["*/*"], json!({"failurePolicy": "Ignore"}))]});
    world
        .ok(
            Method::PATCH,
            &format!("{GROUP}/validatingwebhookconfigurations/v"),
            object,
        )
        .await;
    world.ok(Method::POST, MAPS, map("a")).await;
}

#[tokio::test]
async fn selectors_choose_namespaces_and_objects() {
    let world = world().await;
    world
        .ok(
            Method::POST,
            "/api/v1/namespaces",
            json!({"metadata": {"name": "marked", "labels": {"on": "yes"}}}),
        )
        .await;
    let (client, asked) = hook(&world, "all", |_| json!({"allowed": true}));
    let namespaces = json!({"namespaceSelector": {"matchLabels": {"on": "yes"}}});
    let objects = json!({"objectSelector": {"matchLabels": {"look": "here"}}});
    configure(
        &world,
        VALIDATING,
        "v",
        vec![
            webhook("one", client.clone(), &["configmaps"], namespaces),
            webhook("two", client, &["configmaps"], objects),
        ],
    )
    .await;
    world.ok(Method::POST, MAPS, map("a")).await;
    assert_eq!(asked.lock().len(), 0);
    world
        .ok(Method::POST, "/api/v1/namespaces/marked/configmaps", map("a"))
        .await;
    assert_eq!(asked.lock().len(), 1);
    let mut labelled = map("b");
    labelled["metadata"]["labels"] = json!({"look": "here"});
    world.ok(Method::POST, MAPS, labelled).await;
    assert_eq!(asked.lock().len(), 2);
}

#[tokio::test]
async fn a_dry_run_needs_a_webhook_without_side_effects() {
    let world = world().await;
    let (client, _) = hook(&world, "writer", |_| json!({"allowed": true}));
    let some = json!({"sideEffects": "NoneOnDryRun"});
    configure(
        &world,
        VALIDATING,
        "v",
        vec![webhook("good", client, &["configmaps"], some)],
    )
    .await;
    world.ok(Method::POST, &format!("{MAPS}?dryRun=All"), map("a")).await;
    assert_eq!(world.fails(Method::GET, &format!("{MAPS}/a"), Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_webhook_that_wants_to_is_asked_again_after_a_change() {
    let world = world().await;
    let count = |question: &Value, key: &str| question["object"]["data"][key].as_str().map_or(0, str::len);
    let (first, asked) = hook(&world, "first", move |question| match count(question, "second") {
        0 => json!({"allowed": true}),
        _ => patch(json!([{"op": "add", "path": "/data/saw", "value": "it"}])),
    });
    let (second, _) = hook(&world, "second", |_| {
        patch(json!([{"op": "add", "path": "/data/second", "value": "x"}]))
    });
    configure(
        &world,
        MUTATING,
        "m",
        vec![
            webhook(
                "first",
                first,
                &["configmaps"],
                json!({"reinvocationPolicy": "IfNeeded"}),
            ),
            webhook("second", second, &["configmaps"], json!({})),
        ],
    )
    .await;
    let made = world.ok(Method::POST, MAPS, map("a")).await;
    assert_eq!(made["data"], json!({"a": "1", "second": "x", "saw": "it"}));
    assert_eq!(asked.lock().len(), 2);
}

#[tokio::test]
async fn a_connection_is_asked_about() {
    let world = world().await;
    let mut object = pod("a");
    object["spec"]["nodeName"] = json!("n1");
    world.ok(Method::POST, "/api/v1/namespaces/default/pods", object).await;
    let (client, asked) = hook(&world, "noexec", |_| json!({"allowed": false}));
    configure(
        &world,
        VALIDATING,
        "v",
        vec![webhook("noexec", client, &["pods/exec"], json!({}))],
    )
    .await;
    let path = "/api/v1/namespaces/default/pods/a/exec?command=ls&stdout=1";
    let (code, message) = world.fails(Method::POST, path, Value::Null).await;
    assert_eq!(code, 400);
    assert!(message.ends_with("denied the request without explanation"), "{message}");
    let question = asked.lock()[0].clone();
    assert_eq!(
        (&question["operation"], &question["subResource"]),
        (&json!("CONNECT"), &json!("exec"))
    );
    assert_eq!(question["object"]["command"], json!(["ls"]));
}

#[tokio::test]
async fn what_a_webhook_may_not_change_stays() {
    let world = world().await;
    let (client, _) = hook(&world, "rename", |_| {
        patch(json!([
            {"op": "replace", "path": "/metadata/name", "value": "other"},
            {"op": "add", "path": "/spec", "value": {"unknown": true}},
        ]))
    });
    configure(
        &world,
        MUTATING,
        "m",
        vec![webhook("rename", client, &["configmaps"], json!({}))],
    )
    .await;
    let made = world.ok(Method::POST, MAPS, map("a")).await;
    assert_eq!((&made["metadata"]["name"], &made["spec"]), (&json!("a"), &Value::Null));
}

#[tokio::test]
async fn match_conditions_decide_who_is_asked() {
    let world = world().await;
    let (client, asked) = hook(&world, "some", |_| json!({"allowed": true}));
    let conditions = json!({"matchConditions": [
        {"name": "marked", "expression": "object.data.mark == 'yes'"},
        {"name": "new", "expression": "request.operation == 'CREATE' && oldObject == null"},
    ]});
    configure(
        &world,
        VALIDATING,
        "v",
        vec![webhook("some", client, &["configmaps"], conditions)],
    )
    .await;
    world
        .ok(
            Method::POST,
            MAPS,
            json!({"metadata": {"name": "a"}, "data": {"mark": "no"}}),
        )
        .await;
    assert_eq!(asked.lock().len(), 0);
    world
        .ok(
            Method::POST,
            MAPS,
            json!({"metadata": {"name": "b"}, "data": {"mark": "yes"}}),
        )
        .await;
    assert_eq!(asked.lock().len(), 1);
    let (code, message) = world.fails(Method::POST, MAPS, map("c")).await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "configmaps \"c\" is forbidden: expression 'object.data.mark == 'yes'' resulted in error: no such key: mark"
    );
}

#[tokio::test]
async fn without_authorities_those_of_the_system_are_trusted() {
    let world = world().await;
    let (mut client, asked) = hook(&world, "own", |_| json!({"allowed": true}));
    client.as_object_mut().unwrap().remove("caBundle");
    configure(
        &world,
        VALIDATING,
        "v",
        vec![webhook("own", client, &["configmaps"], json!({}))],
    )
    .await;
    let (code, message) = world.fails(Method::POST, MAPS, map("a")).await;
    assert_eq!(code, 500);
    // No system knows the authority of this webhook; some machines know none at all.
    let untrusted = message.contains("UnknownIssuer") || message.contains("the system trusts no authority");
    assert!(untrusted, "{message}");
    assert_eq!(asked.lock().len(), 0);
}
