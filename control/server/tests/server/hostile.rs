//! Input that is wrong on purpose: each gets a clear answer or a closed connection, and the server stays as it was.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use crate::wire::running;
use crate::world::{World, send, world};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn post(world: &World, content_type: &str, body: impl Into<bytes::Bytes>) -> (StatusCode, Value) {
    let request = Request::post(MAPS)
        .header("content-type", content_type)
        .body(Full::new(body.into()))
        .unwrap();
    let answer = world.admin().oneshot(request).await.unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

async fn refused(world: &World, content_type: &str, body: impl Into<bytes::Bytes>) -> (u16, String) {
    let (status, answer) = post(world, content_type, body).await;
    assert_eq!(
        (answer["kind"].as_str(), answer["status"].as_str()),
        (Some("Status"), Some("Failure")),
        "{answer}"
    );
    (
        status.as_u16(),
        answer["message"].as_str().unwrap_or_default().to_owned(),
    )
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_the_limit() {
    let world = world().await;
    let large = format!(
        "{{\"metadata\":{{\"name\":\"a\"}},\"data\":{{\"x\":\"{}\"}}}}",
        "y".repeat(3 * 1024 * 1024)
    );
    let (code, message) = refused(&world, "application/json", large).await;
    assert_eq!(code, 413);
    assert!(message.contains("3145728"), "{message}");
}

#[tokio::test]
async fn nesting_has_a_bound() {
    let world = world().await;
    for (content_type, open, close) in [
        ("application/json", "[", "]"),
        ("application/yaml", "[", "]"),
        ("application/json", "{\"a\":", "}"),
    ] {
        let body = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let (code, message) = refused(&world, content_type, body).await;
        assert!((400..500).contains(&code), "{content_type} {open}: {code} {message}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_a_bad_request() {
    let world = world().await;
    for (content_type, body) in [
        ("application/json", &b"{\"metadata\":{\"name\":\"\xff\xfe\"}}"[..]),
        ("application/json", b"{\"metadata\":"),
        ("application/json", b"[]"),
        ("application/json", b"7"),
        ("application/json", b"{} {}"),
        ("application/yaml", b"a: [1\nb: }"),
        ("application/yaml", b"a: &a [*a]"),
        (
            "application/vnd.kubernetes.protobuf",
            b"k8s\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        ("application/vnd.kubernetes.protobuf", b"no magic"),
        ("application/vnd.kubernetes.protobuf", b"k8s\x00"),
    ] {
        let (code, message) = refused(&world, content_type, body).await;
        assert!((400..500).contains(&code), "{content_type} {body:?}: {code} {message}");
        assert!(!message.is_empty());
    }
    let (code, _) = refused(&world, "application/cbor", "x").await;
    assert_eq!(code, 415);
}

#[tokio::test]
async fn wrong_types_and_twice_the_same_key_are_named() {
    let world = world().await;
    let (code, message) = refused(&world, "application/json", "{\"metadata\":{\"name\":7}}").await;
    assert_eq!(code, 400, "{message}");
    let (code, message) = refused(
        &world,
        "application/json",
        "{\"metadata\":{\"name\":\"a\"},\"data\":[1]}",
    )
    .await;
    assert_eq!(code, 400, "{message}");
    let twice = "{\"metadata\":{\"name\":\"a\"},\"data\":{\"x\":\"1\",\"x\":\"2\"}}";
    let request = Request::post(format!("{MAPS}?fieldValidation=Strict"))
        .body(Full::new(bytes::Bytes::from(twice)))
        .unwrap();
    let answer = world.admin().oneshot(request).await.unwrap();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(status["code"], 400);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("duplicate field \"data.x\""),
        "{status}"
    );
}

#[tokio::test]
async fn a_yaml_bomb_does_not_go_off() {
    let world = world().await;
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let before = level - 1;
        let copies = format!("*a{before},").repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", copies.trim_end_matches(',')));
    }
    let (code, message) = refused(&world, "application/yaml", bomb).await;
    assert!((400..500).contains(&code), "{code} {message}");
}

#[tokio::test]
async fn tokens_and_versions_that_nobody_gave_out_are_refused() {
    let world = world().await;
    for query in [
        "continue=x",
        "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ",
        "limit=-1",
        "limit=x",
        "resourceVersion=x",
        "labelSelector=a%3D%3D%3Db",
        "fieldSelector=x%3Dy",
    ] {
        let (code, message) = world.fails(Method::GET, &format!("{MAPS}?{query}"), Value::Null).await;
        assert!((400..500).contains(&code), "{query}: {code} {message}");
    }
}

#[tokio::test]
async fn a_continue_token_serves_its_own_list_as_often_as_it_is_sent() {
    let world = world().await;
    for name in ["a", "b", "c"] {
        world.ok(Method::POST, MAPS, json!({"metadata": {"name": name}})).await;
    }
    let first = world.get(&format!("{MAPS}?limit=1")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let next = world.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!(next["items"][0]["metadata"]["name"], "b");
    // Sent again, it is the same page of the same state, whatever happened since.
    world.ok(Method::DELETE, &format!("{MAPS}/b"), Value::Null).await;
    assert_eq!(world.get(&format!("{MAPS}?limit=1&continue={token}")).await, next);
    // Sent to another list, it shows nothing of this one.
    world
        .ok(
            Method::POST,
            "/api/v1/namespaces/default/secrets",
            json!({"metadata": {"name": "z"}}),
        )
        .await;
    let other = format!("/api/v1/namespaces/default/secrets?limit=10&continue={token}");
    let (status, answer) = send(world.admin(), Method::GET, &other, Value::Null).await;
    let mut kinds = answer["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| &item["kind"]);
    assert!(kinds.all(|kind| kind != "ConfigMap"), "{status} {answer}");
}

#[tokio::test]
async fn huge_lists_are_taken_or_refused_whole() {
    let world = world().await;
    let data: serde_json::Map<String, Value> = (0..20_000).map(|at| (format!("k{at}"), json!("v"))).collect();
    let body = json!({"metadata": {"name": "wide"}, "data": data}).to_string();
    let (status, answer) = post(&world, "application/json", body).await;
    assert_eq!(status, 201, "{}", answer["message"]);
    let containers: Vec<Value> = (0..5_000).map(|_| json!({"name": "same", "image": "hello"})).collect();
    let pod = json!({"metadata": {"name": "wide"}, "spec": {"containers": containers}});
    let (code, message) = world.fails(Method::POST, "/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(code, 422);
    assert!(message.contains("Duplicate value: \"same\""));
    assert!(message.len() < 3 * 1024 * 1024, "{}", message.len());
}

#[tokio::test]
async fn odd_paths_are_not_found() {
    let world = world().await;
    for path in [
        "/api/v1/namespaces/default/configmaps/%ff",
        "/api/v1/namespaces/%2e%2e/configmaps/x",
        "/apis/x/v1/y",
        "/api/v1/nothing",
        "/api/v1/namespaces/default/configmaps/a/b/c/d",
    ] {
        let (status, answer) = send(world.admin(), Method::GET, path, Value::Null).await;
        assert!(status.is_client_error(), "{path}: {status} {answer}");
    }
    let root = world.get("/").await;
    for path in ["/apis/apps/v1", "/api/v1", "/healthz"] {
        assert!(root["paths"].as_array().unwrap().contains(&json!(path)), "{root}");
    }
    for (path, code) in [("/nothing", 404), ("/version", 405), ("/apis", 405)] {
        let (status, answer) = send(world.admin(), Method::POST, path, json!({})).await;
        assert_eq!(status.as_u16(), code, "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_thousand_idle_connections_leave_room_for_work() {
    let running = running().await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(tokio::net::TcpStream::connect(running.address).await.unwrap());
    }
    let answer = tokio::time::timeout(
        Duration::from_secs(20),
        running.raw("GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    );
    assert!(answer.await.expect("answered").starts_with("HTTP/1.1 200"));
    drop(idle);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_ended() {
    let running = running().await;
    let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    // The beginning of a TLS record, and then nothing.
    stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    let mut rest = Vec::new();
    // From here on the clock jumps to the deadline when there is nothing else to do.
    tokio::time::pause();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 64, "closed, perhaps with an alert");
}

#[tokio::test]
async fn garbage_in_place_of_tls_or_http_closes_the_connection() {
    let running = running().await;
    let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    let answer = running.raw("\0\0\0 nonsense\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(600_000));
    let answer = running.raw(long).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(
        running
            .raw("GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn headers_that_never_end_close_the_connection() {
    let running = running().await;
    let mut stream = running.connection().await;
    stream.write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    tokio::time::pause();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_watcher_that_does_not_read_harms_nobody() {
    let running = running().await;
    let mut silent = running.connection().await;
    silent
        .write_all(format!("GET {MAPS}?watch=1 HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let map = |index: u32| json!({"metadata": {"name": format!("m{index}")}, "data": {"x": "y".repeat(200_000)}});
    let started = std::time::Instant::now();
    for index in 0..100 {
        running.world.ok(Method::POST, MAPS, map(index)).await;
    }
    assert!(started.elapsed() < Duration::from_secs(60), "writers are not held up");
    let list = running.world.get(MAPS).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 100);
}
