//! Groups that another server serves: registered, found out to answer, passed on and shown as this server's own.

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::net::tls;
use crate::wire::running;
use crate::world::{World, condition, world};

const REGISTRATIONS: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const BOATS: &str = "/apis/sea.example.com/v1/namespaces/default/boats";
const HOST: &str = "sea.default.svc";

/// A server of boats in the pod network.
struct Sea {
    authority: String,
    /// The headers of all requests for boats.
    asked: Arc<Mutex<Vec<http::HeaderMap>>>,
    /// Lets the second piece of a watch go.
    more: Arc<Notify>,
}

async fn sea(world: &World) -> Sea {
    let map = world
        .get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
        .await;
    assert_eq!(map["data"]["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    let clients = map["data"]["requestheader-client-ca-file"].as_str().unwrap();
    let (config, authority) = tls(HOST, Some(clients));
    let (asked, more) = (Arc::default(), Arc::new(Notify::new()));
    let sea = Sea {
        authority,
        asked: Arc::clone(&asked),
        more: more.clone(),
    };
    world.net.accept(HOST, 443, move |far| {
        let (acceptor, asked, more) = (TlsAcceptor::from(config.clone()), asked.clone(), more.clone());
        async move {
            let Ok(secured) = acceptor.accept(far).await else {
                return;
            };
            let service = service_fn(move |request| {
                let (asked, more) = (asked.clone(), more.clone());
                async move { Ok::<_, Infallible>(answer(request, &asked, &more).await) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(secured), service);
            let _ = connection.with_upgrades().await;
        }
        .boxed()
    });
    sea
}

async fn answer(
    mut request: Request<Incoming>,
    asked: &Mutex<Vec<http::HeaderMap>>,
    more: &Arc<Notify>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let body = |value: Value| Response::new(Full::from(value.to_string()).boxed());
    match (request.uri().path(), request.uri().query()) {
        ("/apis/sea.example.com/v1", _) => body(json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "sea.example.com/v1",
            "resources": [{"name": "boats", "singularName": "boat", "namespaced": true, "kind": "Boat", "verbs": ["get", "list"]}],
        })),
        ("/openapi/v3", _) => {
            body(json!({"paths": {"apis/sea.example.com/v1": {"serverRelativeURL": "/openapi/v3/sea?hash=1"}}}))
        }
        ("/openapi/v3/sea", _) => body(json!({"openapi": "3.0.0", "components": {"schemas": {"Boat": {}}}})),
        ("/openapi/v2", _) => {
            body(json!({"paths": {"/apis/sea.example.com/v1/boats": {}, "/version": {}}, "definitions": {"Boat": {}}}))
        }
        (BOATS, Some("watch=1")) => {
            let more = more.clone();
            let second = async move {
                more.notified().await;
                "two"
            };
            let pieces = stream::iter(["one"]).chain(stream::once(second));
            let frames = pieces.map(|piece| Ok(Frame::data(Bytes::from(piece))));
            Response::new(BodyExt::boxed(StreamBody::new(frames)))
        }
        (BOATS, query) if request.headers().contains_key("upgrade") => {
            asked.lock().push(request.headers().clone());
            if query == Some("closed") {
                let mut refused = body(json!({"kind": "Status", "code": 403}));
                *refused.status_mut() = http::StatusCode::FORBIDDEN;
                return refused;
            }
            let protocol = request.headers()["upgrade"].clone();
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
            let answer = Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", protocol);
            answer.body(Full::default().boxed()).unwrap()
        }
        (BOATS, _) => {
            asked.lock().push(request.headers().clone());
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            body(json!({"kind": "Boat", "sent": String::from_utf8_lossy(&sent)}))
        }
        _ => {
            let mut missing = body(json!("nothing here"));
            *missing.status_mut() = http::StatusCode::NOT_FOUND;
            missing
        }
    }
}

fn registration(authority: &str) -> Value {
    json!({
        "metadata": {"name": "v1.sea.example.com"},
        "spec": {
            "group": "sea.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
            "service": {"namespace": "default", "name": "sea"}, "caBundle": STANDARD.encode(authority),
        },
    })
}

async fn with_service(world: &World) {
    let service = json!({"metadata": {"name": "sea"}, "spec": {"ports": [{"name": "https", "port": 443}]}});
    world
        .ok(Method::POST, "/api/v1/namespaces/default/services", service)
        .await;
}

async fn with_endpoints(world: &World) {
    let slice = json!({
        "metadata": {"name": "sea-1", "labels": {"kubernetes.io/service-name": "sea"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}], "ports": [{"name": "https", "port": 8443}],
    });
    world.ok(Method::POST, SLICES, slice).await;
}

/// Waits until the registration's condition has a reason.
async fn until(world: &World, reason: &str) -> Value {
    let says = |object: &Value| object["status"]["conditions"][0]["reason"] == reason;
    world
        .until(REGISTRATIONS, "v1.sea.example.com", |_, object| says(object))
        .await
}

async fn with_boats() -> (World, Sea) {
    let world = world().await;
    let sea = boats(&world).await;
    (world, sea)
}

async fn boats(world: &World) -> Sea {
    let sea = sea(world).await;
    with_service(world).await;
    with_endpoints(world).await;
    world
        .ok(Method::POST, REGISTRATIONS, registration(&sea.authority))
        .await;
    let passed = until(world, "Passed").await;
    assert_eq!(condition(&passed, "Available"), "True");
    sea
}

fn aggregated(path: &str) -> Request<Full<Bytes>> {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    Request::get(path)
        .header("accept", accept)
        .body(Full::default())
        .unwrap()
}

async fn groups(world: &World) -> Vec<Value> {
    let answer = world.admin().oneshot(aggregated("/apis")).await.unwrap();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let list: Value = serde_json::from_slice(&bytes).unwrap();
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_groups_served_here_are_registered() {
    let world = world().await;
    let list = world.get(REGISTRATIONS).await;
    let all = list["items"].as_array().unwrap();
    let core = all.iter().find(|one| one["metadata"]["name"] == "v1.").unwrap();
    assert_eq!(core["status"]["conditions"][0]["reason"], "Local");
    assert!(all.iter().all(|one| condition(one, "Available") == "True"));
    assert_eq!(
        world.table(&format!("{REGISTRATIONS}/v1.apps")).await["rows"][0]["cells"][1],
        "Local"
    );

    let definition = json!({"metadata": {"name": "nets.fish.example.com"}, "spec": {
        "group": "fish.example.com", "scope": "Namespaced", "names": {"plural": "nets", "kind": "Net"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
    }});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.ok(Method::POST, definitions, definition).await;
    let name = "v1.fish.example.com";
    let made = world.until(REGISTRATIONS, name, |kind, _| kind == "ADDED").await;
    assert_eq!(made["spec"]["groupPriorityMinimum"], 1000);
    let gone = world.until(REGISTRATIONS, name, |kind, _| kind == "DELETED");
    let (_, ()) = tokio::join!(gone, async {
        world
            .ok(
                Method::DELETE,
                &format!("{definitions}/nets.fish.example.com"),
                Value::Null,
            )
            .await;
    });
}

#[tokio::test]
async fn a_registration_says_why_its_group_is_not_served() {
    let world = world().await;
    world
        .ok(Method::POST, REGISTRATIONS, registration("no certificate"))
        .await;
    until(&world, "ServiceNotFound").await;
    let (code, message) = world.fails(Method::GET, BOATS, Value::Null).await;
    assert_eq!((code, message.as_str()), (503, "service unavailable"));
    with_service(&world).await;
    until(&world, "EndpointsNotFound").await;
    with_endpoints(&world).await;
    let failing = until(&world, "FailedDiscoveryCheck").await;
    let message = failing["status"]["conditions"][0]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.starts_with("failing or missing response from https://sea.default.svc:443/apis/sea.example.com/v1: "),
        "{message}"
    );
    // It is listed all the same, so that clients see what is missing.
    let sea = groups(&world)
        .await
        .into_iter()
        .find(|group| group["metadata"]["name"] == "sea.example.com")
        .unwrap();
    assert_eq!(sea["versions"][0]["freshness"], "Stale");
    // A better registration is tried at once.
    let authority = sea_authority(&world).await;
    let change = json!([{"op": "replace", "path": "/spec/caBundle", "value": STANDARD.encode(authority)}]);
    world
        .ok(Method::PATCH, &format!("{REGISTRATIONS}/v1.sea.example.com"), change)
        .await;
    until(&world, "Passed").await;
    world.ok(Method::DELETE, &format!("{SLICES}/sea-1"), Value::Null).await;
    until(&world, "EndpointsNotFound").await;
    assert_eq!(world.fails(Method::GET, BOATS, Value::Null).await.0, 503);
    world
        .ok(
            Method::DELETE,
            &format!("{REGISTRATIONS}/v1.sea.example.com"),
            Value::Null,
        )
        .await;
    assert_eq!(world.fails_plainly("/apis/sea.example.com/v1").await, 404);
}

async fn sea_authority(world: &World) -> String {
    sea(world).await.authority
}

#[tokio::test]
async fn requests_go_to_the_server_of_the_group_in_the_askers_name() {
    let (world, sea) = with_boats().await;
    let body = json!({"apiVersion": "sea.example.com/v1", "kind": "Boat"});
    let ann = world.server.local("ann", &["system:masters", "dev"]);
    let request = Request::post(BOATS)
        .header("x-remote-user", "root")
        .header("authorization", "Bearer secret")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let answer = ann.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value["sent"], body.to_string());
    let headers = sea.asked.lock()[0].clone();
    assert_eq!(headers.get_all("x-remote-user").iter().collect::<Vec<_>>(), ["ann"]);
    let groups: Vec<_> = headers.get_all("x-remote-group").iter().collect();
    assert_eq!(groups, ["system:masters", "dev", "system:authenticated"]);
    assert_eq!(
        (headers.get("authorization"), &headers["host"]),
        (None, &HOST.parse().unwrap())
    );
    // Rights are checked before anybody is asked.
    let nobody = world.server.local("bob", &[]);
    let refused = nobody
        .oneshot(Request::get(BOATS).body(Full::<Bytes>::default()).unwrap())
        .await
        .unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(sea.asked.lock().len(), 1);
    // A path that means something else to somebody who tidies it up.
    let (code, _) = world
        .fails(Method::GET, &format!("{BOATS}/../../../x"), Value::Null)
        .await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn a_watch_is_passed_on_piece_by_piece() {
    let (world, sea) = with_boats().await;
    let request = Request::get(format!("{BOATS}?watch=1"))
        .body(Full::<Bytes>::default())
        .unwrap();
    let mut body = world.admin().oneshot(request).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "one");
    sea.more.notify_one();
    let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(second, "two");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn upgrades_are_passed_on_with_all_that_follows() {
    let running = running().await;
    let sea = boats(&running.world).await;
    for protocol in ["websocket", "SPDY/3.1"] {
        let mut stream = running.connection().await;
        let head = format!(
            "GET {BOATS} HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: {protocol}\r\nx-remote-user: root\r\nsec-websocket-key: k\r\n\r\n"
        );
        // What the client says without waiting for the answer is not lost.
        stream.write_all(format!("{head}early").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"early") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{answer:?}");
        }
        let text = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(text.starts_with("http/1.1 101 "), "{text}");
        assert!(
            text.contains(&format!("\r\nupgrade: {}\r\n", protocol.to_lowercase())),
            "{text}"
        );
        let sent: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        let mut received = vec![0; sent.len()];
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (wrote, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut received));
        wrote.unwrap();
        read.unwrap();
        assert!(received == sent);
        // The end of one side is the end of the other.
        writer.shutdown().await.unwrap();
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
        let headers = sea.asked.lock().pop().unwrap();
        let users: Vec<_> = headers.get_all("x-remote-user").iter().collect();
        assert_eq!(users, ["coracle-admin"]);
        assert_eq!(headers["sec-websocket-key"], "k");
    }
    let refused =
        format!("GET {BOATS}?closed HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, close\r\nupgrade: websocket\r\n\r\n");
    let answer = running.raw(refused).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.ends_with("{\"kind\":\"Status\",\"code\":403}"), "{answer}");
    // Over HTTP/2 there is no such upgrade, and without the right there is none at all.
    let nobody = running.world.server.local("bob", &[]);
    let request = Request::get(BOATS)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket");
    let denied = nobody.oneshot(request.body(Full::<Bytes>::default()).unwrap()).await;
    assert_eq!(denied.unwrap().status(), 403);
}

#[tokio::test]
async fn kinds_of_another_server_are_shown_with_the_own() {
    let (world, _) = with_boats().await;
    let all = groups(&world).await;
    let sea = all.last().unwrap();
    assert_eq!(sea["metadata"]["name"], "sea.example.com", "its priority is the lowest");
    assert_eq!(sea["versions"][0]["freshness"], "Current");
    assert_eq!(sea["versions"][0]["resources"][0]["resource"], "boats");
    let list = world.get("/apis").await;
    let listed = list["groups"]
        .as_array()
        .unwrap()
        .iter()
        .any(|group| group["name"] == "sea.example.com");
    assert!(listed);
    assert_eq!(
        world.get("/apis/sea.example.com").await["preferredVersion"]["version"],
        "v1"
    );
    assert_eq!(
        world.get("/apis/sea.example.com/v1").await["resources"][0]["name"],
        "boats"
    );

    // The documents come a moment after the condition; a second look at the same server changes nothing.
    let place = loop {
        let index = world.get("/openapi/v3").await;
        match &index["paths"]["apis/sea.example.com/v1"]["serverRelativeURL"] {
            Value::String(place) => break place.clone(),
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(world.get(&place).await["components"]["schemas"]["Boat"], json!({}));
    let older = world.get("/openapi/v2").await;
    assert!(older["paths"]["/apis/sea.example.com/v1/boats"].is_object());
    assert_eq!(
        (&older["definitions"]["Boat"], older["paths"].get("/version")),
        (&json!({}), None)
    );
}
