//! Copies of requests that come through real sockets of the host, to servers in pods.

use std::io;

use coracle_net::Binding;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::super::proxy::tests::{World, soon};
use super::super::tee::QUEUE_BYTES;
use super::*;
use crate::gateway;

/// A request as a server has got it; the body is none where it was cut off.
#[derive(Debug)]
struct Got {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Option<Bytes>,
}

fn bind(world: &mut World, last: u8) -> Binding {
    let binding = world.pod_with(last).bind("0.0.0.0:8080".parse().unwrap()).unwrap();
    binding.listen(1024).unwrap();
    binding
}

/// A pod that tells of what it gets, with its answer's body of this size.
fn tells(world: &mut World, last: u8, answers: usize) -> mpsc::UnboundedReceiver<Got> {
    let binding = bind(world, last);
    let (told, gets) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(stream) = binding.accept_stream().await {
            let told = told.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let told = told.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.ok().map(|body| body.to_bytes());
                    let (method, uri, headers) = (head.method, head.uri, head.headers);
                    let _ = told.send(Got {
                        method,
                        uri,
                        headers,
                        body,
                    });
                    io::Result::Ok(Response::new(Full::new(Bytes::from(vec![b'a'; answers]))))
                }
            });
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    gets
}

/// Mirrors by their names, each with what its filter says besides, before a service `web`.
fn mirrors(world: &World, mirrors: &[(&str, Value)]) {
    let filter = |(name, more): &(&str, Value)| {
        let mut mirror = more.clone();
        mirror["backendRef"] = json!({"name": name, "port": 80});
        json!({"type": "RequestMirror", "requestMirror": mirror})
    };
    let filters: Vec<Value> = mirrors.iter().map(filter).collect();
    rule(
        world,
        json!({"filters": filters, "backendRefs": [{"name": "web", "port": 80}]}),
    );
}

fn rule(world: &World, rule: Value) {
    let table = gateway::table_at(world.at.port(), &[("", rule)]);
    world.gateways.store(Arc::new(table));
}

/// Bytes whose pattern fits no size of a buffer, so that a part that is missing or doubled shows.
fn bytes(size: usize) -> Bytes {
    let pattern: Vec<u8> = (0..251).collect();
    let mut all = pattern.repeat(size.div_ceil(pattern.len()));
    all.truncate(size);
    all.into()
}

/// Sends a body in chunks, or with its length where `chunks` is none; the whole answer.
async fn post(world: &World, body: Bytes, chunks: Option<usize>) -> (StatusCode, Bytes) {
    let stream = TcpStream::connect(world.at).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let body = match chunks {
        None => Full::new(body).boxed_unsync(),
        Some(size) => {
            let parts = (0..body.len().div_ceil(size)).map(move |at| {
                let end = body.len().min((at + 1) * size);
                Ok(Frame::data(body.slice(at * size..end)))
            });
            StreamBody::new(futures::stream::iter(parts)).boxed_unsync()
        }
    };
    let request = Request::post("/v1/x?q=1").header("host", "web.test:8080");
    let answer = soon(sender.send_request(request.body(body).unwrap())).await.unwrap();
    let status = answer.status();
    (status, soon(answer.into_body().collect()).await.unwrap().to_bytes())
}

/// Waits until no copy is under way, and says how many were lost so far.
async fn settled(world: &World) -> u64 {
    let quiet = || {
        let rooms = world.mirrors.rooms.lock();
        let quiet = |room: &Arc<Room>| {
            (room.copies.available_permits(), room.bytes.available_permits()) == (COPIES, QUEUED_BYTES)
        };
        rooms.values().all(quiet)
    };
    soon(async {
        while !quiet() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.mirrors.lost.load(Ordering::Relaxed)
}

#[tokio::test]
async fn mirrors_get_the_request_with_its_body_byte_for_byte() {
    let mut world = World::new(None).await;
    let [mut web, mut before, mut after] = [3, 4, 5].map(|last| tells(&mut world, last, 5));
    world.tell(&[("web", &[3]), ("before", &[4]), ("grpc-after", &[5])]);
    let mirror =
        |name: &str| json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": name, "port": 80}}});
    rule(
        &world,
        json!({
            "matches": [{"path": {"value": "/v1"}}],
            "filters": [
                mirror("before"),
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-step", "value": "1"}]}},
                {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}}},
            ],
            "backendRefs": [{"name": "web", "port": 80, "filters": [mirror("grpc-after")]}],
        }),
    );
    for (size, chunks) in [
        (0, None),
        (1, None),
        (1_000_000, None),
        (3_000_000, Some(50_000)),
        (999, Some(1)),
    ] {
        let body = bytes(size);
        assert_eq!(
            post(&world, body.clone(), chunks).await,
            (StatusCode::OK, Bytes::from_static(b"aaaaa"))
        );
        for (gets, path, step) in [
            (&mut web, "/v2/x?q=1", true),
            (&mut before, "/v1/x?q=1", false),
            (&mut after, "/v2/x?q=1", true),
        ] {
            let got = soon(gets.recv()).await.unwrap();
            assert_eq!(got.method, Method::POST);
            assert_eq!(got.uri.path_and_query().unwrap(), path);
            assert_eq!(got.headers.contains_key("x-step"), step);
            let host = got.uri.authority().map(|host| host.as_str().to_owned());
            let host = host.or_else(|| Some(got.headers.get("host")?.to_str().unwrap().to_owned()));
            assert_eq!(host.as_deref(), Some("web.test:8080"));
            assert_eq!(got.headers["x-forwarded-for"], "127.0.0.1");
            let length = got
                .headers
                .get("content-length")
                .map(|length| length.to_str().unwrap().to_owned());
            // Without a body a length may be left out.
            if size > 0 {
                assert_eq!(length, chunks.is_none().then(|| size.to_string()));
            }
            assert!(got.body.unwrap() == body, "a body of {size} in chunks of {chunks:?}");
        }
    }
    assert_eq!(soon(world.get("/v1/", &[])).await.0, StatusCode::OK);
    let got = soon(before.recv()).await.unwrap();
    assert_eq!((got.method, got.body.unwrap().len()), (Method::GET, 0));
    assert!(!got.headers.contains_key("transfer-encoding"), "{:?}", got.headers);
    assert_eq!(settled(&world).await, 0);
}

#[tokio::test]
async fn a_mirror_of_half_gets_half() {
    let mut world = World::new(None).await;
    let [_web, mut half] = [3, 4].map(|last| tells(&mut world, last, 5));
    world.tell(&[("web", &[3]), ("half", &[4])]);
    mirrors(
        &world,
        &[("half", json!({"fraction": {"numerator": 1, "denominator": 2}}))],
    );
    let mut connection = world.connection().await;
    for number in 0..400 {
        let path = format!("/{number}");
        assert_eq!(
            soon(world.get_over(&mut connection, &path, &[])).await.0,
            StatusCode::OK
        );
    }
    assert_eq!(settled(&world).await, 0);
    let mut got = std::collections::BTreeSet::new();
    while let Ok(copy) = half.try_recv() {
        assert!(got.insert(copy.uri.path().to_owned()), "{} came twice", copy.uri);
    }
    assert!((198..=202).contains(&got.len()), "{} of 400", got.len());
}

#[tokio::test]
async fn a_mirror_that_is_dead_or_fails_is_not_noticed() {
    let mut world = World::new(None).await;
    let mut web = tells(&mut world, 3, 5);
    world.pod(4, false);
    // Accepts, and never says a word.
    let silent = bind(&mut world, 5);
    // Answers with something else than HTTP.
    let wrong = bind(&mut world, 6);
    tokio::spawn(async move {
        while let Ok(mut stream) = wrong.accept_stream().await {
            let _ = stream.write_all(b"no HTTP at all\r\n\r\n").await;
        }
    });
    world.tell(&[
        ("web", &[3]),
        ("empty", &[]),
        ("deaf", &[4]),
        ("silent", &[5]),
        ("wrong", &[6]),
    ]);
    for name in ["unknown", "empty", "deaf", "wrong", "silent"] {
        mirrors(&world, &[(name, json!({}))]);
        let lost = world.mirrors.lost.load(Ordering::Relaxed);
        let body = bytes(100_000);
        let (status, said) = post(&world, body.clone(), None).await;
        assert_eq!((status, said.len()), (StatusCode::OK, 5), "{name}");
        assert_eq!(soon(web.recv()).await.unwrap().body.unwrap(), body, "{name}");
        assert_eq!(soon(world.get("/", &[])).await.0, StatusCode::OK, "{name}");
        soon(web.recv()).await.unwrap();
        if name != "silent" {
            assert_eq!(settled(&world).await, lost + 2, "{name}");
        }
    }
    drop(silent);
    settled(&world).await;
}

#[tokio::test]
async fn a_mirror_that_never_reads_does_not_hold_a_large_upload() {
    let mut world = World::new(None).await;
    let (mut web, mut quick) = (tells(&mut world, 3, 5), tells(&mut world, 4, 5));
    let slow = bind(&mut world, 5);
    world.tell(&[("web", &[3]), ("quick", &[4]), ("slow", &[5])]);
    mirrors(&world, &[("slow", json!({})), ("quick", json!({}))]);
    let body = bytes(5 * QUEUE_BYTES);
    let sent = post(&world, body.clone(), Some(64 * 1024));
    let accepted = async { soon(slow.accept_stream()).await.unwrap() };
    let ((status, said), mut stream) = tokio::join!(sent, accepted);
    assert_eq!((status, said.len()), (StatusCode::OK, 5));
    assert!(soon(web.recv()).await.unwrap().body.unwrap() == body);
    // The other mirror has its turn, or is cut off as well where this machine did not let it run.
    let quick = soon(quick.recv()).await.unwrap().body;
    assert!(quick.as_ref().is_none_or(|got| *got == body));
    assert_eq!(settled(&world).await, 1 + u64::from(quick.is_none()));
    // What has arrived there is a part, and says so by how it ends.
    let mut left = Vec::new();
    let _ = soon(stream.read_to_end(&mut left)).await;
    assert!(
        left.len() < body.len() && !left.ends_with(b"\r\n0\r\n\r\n"),
        "{}",
        left.len()
    );
}

#[tokio::test]
async fn a_copy_ends_with_a_client_that_gives_up() {
    let mut world = World::new(None).await;
    let (web, mirror) = (bind(&mut world, 3), bind(&mut world, 4));
    world.tell(&[("web", &[3]), ("mirror", &[4])]);
    mirrors(&world, &[("mirror", json!({}))]);
    // While it uploads, and while it waits for the answer.
    for length in [1000, 4] {
        let mut client = TcpStream::connect(world.at).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nhost: web.test\r\ncontent-length: {length}\r\n\r\nbody");
        client.write_all(head.as_bytes()).await.unwrap();
        let mut stream = soon(mirror.accept_stream()).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\nbody") {
            got.push(soon(stream.read_u8()).await.unwrap());
        }
        let of_service = soon(web.accept_stream()).await.unwrap();
        drop(client);
        got.clear();
        let _ = soon(stream.read_to_end(&mut got)).await;
        assert!(got.is_empty(), "{got:?}");
        assert_eq!(settled(&world).await, 0);
        drop(of_service);
    }
}

#[tokio::test]
async fn a_copy_goes_on_when_the_client_has_its_answer() {
    let mut world = World::new(None).await;
    let _web = tells(&mut world, 3, 5);
    let mirror = bind(&mut world, 4);
    world.tell(&[("web", &[3]), ("mirror", &[4])]);
    mirrors(&world, &[("mirror", json!({}))]);
    let body = bytes(2_000_000);
    assert_eq!(post(&world, body.clone(), None).await.0, StatusCode::OK);
    // Only now it reads, and its answer has no end.
    let mut stream = soon(mirror.accept_stream()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(&body) {
        soon(stream.read_buf(&mut got)).await.unwrap();
    }
    let answer = async {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        let mut all = 0;
        loop {
            all += stream.write(&[b'a'; 64 * 1024]).await?;
            if all > 64 * ANSWER_BYTES {
                return io::Result::Ok(());
            }
        }
    };
    soon(answer).await.unwrap_err();
    assert_eq!(settled(&world).await, 0);
}

#[tokio::test]
async fn copies_to_one_service_have_a_limit_and_share_connections() {
    let mut world = World::new(None).await;
    let _web = tells(&mut world, 3, 5);
    world.pod(4, true);
    let silent = bind(&mut world, 5);
    world.tell(&[("web", &[3]), ("mirror", &[4]), ("silent", &[5])]);
    mirrors(&world, &[("silent", json!({}))]);
    let mut connection = world.connection().await;
    for _ in 0..COPIES + 10 {
        assert_eq!(soon(world.get_over(&mut connection, "/", &[])).await.0, StatusCode::OK);
    }
    assert_eq!(world.mirrors.lost.load(Ordering::Relaxed), 10);
    // Others are not concerned; each copy here is over before the next.
    mirrors(&world, &[("mirror", json!({}))]);
    let accepted = world.accepted.clone();
    let before = world.mirrors.lost.load(Ordering::Relaxed);
    for _ in 0..20 {
        assert_eq!(soon(world.get_over(&mut connection, "/", &[])).await.0, StatusCode::OK);
        let mirror = |rooms: &HashMap<Arc<Target>, Arc<Room>>| {
            let mut rooms = rooms.iter().filter(|(target, _)| target.service == "mirror");
            rooms.all(|(_, room)| room.copies.available_permits() == COPIES)
        };
        while !mirror(&world.mirrors.rooms.lock()) {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(world.mirrors.lost.load(Ordering::Relaxed), before);
    let made = accepted.load(Ordering::Relaxed);
    assert!((1..=2).contains(&made), "{made} connections for 20 copies");
    drop(silent);
}

#[tokio::test]
async fn a_change_of_protocol_is_copied_with_its_head_alone() {
    let mut world = World::new(None).await;
    world.pod(3, true);
    let mirror = bind(&mut world, 4);
    world.tell(&[("web", &[3]), ("mirror", &[4])]);
    mirrors(&world, &[("mirror", json!({}))]);
    let answering = async {
        let mut stream = soon(mirror.accept_stream()).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            got.push(soon(stream.read_u8()).await.unwrap());
        }
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello";
        stream.write_all(answer).await.unwrap();
        let mut more = Vec::new();
        let _ = soon(stream.read_to_end(&mut more)).await;
        (String::from_utf8(got).unwrap(), more)
    };
    let asking = async {
        let mut client = TcpStream::connect(world.at).await.unwrap();
        let head = b"GET /chat HTTP/1.1\r\nhost: web.test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        client.write_all(head).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            got.push(soon(client.read_u8()).await.unwrap());
        }
        let got = String::from_utf8(got).unwrap();
        assert!(got.starts_with("HTTP/1.1 101 "), "{got}");
        for word in [b"one", b"two"] {
            client.write_all(word).await.unwrap();
            let mut back = [0; 3];
            soon(client.read_exact(&mut back)).await.unwrap();
            assert_eq!(&back, word);
        }
        client
    };
    let ((head, more), client) = tokio::join!(answering, asking);
    assert!(
        head.starts_with("GET /chat HTTP/1.1\r\n") && head.contains("upgrade: echo\r\n"),
        "{head}"
    );
    assert!(more.is_empty(), "{more:?}");
    assert_eq!(settled(&world).await, 0);
    drop(client);
}
