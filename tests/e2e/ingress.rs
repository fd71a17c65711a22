//! Ingresses, asked by clients of the host.

use std::io::{Read, Write};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::{Api, api::DeleteParams};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::world::{World, ready};

/// One request for a host, over a connection that the caller made: the whole answer.
fn ask(mut stream: impl Read + Write, host: &str) -> String {
    write!(stream, "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A server that ends TLS without saying so is an error of the last read, after the answer.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_lead_to_services_with_and_without_tls() {
    let world = World::start().await;
    let (plain, tls) = world.cluster.ingress().unwrap();
    world.run("web", "hello", &["hello"], "").await;
    let made = rcgen::generate_simple_self_signed(vec!["web.test".to_owned()]).unwrap();
    let indented = |text: String| text.trim_end().replace('\n', "\n    ");
    world
        .apply(&format!(
            "apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Secret
metadata: {{name: web}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    {}
  tls.key: |
    {}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web}}
spec:
  tls: [{{hosts: [web.test], secretName: web}}]
  rules:
  - host: web.test
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{name: http}}}}}}}}]}}
",
            indented(made.cert.pem()),
            indented(made.signing_key.serialize_pem())
        ))
        .await;
    // The class is there from the start and is the default.
    let classes: Api<IngressClass> = Api::all(world.client());
    world.until(&classes, "coracle", |_| true).await;
    let ingresses: Api<Ingress> = world.all();
    let shown = |ingress: &Ingress| {
        let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let entries = status.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default();
        entries.into_iter().filter_map(|entry| entry.ip).collect::<Vec<_>>()
    };
    let ingress = world
        .until(&ingresses, "web", |ingress| !shown(ingress).is_empty())
        .await;
    assert_eq!(shown(&ingress), ["127.0.0.1"]);
    assert_eq!(ingress.spec.unwrap().ingress_class_name.as_deref(), Some("coracle"));
    // What a pod is led to, the ingress is led to as well.
    world.pod("web", ready).await;
    world
        .run("caller", "caller", &["http://web/", "--every", "0.1"], "")
        .await;
    world.says("caller", "main", "Hello from web").await;

    let asked = move |host: &'static str| ask(std::net::TcpStream::connect(plain).unwrap(), host);
    let secure = tokio::task::spawn_blocking(move || {
        assert!(asked("web.test").contains("Hello from web"), "{}", asked("web.test"));
        assert!(
            asked("other.test").starts_with("HTTP/1.1 404"),
            "{}",
            asked("other.test")
        );
        let mut roots = rustls::RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
        roots.add(der).unwrap();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("web.test").unwrap();
        let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = std::net::TcpStream::connect(tls).unwrap();
        ask(rustls::StreamOwned::new(session, stream), "web.test")
    });
    let secure = secure.await.unwrap();
    assert!(secure.contains("Hello from web"), "{secure}");

    // A rule goes with its object.
    ingresses.delete("web", &DeleteParams::default()).await.unwrap();
    let gone = async {
        while !tokio::task::spawn_blocking(move || asked("web.test"))
            .await
            .unwrap()
            .starts_with("HTTP/1.1 404")
        {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone)
        .await
        .unwrap();
}
