//! What lists and gets promise: pages of one state, versions, and the forms of an answer.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::{World, world, world_with};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

async fn get(world: &World, path: &str, accept: &str) -> (StatusCode, Value) {
    let request = Request::get(path).header("accept", accept);
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let answer = world.admin().oneshot(request).await.unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

async fn fill(world: &World, names: &[&str]) -> String {
    let mut version = String::new();
    for name in names {
        let made = world
            .ok(
                Method::POST,
                MAPS,
                json!({"metadata": {"name": name, "labels": {"l": name}}, "data": {"k": "v"}}),
            )
            .await;
        version = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    }
    version
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_token_expires_and_says_how_to_go_on() {
    let world = world_with(coracle_store::Config {
        history_events: 4,
        ..coracle_store::Config::default()
    })
    .await;
    fill(&world, &["a", "b", "c"]).await;
    let first = world.get(&format!("{MAPS}?limit=1")).await;
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    fill(&world, &["d", "e", "f", "g", "h", "i"]).await;
    let (status, error) = get(&world, &format!("{MAPS}?limit=1&continue={token}"), "").await;
    assert_eq!((status.as_u16(), error["reason"].as_str()), (410, Some("Expired")));
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("continue parameter is too old"),
        "{error}"
    );
    let fresh = error["metadata"]["continue"].as_str().unwrap();
    assert_ne!(fresh, token);
    let rest = world.get(&format!("{MAPS}?continue={fresh}")).await;
    assert_eq!(names(&rest), ["b", "c", "d", "e", "f", "g", "h", "i"]);

    let old = first["metadata"]["resourceVersion"].as_str().unwrap();
    let (status, error) = get(
        &world,
        &format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact"),
        "",
    )
    .await;
    assert_eq!((status.as_u16(), error["reason"].as_str()), (410, Some("Expired")));
    let (status, error) = get(&world, &format!("{MAPS}?watch=1&resourceVersion={old}"), "").await;
    assert_eq!(status, 410);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .starts_with(&format!("too old resource version: {old} (")),
        "{error}"
    );
}

#[tokio::test]
async fn versions_mean_what_they_say() {
    let world = world().await;
    let two = fill(&world, &["a", "b"]).await;
    let three = fill(&world, &["c"]).await;
    let list = |query: String| get_ok(&world, query);
    let exact = list(format!("resourceVersion={two}&resourceVersionMatch=Exact")).await;
    assert_eq!(names(&exact), ["a", "b"]);
    assert_eq!(exact["metadata"]["resourceVersion"], two.as_str());
    for query in [
        format!("resourceVersion={two}"),
        format!("resourceVersion={two}&resourceVersionMatch=NotOlderThan"),
        "resourceVersion=0".to_owned(),
        String::new(),
    ] {
        let found = list(query).await;
        assert_eq!(names(&found), ["a", "b", "c"]);
        assert_eq!(found["metadata"]["resourceVersion"], three.as_str());
    }
    // A list of nothing is as new as the state.
    let none = list("labelSelector=l%3Dnone".to_owned()).await;
    assert_eq!(none["metadata"]["resourceVersion"], three.as_str());
    let refused = [
        (
            "resourceVersionMatch=Exact",
            422,
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersion=0&resourceVersionMatch=Exact",
            422,
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
        ),
        (
            "sendInitialEvents=true",
            422,
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
        (
            "watch=1&sendInitialEvents=true",
            422,
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "continue=x&resourceVersion=7",
            400,
            "specifying resource version is not allowed when using continue",
        ),
        ("continue=x", 400, "continue key is not valid"),
        ("fieldSelector=spec.x%3D1", 400, "field label not supported: spec.x"),
    ];
    for (query, code, words) in refused {
        let (status, error) = get(&world, &format!("{MAPS}?{query}"), "").await;
        assert_eq!(status.as_u16(), code, "{query}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{query}: {error}");
    }
}

async fn get_ok(world: &World, query: String) -> Value {
    world.get(&format!("{MAPS}?{query}")).await
}

#[tokio::test]
async fn a_page_knows_what_is_left_unless_it_selects() {
    let world = world().await;
    fill(&world, &["a", "b", "c"]).await;
    let page = get_ok(&world, "limit=1".to_owned()).await;
    assert_eq!(page["metadata"]["remainingItemCount"], 2);
    let page = get_ok(&world, "limit=1&labelSelector=l".to_owned()).await;
    assert_eq!(page["metadata"].get("remainingItemCount"), None);
    assert!(page["metadata"]["continue"].is_string());
    let page = get_ok(&world, "limit=3".to_owned()).await;
    assert_eq!(page["metadata"].get("continue"), None);
}

#[tokio::test]
async fn metadata_alone_is_enough_for_many() {
    let world = world().await;
    fill(&world, &["a"]).await;
    let (_, one) = get(&world, &format!("{MAPS}/a"), METADATA).await;
    assert_eq!(
        (&one["kind"], &one["apiVersion"]),
        (&json!("PartialObjectMetadata"), &json!("meta.k8s.io/v1"))
    );
    assert_eq!(one["metadata"]["managedFields"][0]["operation"], "Update");
    assert_eq!(one.get("data"), None);
    let (_, list) = get(&world, MAPS, METADATA_LIST).await;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(names(&list), ["a"]);
    assert_eq!(list["items"][0].get("data"), None);
    assert!(list["metadata"]["resourceVersion"].is_string());
    let query =
        "watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let request = Request::get(format!("{MAPS}?{query}")).header("accept", METADATA);
    let answer = world
        .admin()
        .oneshot(request.body(Full::<Bytes>::default()).unwrap())
        .await
        .unwrap();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    let events: Vec<Value> = serde_json::Deserializer::from_slice(&text)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(events[0]["type"], "ADDED");
    assert_eq!(events[0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(events[0]["object"].get("data"), None);
    assert_eq!(
        (&events[1]["type"], &events[1]["object"]["kind"]),
        (&json!("BOOKMARK"), &json!("PartialObjectMetadata"))
    );
    assert_eq!(
        events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
}

#[tokio::test]
async fn a_table_can_bring_its_objects() {
    let world = world().await;
    fill(&world, &["a", "b"]).await;
    let table = "application/json;as=Table;g=meta.k8s.io;v=v1";
    for (include, kind) in [("Metadata", "PartialObjectMetadata"), ("Object", "ConfigMap")] {
        let (_, found) = get(&world, &format!("{MAPS}?limit=1&includeObject={include}"), table).await;
        assert_eq!(found["rows"][0]["object"]["kind"], kind);
        assert!(found["metadata"]["continue"].is_string());
        assert_eq!(found["metadata"]["remainingItemCount"], 1);
    }
    let (_, found) = get(&world, &format!("{MAPS}/a?includeObject=None"), table).await;
    assert_eq!(found["rows"][0].get("object").filter(|object| !object.is_null()), None);
    assert_eq!(get(&world, &format!("{MAPS}?includeObject=All"), table).await.0, 400);
}
