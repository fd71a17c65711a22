//! The proxy to pods, services and nodes.

use bytes::Bytes;
use futures::FutureExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use crate::wire::running;
use crate::world::{World, pod, world};

/// A pod `a` with an address, where a server tells what it was asked.
async fn with_pod(world: &World) {
    let mut object = pod("a");
    object["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080}]);
    world.ok(Method::POST, "/api/v1/namespaces/default/pods", object).await;
    let status = json!({"status": {"podIP": "10.1.0.9", "podIPs": [{"ip": "10.1.0.9"}]}});
    world
        .ok(Method::PATCH, "/api/v1/namespaces/default/pods/a/status", status)
        .await;
    world.net.serve("10.1.0.9", 8080, |request| {
        async move {
            match request.uri().path() {
                "/page" => Response::builder()
                    .header("content-type", "text/html; charset=utf-8")
                    .body(Bytes::from_static(b"<a href=\"/rewriteme\">test</a>"))
                    .unwrap(),
                "/away" => Response::builder()
                    .status(302)
                    .header("location", "/there?x=1")
                    .body(Bytes::new())
                    .unwrap(),
                "/teapot" => Response::builder()
                    .status(418)
                    .header("x-own", "1")
                    .body(Bytes::from_static(b"tea"))
                    .unwrap(),
                _ => {
                    let headers: Vec<String> = request
                        .headers()
                        .iter()
                        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                        .collect();
                    let said = format!("{} {}\n{}\n\n", request.method(), request.uri(), headers.join("\n"));
                    Response::new([Bytes::from(said), request.into_body()].concat().into())
                }
            }
        }
        .boxed()
    });
}

async fn ask(world: &World, request: http::request::Builder, body: &'static str) -> (Response<()>, String) {
    let answer = world
        .admin()
        .oneshot(request.body(Full::new(Bytes::from(body))).unwrap())
        .await
        .unwrap();
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (
        Response::from_parts(parts, ()),
        String::from_utf8(bytes.to_vec()).unwrap(),
    )
}

const POD: &str = "/api/v1/namespaces/default/pods/a/proxy";

#[tokio::test]
async fn a_request_reaches_the_pod_as_it_is() {
    let world = world().await;
    with_pod(&world).await;
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(format!("{POD}/some/path%20x?dryRun=7&q=1"))
        .header("host", "api.example")
        .header("authorization", "Bearer secret")
        .header("te", "trailers")
        .header("x-mine", "yes");
    let (answer, body) = ask(&world, request, "the body").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(body.starts_with("PATCH /some/path%20x?dryRun=7&q=1\n"), "{body}");
    assert!(
        body.contains("x-mine: yes") && body.contains("x-forwarded-host: api.example"),
        "{body}"
    );
    assert!(!body.contains("secret") && !body.contains("te: "), "{body}");
    assert!(body.ends_with("the body"), "{body}");
}

#[tokio::test]
async fn answers_come_back_as_they_are_but_for_addresses() {
    let world = world().await;
    with_pod(&world).await;
    let (answer, body) = ask(&world, Request::builder().uri(format!("{POD}/teapot")), "").await;
    assert_eq!(
        (
            answer.status().as_u16(),
            answer.headers()["x-own"].as_bytes(),
            body.as_str()
        ),
        (418, &b"1"[..], "tea")
    );
    let (answer, _) = ask(&world, Request::builder().uri(format!("{POD}/away")), "").await;
    assert_eq!(answer.headers()["location"], format!("{POD}/there?x=1"));
    let (_, body) = ask(&world, Request::builder().uri(format!("{POD}/page")), "").await;
    assert_eq!(body, format!("<a href=\"{POD}/rewriteme\">test</a>"));
    let (answer, _) = ask(&world, Request::builder().uri(format!("{POD}?x=1")), "").await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
        (301, &*format!("{POD}/?x=1"))
    );
}

#[tokio::test]
async fn a_service_is_reached_by_port_name_and_scheme() {
    let world = world().await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"a": "b"}, "ports": [
        {"name": "http", "port": 80, "targetPort": 8080}, {"name": "tls", "port": 443},
    ]}});
    world
        .ok(Method::POST, "/api/v1/namespaces/default/services", service)
        .await;
    let say = |text: &'static str| move |_| async move { Response::new(Bytes::from_static(text.as_bytes())) }.boxed();
    world.net.serve("web.default.svc", 80, say("plain"));
    world.net.serve_tls("web.default.svc", 443, say("secured"));
    let get = |name: &str| format!("/api/v1/namespaces/default/services/{name}/proxy/");
    for (name, wanted) in [
        ("web:http", "plain"),
        ("web:80", "plain"),
        ("https:web:tls", "secured"),
        ("http:web:80", "plain"),
    ] {
        let (answer, body) = ask(&world, Request::builder().uri(get(name)), "").await;
        assert_eq!((answer.status().as_u16(), body.as_str()), (200, wanted), "{name}");
    }
    let (code, message) = world.fails(Method::GET, &get("web:81"), Value::Null).await;
    assert_eq!(code, 503, "{message}");
    assert_eq!(world.fails(Method::GET, &get("other:80"), Value::Null).await.0, 404);
}

#[tokio::test]
async fn what_does_not_answer_is_said() {
    let world = world().await;
    with_pod(&world).await;
    let path = "/api/v1/namespaces/default/pods/a:81/proxy/";
    let (code, message) = world.fails(Method::GET, path, Value::Null).await;
    assert_eq!(code, 503);
    assert!(
        message.starts_with("error trying to reach service: dial tcp 10.1.0.9:81: "),
        "{message}"
    );
    let (code, _) = world
        .fails(
            Method::GET,
            "/api/v1/namespaces/default/pods/a:b:c:d/proxy/",
            Value::Null,
        )
        .await;
    assert_eq!(code, 400);
}

#[tokio::test]
async fn the_right_to_the_proxy_is_its_own() {
    let world = world().await;
    with_pod(&world).await;
    let reader = world.server.local("reader", &[]);
    let request = Request::builder()
        .uri(format!("{POD}/"))
        .body(Full::new(Bytes::new()))
        .unwrap();
    assert_eq!(reader.oneshot(request).await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_upgrade_goes_through() {
    let running = running().await;
    with_pod(&running.world).await;
    let mut stream = running.connection().await;
    let request = format!("GET {POD}/echo HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
}
