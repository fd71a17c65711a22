//! The forms of an answer: compressed, in protobuf, and not sent again.

use std::io::Read;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tower::ServiceExt;

use crate::world::{World, world};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> Response<bytes::Bytes> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = world
        .admin()
        .oneshot(request.body(Full::new(bytes::Bytes::new())).unwrap())
        .await
        .unwrap();
    let (parts, body) = answer.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_large_list_is_compressed_for_who_asks() {
    let world = world().await;
    for index in 0..20 {
        let map = json!({"metadata": {"name": format!("m{index}")}, "data": {"x": "y".repeat(10_000)}});
        world.ok(Method::POST, MAPS, map).await;
    }
    let plain = get(&world, MAPS, &[]).await;
    assert!(!plain.headers().contains_key("content-encoding"));
    let packed = get(&world, MAPS, &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&**packed.body())
        .read_to_end(&mut unpacked)
        .unwrap();
    assert!(unpacked[..] == plain.body()[..]);
    assert!(packed.body().len() * 10 < plain.body().len());
    let one = get(&world, &format!("{MAPS}/m1"), &[("accept-encoding", "gzip")]).await;
    assert!(!one.headers().contains_key("content-encoding"), "small");
}

#[tokio::test]
async fn who_takes_only_protobuf_gets_it() {
    let world = world().await;
    let map = json!({"metadata": {"name": "a"}, "data": {"x": "y"}});
    world.ok(Method::POST, MAPS, map).await;
    for path in [format!("{MAPS}/a"), MAPS.to_owned(), format!("{MAPS}/missing")] {
        let plain = get(&world, &path, &[]).await;
        let wanted: serde_json::Value = serde_json::from_slice(plain.body()).unwrap();
        let answer = get(&world, &path, &[("accept", PROTOBUF)]).await;
        assert_eq!(answer.status(), plain.status());
        assert_eq!(answer.headers()["content-type"], PROTOBUF, "{path}");
        assert_eq!(&answer.body()[..4], b"k8s\0");
        let decoded = coracle_api::protobuf::decode(answer.body()).unwrap();
        assert_eq!(decoded["kind"], wanted["kind"]);
        assert_eq!(decoded["metadata"]["name"], wanted["metadata"]["name"]);
        assert_eq!(decoded["data"], wanted["data"]);
    }
    let both = format!("{PROTOBUF},application/json");
    assert_eq!(
        get(&world, MAPS, &[("accept", &both)]).await.headers()["content-type"],
        "application/json"
    );
}

#[tokio::test]
async fn discovery_and_schemas_are_not_sent_twice() {
    let world = world().await;
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (path, accept) in [
        ("/api", aggregated),
        ("/apis", aggregated),
        ("/openapi/v3", "application/json"),
        ("/openapi/v2", "application/json"),
    ] {
        let first = get(&world, path, &[("accept", accept)]).await;
        assert_eq!(first.status(), StatusCode::OK, "{path}");
        let etag = first.headers()["etag"].to_str().unwrap().to_owned();
        let again = get(&world, path, &[("accept", accept), ("if-none-match", &etag)]).await;
        assert_eq!(
            (again.status(), again.body().len()),
            (StatusCode::NOT_MODIFIED, 0),
            "{path}"
        );
        let other = get(&world, path, &[("accept", accept), ("if-none-match", "\"x\"")]).await;
        assert_eq!(other.status(), StatusCode::OK, "{path}");
    }
}
