//! Kinds that users define: published, served in every form, checked, and gone with their definition.

use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::{World, condition, world};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const BOATS: &str = "/apis/sea.example.com/v1/namespaces/default/boats";

fn definition() -> Value {
    let schema = json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["colour"], "properties": {
            "colour": {"type": "string", "enum": ["red", "blue"], "description": "What it looks like."},
            "oars": {"type": "integer", "minimum": 1, "default": 2},
        }},
        "status": {"type": "object", "properties": {"oars": {"type": "integer"}, "selector": {"type": "string"}}},
    }});
    json!({
        "metadata": {"name": "boats.sea.example.com"},
        "spec": {
            "group": "sea.example.com", "scope": "Namespaced",
            "names": {"plural": "boats", "kind": "Boat", "shortNames": ["bt"], "categories": ["all"]},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true, "schema": {"openAPIV3Schema": schema}},
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                 "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.oars", "statusReplicasPath": ".status.oars", "labelSelectorPath": ".status.selector"}},
                 "selectableFields": [{"jsonPath": ".spec.colour"}],
                 "additionalPrinterColumns": [{"name": "Oars", "type": "integer", "jsonPath": ".spec.oars"}]},
            ],
        },
    })
}

fn boat(name: &str, colour: &str) -> Value {
    json!({"apiVersion": "sea.example.com/v1", "kind": "Boat", "metadata": {"name": name}, "spec": {"colour": colour}})
}

/// Waits for a state of the definition.
async fn until(world: &World, reached: impl Fn(&str, &Value) -> bool) -> Value {
    world.until(DEFINITIONS, "boats.sea.example.com", reached).await
}

async fn with_boats() -> World {
    let world = world().await;
    world.ok(Method::POST, DEFINITIONS, definition()).await;
    until(&world, |_, object| condition(object, "Established") == "True").await;
    world
}

async fn patch(world: &World, kind: &str, path: &str, body: Value) -> (u16, Value) {
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(path)
        .header("content-type", kind);
    let answer = world
        .admin()
        .oneshot(request.body(Full::new(bytes::Bytes::from(body.to_string()))).unwrap())
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_definition_is_accepted_served_and_taken_back() {
    let world = world().await;
    assert_eq!(world.fails_plainly("/apis/sea.example.com/v1").await, 404);
    let created = world.ok(Method::POST, DEFINITIONS, definition()).await;
    assert_eq!(created["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(created["spec"]["names"]["listKind"], "BoatList");
    let accepted = until(&world, |_, object| condition(object, "Established") == "True").await;
    assert_eq!(condition(&accepted, "NamesAccepted"), "True");
    assert_eq!(accepted["status"]["acceptedNames"]["shortNames"], json!(["bt"]));

    let list = world.get("/apis/sea.example.com/v1").await;
    let names: Vec<&str> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["boats", "boats/status", "boats/scale"]);
    assert_eq!(
        world.get("/apis/sea.example.com").await["preferredVersion"]["version"],
        "v1"
    );
    let third = world.get("/openapi/v3/apis/sea.example.com/v1").await;
    let schema = &third["components"]["schemas"]["com.example.sea.v1.Boat"];
    assert_eq!(
        schema["properties"]["spec"]["properties"]["colour"]["description"],
        "What it looks like."
    );
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Boat");
    assert!(third["paths"]["/apis/sea.example.com/v1/namespaces/{namespace}/boats/{name}"]["patch"].is_object());
    assert!(world.get("/openapi/v2").await["definitions"]["com.example.sea.v1.BoatList"].is_object());

    world.ok(Method::POST, BOATS, boat("a", "red")).await;
    let mut held = boat("held", "blue");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.ok(Method::POST, BOATS, held).await;
    world
        .ok(
            Method::DELETE,
            &format!("{DEFINITIONS}/boats.sea.example.com"),
            Value::Null,
        )
        .await;
    until(&world, |_, object| condition(object, "Terminating") == "True").await;
    let (code, _) = world.fails(Method::POST, BOATS, boat("b", "red")).await;
    assert_eq!(code, 405, "no new objects");
    let release = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
    let (code, _) = patch(&world, "application/json-patch+json", &format!("{BOATS}/held"), release).await;
    assert_eq!(code, 200);
    until_gone(&world).await;
    assert_eq!(world.fails_plainly("/apis/sea.example.com/v1").await, 404);
    assert_eq!(world.fails(Method::GET, BOATS, Value::Null).await.0, 404);
    // The same kind again begins with nothing.
    world.ok(Method::POST, DEFINITIONS, definition()).await;
    until(&world, |_, object| condition(object, "Established") == "True").await;
    assert_eq!(world.get(BOATS).await["items"], json!([]));
}

async fn until_gone(world: &World) {
    let path = format!("{DEFINITIONS}/boats.sea.example.com");
    let (status, _) = crate::world::send(world.admin(), Method::GET, &path, Value::Null).await;
    if status != 404 {
        until_deleted(world).await;
    }
}

async fn until_deleted(world: &World) {
    // The watch shows the object first if it is still there; if it went in between, there is nothing to wait for.
    let waiting = until(world, |kind, _| kind == "DELETED");
    let path = format!("{DEFINITIONS}/boats.sea.example.com");
    tokio::select! {
        _ = waiting => {}
        () = async {
            while crate::world::send(world.admin(), Method::GET, &path, Value::Null).await.0 != 404 {
                tokio::task::yield_now().await;
            }
        } => {}
    }
}

#[tokio::test]
async fn objects_are_shaped_checked_and_versioned() {
    let world = with_boats().await;
    let mut object = boat("a", "red");
    object["spec"]["sails"] = json!(1);
    let (code, message) = world
        .fails(Method::POST, &format!("{BOATS}?fieldValidation=Strict"), object.clone())
        .await;
    assert_eq!(
        (code, message.as_str()),
        (
            400,
            "Boat in version \"v1\" cannot be handled as a Boat: strict decoding error: unknown field \"spec.sails\""
        )
    );
    let created = world.ok(Method::POST, BOATS, object).await;
    assert_eq!(created["spec"], json!({"colour": "red", "oars": 2}));
    assert_eq!(created["metadata"]["generation"], 1);

    let (code, message) = world.fails(Method::POST, BOATS, boat("b", "pink")).await;
    assert_eq!(
        (code, message.as_str()),
        (
            422,
            "Boat.sea.example.com \"b\" is invalid: spec.colour: Unsupported value: \"pink\": supported values: \"red\", \"blue\""
        )
    );

    // Each patch type; a strategic one needs facts that only built-in kinds have.
    let path = format!("{BOATS}/a");
    let (code, patched) = patch(
        &world,
        "application/merge-patch+json",
        &path,
        json!({"spec": {"oars": 4}, "status": {"oars": 9}}),
    )
    .await;
    assert_eq!(
        (code, &patched["spec"]["oars"], &patched["metadata"]["generation"]),
        (200, &json!(4), &json!(2))
    );
    assert_eq!(patched.get("status"), None, "the status has its own path");
    assert_eq!(
        patch(&world, "application/strategic-merge-patch+json", &path, json!({}))
            .await
            .0,
        415
    );
    let (code, status) = patch(
        &world,
        "application/merge-patch+json",
        &format!("{path}/status"),
        json!({"status": {"oars": 3, "selector": "a=b"}, "spec": {"oars": 8}}),
    )
    .await;
    assert_eq!(
        (code, &status["status"]["oars"], &status["spec"]["oars"]),
        (200, &json!(3), &json!(4))
    );
    let scale = world.get(&format!("{path}/scale")).await;
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]),
        (&json!(4), &json!({"replicas": 3, "selector": "a=b"}))
    );
    let (code, scale) = patch(
        &world,
        "application/merge-patch+json",
        &format!("{path}/scale"),
        json!({"spec": {"replicas": 6}}),
    )
    .await;
    assert_eq!((code, &scale["spec"]["replicas"]), (200, &json!(6)));

    let older = world
        .get("/apis/sea.example.com/v1beta1/namespaces/default/boats/a")
        .await;
    assert_eq!(
        (&older["apiVersion"], &older["spec"]["oars"]),
        (&json!("sea.example.com/v1beta1"), &json!(6))
    );
    let through = world
        .ok(
            Method::POST,
            "/apis/sea.example.com/v1beta1/namespaces/default/boats",
            json!({"metadata": {"name": "c"}, "spec": {"colour": "blue"}}),
        )
        .await;
    assert_eq!(through["apiVersion"], "sea.example.com/v1beta1");
    assert_eq!(
        world.get(&format!("{BOATS}/c")).await["apiVersion"],
        "sea.example.com/v1"
    );

    let blue = world.get(&format!("{BOATS}?fieldSelector=spec.colour%3Dblue")).await;
    assert_eq!(blue["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&blue["kind"], &blue["items"][0]["metadata"]["name"]),
        (&json!("BoatList"), &json!("c"))
    );
    let table = world.table(BOATS).await;
    let heads: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(heads, ["Name", "Oars"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", 6]));

    let mut unversioned = boat("a", "blue");
    unversioned["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    let (code, message) = world.fails(Method::PUT, &path, unversioned).await;
    assert_eq!(code, 422);
    assert!(
        message.contains("metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"),
        "{message}"
    );
}

#[tokio::test]
async fn a_changed_schema_holds_for_what_is_stored() {
    let world = with_boats().await;
    world.ok(Method::POST, BOATS, boat("a", "red")).await;
    let add = json!([
        {"op": "add", "path": "/spec/versions/1/schema/openAPIV3Schema/properties/spec/properties/crew", "value": {"type": "integer", "default": 5}},
        {"op": "replace", "path": "/spec/versions/1/schema/openAPIV3Schema/properties/spec/properties/colour/enum", "value": ["blue"]},
    ]);
    world
        .ok(Method::PATCH, &format!("{DEFINITIONS}/boats.sea.example.com"), add)
        .await;
    let path = format!("{BOATS}/a");
    assert_eq!(
        world.get(&path).await["spec"]["crew"],
        5,
        "a new default shows in older objects"
    );
    assert_eq!(world.get(BOATS).await["items"][0]["spec"]["crew"], 5);
    let (code, patched) = patch(
        &world,
        "application/merge-patch+json",
        &path,
        json!({"spec": {"oars": 7}}),
    )
    .await;
    assert_eq!(
        (code, &patched["spec"]["colour"]),
        (200, &json!("red")),
        "what was valid and did not change stays"
    );
    let (code, message) = world.fails(Method::POST, BOATS, boat("b", "red")).await;
    assert_eq!(code, 422, "{message}");
}

#[tokio::test]
async fn a_wrong_definition_is_refused() {
    let world = world().await;
    let mut wrong = definition();
    wrong["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["oars"] =
        json!({"minimum": 1});
    let (code, message) = world.fails(Method::POST, DEFINITIONS, wrong).await;
    assert_eq!(
        (code, message.as_str()),
        (
            422,
            "CustomResourceDefinition.apiextensions.k8s.io \"boats.sea.example.com\" is invalid: spec.versions[1].schema.openAPIV3Schema.properties[spec].properties[oars].type: Required value: must not be empty for specified object fields"
        )
    );
}
