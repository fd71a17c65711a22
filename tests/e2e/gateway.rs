//! The Gateway API: made with kubectl, asked by HTTP clients of the host.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::world::{World, ready};

/// One request over a connection that the caller made: the whole answer.
fn ask(mut stream: impl Read + Write, host: &str, path: &str, headers: &str) -> String {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}connection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    // A server that ends TLS without saying so is an error of the last read, after the answer.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

async fn get(at: SocketAddr, host: &'static str, path: &'static str, headers: &'static str) -> String {
    let ask = move || ask(std::net::TcpStream::connect(at).unwrap(), host, path, headers);
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// What kubectl prints of an object by a JSONPath, once it is that.
async fn becomes(world: &World, object: &str, path: &str, wanted: &str) {
    let wait = format!("--for=jsonpath={path}={wanted}");
    let waits = async {
        // The kind or the object may not be there yet, for which kubectl does not wait.
        while !world.try_kubectl(&["wait", object, &wait, "--timeout=60s"], "").await.0 {}
    };
    let waits = tokio::time::timeout(std::time::Duration::from_secs(90), waits).await;
    let shown = async { world.try_kubectl(&["get", object, "-o", "yaml"], "").await };
    assert!(waits.is_ok(), "{object} is not {wanted} at {path}:\n{:?}", shown.await);
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn gateways_lead_requests_as_their_routes_say() {
    let world = World::start().await;
    let (plain, tls) = world.cluster.ingress().unwrap();
    for name in ["web", "canary"] {
        world.run(name, "hello", &["hello"], "").await;
        world.apply(&service(name)).await;
    }
    becomes(&world, "gatewayclass/coracle", "{.status.conditions[0].status}", "True").await;
    let made = rcgen::generate_simple_self_signed(vec!["web.test".to_owned()]).unwrap();
    let indented = |text: String| text.trim_end().replace('\n', "\n    ");
    let manifest = format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: web}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    {}
  tls.key: |
    {}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gate}}
spec:
  gatewayClassName: coracle
  listeners:
  - {{name: http, port: {}, protocol: HTTP}}
  - {{name: https, port: {}, protocol: HTTPS, hostname: web.test, tls: {{certificateRefs: [{{name: web}}]}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web}}
spec:
  parentRefs: [{{name: gate}}]
  hostnames: [web.test]
  rules:
  - matches: [{{path: {{value: /canary}}}}, {{headers: [{{name: x-canary, value: \"1\"}}]}}]
    filters:
    - {{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /new}}}}}}
    - {{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-by, value: gate}}]}}}}
    backendRefs: [{{name: canary, port: 80}}]
  - matches: [{{path: {{value: /gone}}}}]
    filters: [{{type: RequestRedirect, requestRedirect: {{hostname: other.test, statusCode: 301}}}}]
  - matches: [{{path: {{value: /split}}}}]
    backendRefs: [{{name: web, port: 80, weight: 1}}, {{name: canary, port: 80, weight: 1}}]
  - filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: canary, port: 80}}, percent: 50}}}}]
    backendRefs: [{{name: web, port: 80}}]
",
        indented(made.cert.pem()),
        indented(made.signing_key.serialize_pem()),
        plain.port(),
        tls.port(),
    );
    let (good, _, err) = world.try_kubectl(&["apply", "-f", "-"], &manifest).await;
    assert!(good, "{err}");
    becomes(
        &world,
        "gateway/gate",
        "{.status.conditions[?(@.type==\"Programmed\")].status}",
        "True",
    )
    .await;
    becomes(&world, "gateway/gate", "{.status.listeners[0].attachedRoutes}", "1").await;
    becomes(&world, "gateway/gate", "{.status.listeners[1].attachedRoutes}", "1").await;
    becomes(
        &world,
        "httproute/web",
        "{.status.parents[0].conditions[?(@.type==\"ResolvedRefs\")].status}",
        "True",
    )
    .await;
    let shown = world.kubectl(&["get", "gateway", "gate"]).await;
    assert!(
        shown.contains("coracle") && shown.contains("127.0.0.1") && shown.contains("True"),
        "{shown}"
    );
    for name in ["web", "canary"] {
        world.pod(name, ready).await;
        world
            .run(
                &format!("ask-{name}"),
                "caller",
                &[&format!("http://{name}/"), "--every", "0.1"],
                "",
            )
            .await;
        world
            .says(&format!("ask-{name}"), "main", &format!("Hello from {name}"))
            .await;
    }

    let answer = get(plain, "web.test", "/", "").await;
    assert!(answer.contains("Hello from web"), "{answer}");
    let answer = get(plain, "web.test", "/canary/x?q=1", "").await;
    assert!(
        answer.contains("Hello from canary") && answer.contains("GET /new/x?q=1"),
        "{answer}"
    );
    assert!(answer.contains("x-by: gate"), "{answer}");
    let answer = get(plain, "web.test", "/", "x-canary: 1\r\n").await;
    assert!(answer.contains("Hello from canary"), "{answer}");
    let answer = get(plain, "web.test", "/gone", "").await;
    assert!(answer.starts_with("HTTP/1.1 301"), "{answer}");
    assert!(
        answer.contains(&format!("location: http://other.test:{}/gone", plain.port())),
        "{answer}"
    );
    let answer = get(plain, "other.test", "/", "").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let mut from_web = 0;
    for _ in 0..20 {
        from_web += usize::from(get(plain, "web.test", "/split", "").await.contains("Hello from web"));
    }
    assert!((8..=12).contains(&from_web), "{from_web} of 20");

    let secure = tokio::task::spawn_blocking(move || {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap())
            .unwrap();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("web.test").unwrap();
        let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = std::net::TcpStream::connect(tls).unwrap();
        ask(rustls::StreamOwned::new(session, stream), "web.test", "/", "")
    });
    let secure = secure.await.unwrap();
    assert!(secure.contains("Hello from web"), "{secure}");

    // A port of its own, and a backend that is not there.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let second = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: own}}
spec: {{gatewayClassName: coracle, listeners: [{{name: http, port: {}, protocol: HTTP}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: broken}}
spec: {{parentRefs: [{{name: own}}], rules: [{{backendRefs: [{{name: absent, port: 80}}]}}]}}
",
        free.port()
    );
    let (good, _, err) = world.try_kubectl(&["apply", "-f", "-"], &second).await;
    assert!(good, "{err}");
    becomes(
        &world,
        "httproute/broken",
        "{.status.parents[0].conditions[?(@.type==\"ResolvedRefs\")].reason}",
        "BackendNotFound",
    )
    .await;
    let answer = get(free, "any.test", "/", "").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    world.kubectl(&["delete", "gateway", "own"]).await;
    let closed = async { while tokio::net::TcpStream::connect(free).await.is_ok() {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), closed)
        .await
        .unwrap();

    // What nobody could do is refused when it is applied.
    let wrong = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: wrong}
spec: {parentRefs: [{name: gate}], rules: [{filters: [{type: Teleport}]}]}
";
    let (good, _, err) = world.try_kubectl(&["apply", "-f", "-"], wrong).await;
    assert!(!good && err.contains("Teleport"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_kubectl), ignore = "kubectl is missing; `. .ci/install` brings it")]
async fn kinds_that_another_version_made_are_renewed_and_those_of_others_stay() {
    let world = World::start().await;
    becomes(&world, "gatewayclass/coracle", "{.status.conditions[0].status}", "True").await;
    let [theirs, same, older] =
        ["gatewayclasses", "gateways", "httproutes"].map(|plural| format!("{plural}.gateway.networking.k8s.io"));
    let described =
        r#"{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/description", "value": "otherwise"}"#;
    let approved = r#"{"op": "replace", "path": "/metadata/annotations/api-approved.kubernetes.io", "value": "https://example.com/1"}"#;
    for (name, patch) in [
        (&theirs, format!("[{described}, {approved}]")),
        (&older, format!("[{described}]")),
    ] {
        world
            .kubectl(&["patch", "crd", name, "--type=json", "-p", &patch])
            .await;
    }
    let definition = async |world: &World, name: &str| {
        let api = Api::<CustomResourceDefinition>::all(world.client());
        api.get(name).await.unwrap()
    };
    let (their_version, same_version) = (
        definition(&world, &theirs).await.resource_version(),
        definition(&world, &same).await.resource_version(),
    );

    let data = world.cluster.shutdown().await;
    let world = World::start_on(data).await;

    // The kinds are looked at in this order.
    let all = Api::<CustomResourceDefinition>::all(world.client());
    world
        .until(&all, &older, |definition| {
            let schema = definition.spec.versions[0].schema.as_ref().unwrap();
            schema.open_api_v3_schema.as_ref().unwrap().description.is_none()
        })
        .await;
    assert_eq!(definition(&world, &theirs).await.resource_version(), their_version);
    assert_eq!(definition(&world, &same).await.resource_version(), same_version);
}
