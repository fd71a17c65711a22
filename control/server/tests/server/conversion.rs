//! Custom kinds in several versions whose form differs: a webhook converts, on every way in and out.

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

use crate::world::{World, condition, send_as, world};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAME: &str = "sails.sea.example.com";

pub fn sails(version: &str) -> String {
    format!("/apis/sea.example.com/{version}/namespaces/default/sails")
}

/// The first version has one text of what the second has two numbers.
fn definition(authority: &str) -> Value {
    let schema = |spec: Value| json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}});
    let first = schema(json!({"size": {"type": "string"}, "colour": {"type": "string"}}));
    let second = schema(json!({
        "width": {"type": "integer"}, "height": {"type": "integer"}, "colour": {"type": "string", "default": "white"},
    }));
    json!({
        "metadata": {"name": NAME},
        "spec": {
            "group": "sea.example.com", "scope": "Namespaced", "names": {"plural": "sails", "kind": "Sail"},
            "conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"],
                "clientConfig": {
                    "service": {"namespace": "default", "name": "sailor", "path": "/convert"},
                    "caBundle": STANDARD.encode(authority),
                },
            }},
            "versions": [
                {
                    "name": "v1", "served": true, "storage": true, "schema": first,
                    "selectableFields": [{"jsonPath": ".spec.size"}],
                },
                {
                    "name": "v2", "served": true, "storage": false, "schema": second,
                    "selectableFields": [{"jsonPath": ".spec.width"}],
                },
            ],
        },
    })
}

/// Brings a sail into a version.
fn convert(mut sail: Value, desired: &str) -> Value {
    let spec = sail["spec"].clone();
    let mut next = json!({});
    if let Some(colour) = spec.get("colour") {
        next["colour"] = colour.clone();
    }
    match desired {
        "sea.example.com/v2" => {
            let (width, height) = spec["size"].as_str().unwrap().split_once('x').unwrap();
            next["width"] = json!(width.parse::<i64>().unwrap());
            next["height"] = json!(height.parse::<i64>().unwrap());
        }
        _ => next["size"] = json!(format!("{}x{}", spec["width"], spec["height"])),
    }
    sail["apiVersion"] = json!(desired);
    sail["spec"] = next;
    sail
}

/// What the webhook was asked, in order: the version that is wanted, and of how many objects.
type Asked = Arc<Mutex<Vec<(String, usize)>>>;

fn webhook(world: &World, change: impl Fn(Value) -> Value + Send + Sync + 'static) -> (String, Asked) {
    let asked = Asked::default();
    let log = asked.clone();
    let authority = world
        .net
        .serve_tls("sailor.default.svc", 443, move |request: Request<Bytes>| {
            let review: Value = serde_json::from_slice(request.body()).unwrap();
            let question = &review["request"];
            let desired = question["desiredAPIVersion"].as_str().unwrap();
            let objects = question["objects"].as_array().unwrap();
            log.lock().push((desired.to_owned(), objects.len()));
            let converted: Vec<Value> = objects
                .iter()
                .map(|sail| change(convert(sail.clone(), desired)))
                .collect();
            let answer = json!({
                "kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
                "response": {"uid": question["uid"], "result": {"status": "Success"}, "convertedObjects": converted},
            });
            async move { Response::new(answer.to_string().into()) }.boxed()
        });
    (authority, asked)
}

pub async fn with_sails(change: impl Fn(Value) -> Value + Send + Sync + 'static) -> (World, Asked) {
    let world = world().await;
    let (authority, asked) = webhook(&world, change);
    world.ok(Method::POST, DEFINITIONS, definition(&authority)).await;
    let established = |_: &str, object: &Value| condition(object, "Established") == "True";
    world.until(DEFINITIONS, NAME, established).await;
    (world, asked)
}

pub fn second(name: &str) -> Value {
    json!({"apiVersion": "sea.example.com/v2", "kind": "Sail", "metadata": {"name": name}, "spec": {"width": 3, "height": 4}})
}

#[tokio::test]
async fn an_object_is_what_each_version_says() {
    let (world, asked) = with_sails(|sail| sail).await;
    let made = world.ok(Method::POST, &sails("v2"), second("a")).await;
    assert_eq!(made["spec"], json!({"width": 3, "height": 4, "colour": "white"}));
    assert_eq!(made["metadata"]["generation"], 1);
    let first = world.get(&format!("{}/a", sails("v1"))).await;
    assert_eq!(
        (&first["apiVersion"], &first["spec"]),
        (&json!("sea.example.com/v1"), &json!({"size": "3x4", "colour": "white"}))
    );

    // Every kind of write through the version that is not stored.
    let path = format!("{}/a", sails("v2"));
    let merge = "application/merge-patch+json";
    let (_, patched) = send_as(
        world.admin(),
        Method::PATCH,
        &path,
        merge,
        json!({"spec": {"width": 5}}),
    )
    .await;
    assert_eq!(
        (&patched["spec"]["width"], &patched["metadata"]["generation"]),
        (&json!(5), &json!(2))
    );
    let apply = json!({"apiVersion": "sea.example.com/v2", "kind": "Sail", "spec": {"colour": "red"}});
    let forced = format!("{path}?fieldManager=painter&force=true");
    let (code, applied) = send_as(
        world.admin(),
        Method::PATCH,
        &forced,
        "application/apply-patch+yaml",
        apply,
    )
    .await;
    assert_eq!(
        (code.as_u16(), &applied["spec"]["colour"]),
        (200, &json!("red")),
        "{applied}"
    );
    let mut whole = world.get(&path).await;
    whole["spec"]["height"] = json!(9);
    world.ok(Method::PUT, &path, whole).await;
    assert_eq!(
        world.get(&format!("{}/a", sails("v1"))).await["spec"],
        json!({"size": "5x9", "colour": "red"})
    );
    // The same again changes nothing.
    let before = world.get(&path).await;
    let again = world.ok(Method::PUT, &path, before.clone()).await;
    assert_eq!(
        again["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );

    // A list is one question; the stored version needs none.
    for name in ["b", "c"] {
        world.ok(Method::POST, &sails("v2"), second(name)).await;
    }
    asked.lock().clear();
    let list = world.get(&sails("v2")).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 3);
    assert_eq!(list["items"][1]["spec"]["width"], 3);
    assert_eq!(*asked.lock(), [("sea.example.com/v2".to_owned(), 3)]);
    world.get(&sails("v1")).await;
    assert_eq!(asked.lock().len(), 1);

    world.ok(Method::DELETE, &path, Value::Null).await;
    assert_eq!(world.fails(Method::GET, &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_watch_shows_the_version_that_is_watched() {
    let (world, _) = with_sails(|sail| sail).await;
    let first = json!({"metadata": {"name": "a"}, "spec": {"size": "1x2"}});
    world.ok(Method::POST, &sails("v1"), first).await;
    let shown = world.until(&sails("v2"), "a", |kind, _| kind == "ADDED").await;
    assert_eq!(
        (&shown["apiVersion"], &shown["spec"]["height"]),
        (&json!("sea.example.com/v2"), &json!(2))
    );
    let (watched, written) = (sails("v2"), format!("{}/a", sails("v1")));
    let wider = json!([{"op": "replace", "path": "/spec/size", "value": "7x2"}]);
    let (changed, _) = tokio::join!(
        world.until(&watched, "a", |_, sail| sail["spec"]["width"] == 7),
        world.ok(Method::PATCH, &written, wider),
    );
    assert_eq!(changed["apiVersion"], "sea.example.com/v2");
}

#[tokio::test]
async fn each_version_is_selected_by_its_own_fields() {
    let (world, _) = with_sails(|sail| sail).await;
    let first = json!({"metadata": {"name": "a"}, "spec": {"size": "3x9"}});
    world.ok(Method::POST, &sails("v1"), first).await;
    world.ok(Method::POST, &sails("v2"), second("b")).await;
    let mut wide = second("c");
    wide["spec"]["width"] = json!(5);
    let last = world.ok(Method::POST, &sails("v2"), wide).await;
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|sail| sail["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let narrow = format!("{}?fieldSelector=spec.width%3D3", sails("v2"));
    assert_eq!(names(&world.get(&narrow).await), ["a", "b"]);
    let by_size = world
        .get(&format!("{}?fieldSelector=spec.size%3D5x4", sails("v1")))
        .await;
    assert_eq!(names(&by_size), ["c"]);
    let page = world.get(&format!("{narrow}&limit=1")).await;
    assert_eq!(names(&page), ["a"]);
    let token = page["metadata"]["continue"].as_str().unwrap();
    assert_eq!(
        names(&world.get(&format!("{narrow}&limit=1&continue={token}")).await),
        ["b"]
    );
    // Who watches the second version sees what changes of the first mean for it.
    for size in ["7x9", "3x1"] {
        let resized = json!([{"op": "replace", "path": "/spec/size", "value": size}]);
        world.ok(Method::PATCH, &format!("{}/a", sails("v1")), resized).await;
    }
    let since = last["metadata"]["resourceVersion"].as_str().unwrap();
    let events = world
        .get(&format!("{narrow}&watch=1&timeoutSeconds=0&resourceVersion={since}"))
        .await;
    let events: Vec<Value> = events
        .as_str()
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), &event["object"]["spec"]["height"]))
        .collect();
    assert_eq!(told, [("DELETED", &json!(9)), ("ADDED", &json!(1))]);
}

#[tokio::test]
async fn a_webhook_that_breaks_its_word_fails_the_request() {
    let (world, _) = with_sails(|mut sail| {
        sail["metadata"]["name"] = json!("other");
        sail
    })
    .await;
    let (code, message) = world.fails(Method::POST, &sails("v2"), second("a")).await;
    assert_eq!(code, 500);
    let wrong = "Internal error occurred: conversion webhook for sea.example.com/v2, Kind=Sail failed: it returned an invalid converted object at index 0: must have the same name";
    assert_eq!(message, wrong);
    // What needs no conversion goes on.
    let first = json!({"metadata": {"name": "a"}, "spec": {"size": "1x2"}});
    world.ok(Method::POST, &sails("v1"), first).await;
    assert_eq!(world.fails(Method::GET, &sails("v2"), Value::Null).await.0, 500);
    world
        .ok(Method::DELETE, &format!("{DEFINITIONS}/{NAME}"), Value::Null)
        .await;
    while world.fails_plainly("/apis/sea.example.com/v1").await != 404 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_stored_version_may_change_under_the_objects() {
    let (world, _) = with_sails(|sail| sail).await;
    let first = json!({"metadata": {"name": "old"}, "spec": {"size": "1x2"}});
    world.ok(Method::POST, &sails("v1"), first).await;
    let path = format!("{DEFINITIONS}/{NAME}");
    let change = json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
    ]);
    let changed = world.ok(Method::PATCH, &path, change).await;
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    world.ok(Method::POST, &sails("v2"), second("new")).await;
    for (version, field, old, new) in [
        ("v1", "size", json!("1x2"), json!("3x4")),
        ("v2", "width", json!(1), json!(3)),
    ] {
        let list = world.get(&sails(version)).await;
        let found: Vec<&Value> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|sail| &sail["spec"][field])
            .collect();
        assert_eq!(found, [&new, &old], "{version}");
    }
    let (code, message) = world
        .fails(
            Method::PATCH,
            &path,
            json!([{"op": "remove", "path": "/spec/versions/0"}]),
        )
        .await;
    assert_eq!(code, 422);
    assert!(
        message.contains("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"),
        "{message}"
    );
    // Once everything was written anew, the old version may go.
    let old = world.get(&format!("{}/old", sails("v2"))).await;
    world.ok(Method::PUT, &format!("{}/old", sails("v2")), old).await;
    let mut status = world.get(&path).await;
    status["status"]["storedVersions"] = json!(["v2"]);
    world.ok(Method::PUT, &format!("{path}/status"), status).await;
    world
        .ok(
            Method::PATCH,
            &path,
            json!([{"op": "remove", "path": "/spec/versions/0"}]),
        )
        .await;
    assert_eq!(world.get(&format!("{}/old", sails("v2"))).await["spec"]["width"], 1);
}

/// A definition with the lists that server-side apply merges item by item.
async fn with_crews() -> (World, String) {
    let world = world().await;
    let member = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string"}, "watch": {"type": "string", "default": "day"}, "rank": {"type": "string"},
    }});
    let spec = json!({
        "members": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "watch"], "items": member},
        "ports": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "log": {"type": "array", "items": {"type": "string"}},
    });
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}});
    let definition = json!({"metadata": {"name": "crews.sea.example.com"}, "spec": {
        "group": "sea.example.com", "scope": "Namespaced", "names": {"plural": "crews", "kind": "Crew"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
    }});
    world.ok(Method::POST, DEFINITIONS, definition).await;
    let established = |_: &str, object: &Value| condition(object, "Established") == "True";
    world.until(DEFINITIONS, "crews.sea.example.com", established).await;
    (
        world,
        "/apis/sea.example.com/v1/namespaces/default/crews/one".to_owned(),
    )
}

async fn apply(world: &World, path: &str, manager: &str, spec: Value) -> (u16, Value) {
    let config = json!({"apiVersion": "sea.example.com/v1", "kind": "Crew", "metadata": {"name": "one"}, "spec": spec});
    let request = Request::patch(format!("{path}?fieldManager={manager}"))
        .header("content-type", "application/apply-patch+yaml")
        .body(Full::new(Bytes::from(config.to_string())))
        .unwrap();
    let answer = world.admin().oneshot(request).await.unwrap();
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn lists_of_custom_kinds_merge_as_their_schema_says() {
    let (world, path) = with_crews().await;
    let ann = json!({"members": [{"name": "ann", "rank": "mate"}], "ports": ["a"], "log": ["left"]});
    let (code, made) = apply(&world, &path, "one", ann).await;
    assert_eq!(code, 201, "{made}");
    // A missing key of an item is its default.
    assert_eq!(
        made["spec"]["members"],
        json!([{"name": "ann", "rank": "mate", "watch": "day"}])
    );
    let two = json!({"members": [{"name": "ann", "watch": "night"}, {"name": "bob"}], "ports": ["b", "a"]});
    let (code, both) = apply(&world, &path, "two", two).await;
    assert_eq!(code, 200, "{both}");
    let names = |object: &Value| -> Vec<String> {
        let members = object["spec"]["members"].as_array().unwrap().iter();
        let mut names: Vec<String> = members
            .map(|member| {
                format!(
                    "{}/{}",
                    member["name"].as_str().unwrap(),
                    member["watch"].as_str().unwrap()
                )
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&both), ["ann/day", "ann/night", "bob/day"]);
    let mut ports: Vec<&str> = both["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port.as_str().unwrap())
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, ["a", "b"]);

    // A field of an item conflicts, and only that; a list that is one value conflicts as a whole.
    let (code, conflict) = apply(
        &world,
        &path,
        "two",
        json!({"members": [{"name": "ann", "rank": "cook"}]}),
    )
    .await;
    assert_eq!(code, 409);
    let field = &conflict["details"]["causes"][0]["field"];
    assert_eq!(field, ".spec.members[name=\"ann\",watch=\"day\"].rank");
    let (code, conflict) = apply(&world, &path, "two", json!({"log": ["came"]})).await;
    assert_eq!(
        (code, &conflict["details"]["causes"][0]["field"]),
        (409, &json!(".spec.log"))
    );

    // What one applies no more goes, unless the other applies it too.
    let (code, less) = apply(&world, &path, "two", json!({"ports": ["b"]})).await;
    assert_eq!((code, names(&less)), (200, vec!["ann/day".to_owned()]));
    let (_, last) = apply(&world, &path, "one", json!({"log": ["left"]})).await;
    assert_eq!(
        (last["spec"].get("members"), &last["spec"]["ports"]),
        (None, &json!(["b"]))
    );
}
