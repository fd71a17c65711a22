//! Requests through real sockets of the host to servers in pods.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_net::{
    Endpoint, EndpointPort, FabricConfig, PodIdentity, PodNet, Protocol, Service, ServicePort, Snapshot,
};
use http_body_util::Empty;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::certificates::{Certificates, Resolver};
use super::super::listen;
use super::*;

/// What `future` gives, which must not take long: a test that would hang fails instead.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it never happened")
}

/// An ingress in front of a network of its own.
struct World {
    fabric: Fabric,
    table: Arc<ArcSwap<Table>>,
    at: SocketAddr,
    stop: CancellationToken,
    pods: Vec<Arc<PodNet>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    async fn new(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let fabric = Fabric::new(FabricConfig::default());
        let table: Arc<ArcSwap<Table>> = Arc::default();
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let proxy = Proxy {
            fabric: fabric.clone(),
            table: table.clone(),
            stop: stop.clone(),
        };
        tokio::spawn(listen::serve(listener, tls, proxy, stop.clone()));
        Self {
            fabric,
            table,
            at,
            stop,
            pods: vec![],
        }
    }

    /// A pod at 10.244.0.<last>, which listens at 8080 where it is told so.
    fn pod(&mut self, last: u8, listens: bool) {
        let identity = PodIdentity {
            namespace: "demo".into(),
            name: format!("pod-{last}"),
            uid: format!("uid-{last}"),
        };
        let pod = self
            .fabric
            .add_pod(identity, vec![IpAddr::from([10, 244, 0, last])])
            .unwrap();
        self.pods.push(pod.clone());
        if !listens {
            return;
        }
        let binding = pod.bind("0.0.0.0:8080".parse().unwrap()).unwrap();
        binding.listen(64).unwrap();
        tokio::spawn(async move {
            while let Ok(stream) = binding.accept_stream().await {
                let service = service_fn(move |request| async move { Ok::<_, io::Error>(answer(last, request)) });
                tokio::spawn(async move {
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
    }

    /// The services of demo, each with a port 80 named http and endpoints at 8080 of these pods.
    fn tell(&self, services: &[(&str, &[u8])]) {
        let endpoint = |last: &u8| Endpoint {
            address: IpAddr::from([10, 244, 0, *last]),
            ready: true,
            serving: true,
            node: None,
            hostname: None,
            ports: vec![EndpointPort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 8080,
            }],
        };
        let service = |(name, endpoints): &(&str, &[u8])| Service {
            namespace: "demo".into(),
            name: (*name).into(),
            ports: vec![ServicePort {
                name: "http".into(),
                port: 80,
                app_protocol: name.starts_with("grpc").then(|| "kubernetes.io/h2c".to_owned()),
                ..ServicePort::default()
            }],
            endpoints: endpoints.iter().map(endpoint).collect(),
            ..Service::default()
        };
        self.fabric.update(Arc::new(Snapshot {
            services: services.iter().map(service).collect(),
        }));
    }

    /// Rules for the host `web.test`: path and service.
    fn rules(&self, rules: &[(&str, &str)]) {
        let path = |(path, service): &(&str, &str)| json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"name": "http"}}}});
        let paths: Vec<_> = rules.iter().map(path).collect();
        let ingress = json!({"metadata": {"namespace": "demo", "name": "web"},
            "spec": {"rules": [{"host": "web.test", "http": {"paths": paths}}]}});
        self.table
            .store(Arc::new(Table::new([&serde_json::from_value(ingress).unwrap()])));
    }

    /// One request over a connection of its own.
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
        let stream = TcpStream::connect(self.at).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().uri(path).header("host", "web.test:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender
            .send_request(request.body(Empty::<Bytes>::new()).unwrap())
            .await
            .unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// Says who was asked for what; changes the protocol where that is wanted, and echoes then.
fn answer(last: u8, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            tokio::io::copy(&mut read, &mut write).await
        });
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let response = response.header("connection", "upgrade").header("upgrade", "websocket");
        return response.body(Full::default()).unwrap();
    }
    let mut text = format!("pod-{last} {} {:?}\n", request.uri(), request.version());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    Response::new(Full::from(text))
}

#[tokio::test]
async fn the_service_gets_the_request_and_learns_who_asked() {
    let mut world = World::new(None).await;
    world.pod(3, true);
    world.tell(&[("web", &[3])]);
    world.rules(&[("/app", "web")]);
    let (status, said) = soon(world.get("/app/x?q=1", &[("x-forwarded-for", "6.6.6.6"), ("x-own", "kept")])).await;
    assert_eq!(status, StatusCode::OK);
    assert!(said.starts_with("pod-3 /app/x?q=1 HTTP/1.1\n"), "{said}");
    for line in [
        "host: web.test:8080\n",
        "x-forwarded-for: 127.0.0.1\n",
        "x-forwarded-host: web.test:8080\n",
        "x-forwarded-proto: http\n",
        "x-own: kept\n",
    ] {
        assert!(said.contains(line), "{line} of\n{said}");
    }
}

#[tokio::test]
async fn a_service_that_speaks_http_2_is_asked_so() {
    let mut world = World::new(None).await;
    world.pod(3, true);
    world.tell(&[("grpc-web", &[3])]);
    world.rules(&[("/", "grpc-web")]);
    let (status, said) = soon(world.get("/x?q=1", &[("te", "trailers")])).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        said.starts_with("pod-3 http://web.test:8080/x?q=1 HTTP/2.0\n"),
        "{said}"
    );
    assert!(said.contains("te: trailers\n") && !said.contains("\nhost:"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_passed_on_says_why() {
    let mut world = World::new(None).await;
    world.pod(3, false);
    world.tell(&[("empty", &[]), ("deaf", &[3])]);
    world.rules(&[("/absent", "absent"), ("/empty", "empty"), ("/deaf", "deaf")]);
    for (path, status) in [
        ("/", StatusCode::NOT_FOUND),
        ("/absent", StatusCode::SERVICE_UNAVAILABLE),
        ("/empty", StatusCode::SERVICE_UNAVAILABLE),
        ("/deaf", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        assert_eq!(soon(world.get(path, &[])).await.0, status, "{path}");
    }
    for (sent, status) in [
        ("GET / HTTP/1.0\r\n\r\n", "400"),
        ("CONNECT web.test:80 HTTP/1.1\r\nhost: web.test\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let mut stream = TcpStream::connect(world.at).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        soon(stream.read_exact(&mut head)).await.unwrap();
        assert!(head.ends_with(status.as_bytes()), "{sent:?}: {head:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over() {
    let mut world = World::new(None).await;
    world.pod(3, true);
    world.pod(4, false);
    world.tell(&[("web", &[3, 4])]);
    world.rules(&[("/", "web")]);
    for _ in 0..6 {
        assert_eq!(soon(world.get("/", &[])).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_connection_may_change_its_protocol() {
    let mut world = World::new(None).await;
    world.pod(3, true);
    world.tell(&[("web", &[3])]);
    world.rules(&[("/", "web")]);
    let stream = TcpStream::connect(world.at).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder().uri("/").header("host", "web.test");
    let request = request.header("connection", "Upgrade").header("upgrade", "websocket");
    let response = soon(sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    let mut stream = TokioIo::new(soon(hyper::upgrade::on(response)).await.unwrap());
    for word in ["one", "two"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        let mut back = [0; 3];
        soon(stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, word.as_bytes());
    }
    // Nothing else would end it.
    world.stop.cancel();
    assert!(matches!(soon(stream.read(&mut [0; 1])).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn no_request_fails_while_the_rules_change() {
    let mut world = World::new(None).await;
    world.pod(3, true);
    world.pod(4, true);
    world.tell(&[("web", &[3]), ("other", &[4])]);
    world.rules(&[("/", "web")]);
    let done = AtomicBool::new(false);
    let changing = async {
        for service in ["other", "web"].iter().cycle() {
            if done.load(Ordering::Relaxed) {
                return;
            }
            world.rules(&[("/", service)]);
            tokio::task::yield_now().await;
        }
    };
    let asking = async {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..300 {
            let (status, said) = world.get("/", &[]).await;
            assert_eq!(status, StatusCode::OK, "{said}");
            seen.insert(said.split(' ').next().unwrap().to_owned());
        }
        assert_eq!(seen.len(), 2, "the rules did not change between requests");
        done.store(true, Ordering::Relaxed);
    };
    soon(async { tokio::join!(changing, asking) }).await;
}

#[tokio::test]
async fn http_2_over_tls_with_the_certificate_of_the_name() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed(vec!["web.test".to_owned()]).unwrap();
    let secret = json!({"type": "kubernetes.io/tls", "stringData": {}});
    let mut secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret).unwrap();
    let bytes = |text: String| k8s_openapi::ByteString(text.into_bytes());
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    secret.data = Some(
        [
            ("tls.crt".into(), bytes(certificate.clone())),
            ("tls.key".into(), bytes(key)),
        ]
        .into(),
    );
    let ingress = json!({"spec": {"tls": [{"hosts": ["web.test"], "secretName": "web"}]}});
    let mut certificates = Certificates::default();
    let wrong = certificates.add(&serde_json::from_value(ingress).unwrap(), |_| Some(&secret), &provider);
    assert!(wrong.is_empty(), "{wrong:?}");
    let resolver = Resolver::new(Arc::new(ArcSwap::from_pointee(certificates)), &provider).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut world = World::new(Some(Arc::new(config).into())).await;
    world.pod(3, true);
    world.tell(&[("web", &[3])]);
    world.rules(&[("/", "web")]);

    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap())
        .unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let connect = async |name: &'static str| {
        let stream = TcpStream::connect(world.at).await.unwrap();
        soon(connector.connect(ServerName::try_from(name).unwrap(), stream)).await
    };
    // Another name gets a certificate that nobody has signed.
    connect("other.test").await.unwrap_err();
    let stream = connect("web.test").await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let asked = (0..20).map(|number| {
        let request = Request::builder().uri(format!("https://web.test/{number}"));
        sender.send_request(request.body(Empty::<Bytes>::new()).unwrap())
    });
    for (number, response) in soon(futures::future::join_all(asked)).await.into_iter().enumerate() {
        let response = response.unwrap();
        assert_eq!(
            (response.status(), response.version()),
            (StatusCode::OK, Version::HTTP_2)
        );
        let said = soon(response.into_body().collect()).await.unwrap().to_bytes();
        let said = String::from_utf8(said.to_vec()).unwrap();
        assert!(said.starts_with(&format!("pod-3 /{number} HTTP/1.1\n")), "{said}");
        assert!(
            said.contains("x-forwarded-proto: https\n") && said.contains("host: web.test\n"),
            "{said}"
        );
    }
}
