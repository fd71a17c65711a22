//! Mistyped objects: through what decides about them, and through a whole server.

use std::sync::Arc;

use bytes::Bytes;
use coracle_generators::specs;
use coracle_server::{Config, Pki, Server, header_of};
use coracle_store::{MemoryEngine, Store};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower::ServiceExt;

use crate::{bytes, count};

#[test]
fn what_is_accepted_stays_as_it_is() {
    let accepted = (0..count(3000)).filter(|seed| specs::check(specs::object(&bytes(*seed, 80))).is_some());
    assert!(accepted.count() > 50);
}

async fn send(server: &Server, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json");
    let body = if body.is_null() {
        Bytes::new()
    } else {
        body.to_string().into()
    };
    let answer = server
        .local_admin()
        .oneshot(request.body(Full::new(body)).unwrap())
        .await;
    let answer = answer.unwrap();
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap())
}

/// Each is refused in the words of the API or kept; what is kept can be written as it was read, and then is the same version.
#[tokio::test]
async fn a_server_refuses_or_keeps_and_never_fails() {
    let store = Store::open(
        Arc::new(MemoryEngine::new()),
        header_of,
        coracle_store::Config::default(),
    )
    .unwrap();
    let server = Server::build(Config::new(store, Pki::ephemeral(&[]).unwrap()))
        .await
        .unwrap();
    let mut kept = 0;
    for seed in 0..count(300) {
        let mut object = specs::object(&bytes(seed, 80));
        let collection = match object["kind"].as_str() {
            Some("Pod") => "/api/v1/namespaces/default/pods",
            Some("Deployment") => "/apis/apps/v1/namespaces/default/deployments",
            Some("CronJob") => "/apis/batch/v1/namespaces/default/cronjobs",
            Some("Service") => "/api/v1/namespaces/default/services",
            _ => continue,
        };
        if object["metadata"]["name"] == "sample" {
            object["metadata"]["name"] = format!("sample-{seed}").into();
        }
        let (code, answer) = send(&server, Method::POST, collection, &object).await;
        if code != 201 {
            assert!((400..500).contains(&code), "{seed}: {answer}\n{object}");
            assert_eq!(answer["kind"], "Status", "{seed}");
            continue;
        }
        kept += 1;
        let path = format!("{collection}/{}", answer["metadata"]["name"].as_str().unwrap());
        let (code, again) = send(&server, Method::PUT, &path, &answer).await;
        assert_eq!(code, 200, "{seed}: {again}\n{answer}");
        assert_eq!(
            again["metadata"]["resourceVersion"], answer["metadata"]["resourceVersion"],
            "{seed}: {answer}\n{again}"
        );
        assert_eq!(again["spec"], answer["spec"], "{seed}");
    }
    assert!(kept > 10, "{kept} were kept");
}
