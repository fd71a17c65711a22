//! Requests for certificates: who may have them approved, what is signed, and for how long that proves somebody.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rights::{code, grant};
use crate::wire::running_in;
use crate::world::{World, world, world_where};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A private key and what asks for a client certificate of this user: both PEM.
fn ask(user: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, user);
    let request = parameters.serialize_request(&key).unwrap().pem().unwrap();
    (key.serialize_pem(), request)
}

fn object(name: &str, request: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "request": STANDARD.encode(request),
        "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
    }})
}

fn approved(mut request: Value) -> Value {
    request["status"] =
        json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}]});
    request
}

fn certificate(signed: &Value) -> String {
    let certificate = signed["status"]["certificate"].as_str().unwrap_or_default();
    let certificate = String::from_utf8(STANDARD.decode(certificate).unwrap()).unwrap();
    assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"), "{signed}");
    certificate
}

/// A certificate and its key for this user, approved by the administrator.
async fn issue(world: &World, user: &str) -> (String, String) {
    let (key, request) = ask(user);
    let made = world.ok(Method::POST, REQUESTS, object(user, &request)).await;
    let approval = format!("{REQUESTS}/{user}/approval");
    let signed = world.ok(Method::PUT, &approval, approved(made)).await;
    (certificate(&signed), key)
}

#[tokio::test]
async fn an_approved_request_is_signed() {
    let world = world().await;
    let (_, request) = ask("ann");
    let asker = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"], "verbs": ["create", "get", "update"]}]);
    grant(&world, "ann", "asker", asker).await;
    let (found, message) = code(&world, "ann", &[], Method::POST, REQUESTS, object("ann", &request)).await;
    assert_eq!(found, 201, "{message}");
    let request = world.get(&format!("{REQUESTS}/ann")).await;
    assert_eq!(request["spec"]["username"], "ann");
    let request = approved(request);
    let approval = format!("{REQUESTS}/ann/approval");
    let (found, message) = code(&world, "ann", &[], Method::PUT, &approval, request.clone()).await;
    assert_eq!(found, 403, "{message}");
    assert!(
        message.contains("user not permitted to approve requests with signerName"),
        "{message}"
    );
    certificate(&world.ok(Method::PUT, &approval, request).await);
}

#[tokio::test]
async fn a_certificate_that_ends_proves_nothing_on_a_connection_that_stands() {
    let world = world_where(|config| config.signing_seconds = 3).await;
    let (certificate, key) = issue(&world, "ann").await;
    let running = running_in(world).await;
    let mut connection = running.connection_with(&certificate, &key).await;
    let mut answers = Vec::new();
    let asking = async {
        loop {
            let request = b"GET /version HTTP/1.1\r\nhost: test\r\n\r\n";
            if connection.write_all(request).await.is_err() {
                return;
            }
            let mut bytes = [0; 4096];
            match connection.read(&mut bytes).await {
                Ok(count) if count > 0 => answers.push(String::from_utf8_lossy(&bytes[..count]).into_owned()),
                // It is closed with the first answer that refuses.
                _ => return,
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), asking)
        .await
        .expect("the connection goes on");
    let is_ok = |answer: &String| answer.starts_with("HTTP/1.1 200");
    assert!(answers.first().is_some_and(is_ok), "{:?}", answers.first());
    let last = answers.last().unwrap();
    assert!(last.starts_with("HTTP/1.1 401"), "{last}");
}
