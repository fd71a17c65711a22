//! Tokens of service accounts, from the outside.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::{World, pod, send, world};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// A request with a token, as from a connection without a certificate.
async fn bearer(world: &World, method: Method, path: &str, token: &str, body: &str) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::new(bytes::Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    let answer = world.server.local_anonymous().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

async fn account(world: &World, name: &str) {
    world
        .ok(Method::POST, ACCOUNTS, json!({"metadata": {"name": name}}))
        .await;
}

async fn issue(world: &World, name: &str, spec: Value) -> String {
    let path = format!("{ACCOUNTS}/{name}/token");
    let answer = world.ok(Method::POST, &path, json!({"spec": spec})).await;
    answer["status"]["token"].as_str().unwrap().to_owned()
}

async fn review(world: &World, token: &str, audiences: Value) -> Value {
    let body = json!({"spec": {"token": token, "audiences": audiences}});
    let answer = world.ok(Method::POST, REVIEWS, body).await;
    assert_eq!(answer["spec"].get("token"), None, "{answer}");
    answer["status"].clone()
}

#[tokio::test]
async fn the_bearer_of_a_token_is_the_account() {
    let world = world().await;
    account(&world, "web").await;
    let token = issue(&world, "web", json!({"expirationSeconds": 600})).await;
    let (code, who) = bearer(&world, Method::POST, WHO, &token, "{}").await;
    assert_eq!(code, 201, "{who}");
    let user = &who["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:web");
    assert_eq!(
        user["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    let (code, denied) = bearer(&world, Method::GET, "/api/v1/nodes", &token, "").await;
    assert_eq!(code, 403);
    assert!(
        denied["message"]
            .as_str()
            .unwrap()
            .contains("system:serviceaccount:default:web")
    );
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert_eq!(claims["sub"], "system:serviceaccount:default:web");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
}

#[tokio::test]
async fn a_bad_token_is_nobody() {
    let world = world().await;
    account(&world, "web").await;
    let good = issue(&world, "web", json!({})).await;
    let other = issue(&world, "web", json!({"audiences": ["vault"]})).await;
    let mut forged = good.clone();
    forged.replace_range(..1, "x");
    for token in ["bogus", "a.b", "a.b.c", "abcdef.0123456789abcdef", &forged, &other] {
        let (code, status) = bearer(&world, Method::GET, "/version", token, "").await;
        assert_eq!(
            (code, &status["message"], &status["reason"]),
            (401, &json!("Unauthorized"), &json!("Unauthorized"))
        );
    }
    world.ok(Method::DELETE, &format!("{ACCOUNTS}/web"), Value::Null).await;
    assert_eq!(bearer(&world, Method::GET, "/version", &good, "").await.0, 401);
    // A new account of that name is another one.
    account(&world, "web").await;
    assert_eq!(bearer(&world, Method::GET, "/version", &good, "").await.0, 401);
}

#[tokio::test]
async fn a_token_ends_with_the_pod_it_is_bound_to() {
    let world = world().await;
    account(&world, "web").await;
    let mut own = pod("one");
    own["spec"]["serviceAccountName"] = json!("web");
    world.ok(Method::POST, "/api/v1/namespaces/default/pods", own).await;
    world
        .ok(Method::POST, "/api/v1/namespaces/default/pods", {
            let mut p = pod("two");
            p["spec"]["serviceAccountName"] = json!("default");
            p
        })
        .await;
    let bound = |name: &str| json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name}});
    let token = issue(&world, "web", bound("one")).await;
    let status = review(&world, &token, json!([])).await;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(
        status["user"]["extra"]["authentication.kubernetes.io/pod-name"],
        json!(["one"])
    );
    let path = format!("{ACCOUNTS}/web/token");
    let (code, text) = world.fails(Method::POST, &path, json!({"spec": bound("two")})).await;
    assert_eq!(code, 400, "{text}");
    assert_eq!(
        world
            .fails(Method::POST, &path, json!({"spec": bound("three")}))
            .await
            .0,
        404
    );
    world
        .ok(Method::DELETE, "/api/v1/namespaces/default/pods/one", Value::Null)
        .await;
    let status = review(&world, &token, json!([])).await;
    assert_eq!(status, json!({"user": {}, "error": "invalid bearer token"}));
}

#[tokio::test]
async fn audiences_are_kept_apart() {
    let world = world().await;
    account(&world, "web").await;
    let token = issue(&world, "web", json!({"audiences": ["vault", "mail"]})).await;
    let status = review(&world, &token, json!(["mail", "other"])).await;
    assert_eq!(status["audiences"], json!(["mail"]), "{status}");
    assert_eq!(review(&world, &token, json!([])).await.get("authenticated"), None);
}

#[tokio::test]
async fn a_token_can_live_in_a_secret() {
    let world = world().await;
    account(&world, "web").await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({
        "metadata": {"name": "web-token", "annotations": {"kubernetes.io/service-account.name": "web"}},
        "type": "kubernetes.io/service-account-token",
    });
    let made = world.ok(Method::POST, secrets, secret).await;
    let token = String::from_utf8(STANDARD.decode(made["data"]["token"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(bearer(&world, Method::POST, WHO, &token, "{}").await.0, 201);
    world
        .ok(Method::DELETE, &format!("{secrets}/web-token"), Value::Null)
        .await;
    assert_eq!(bearer(&world, Method::POST, WHO, &token, "{}").await.0, 401);
}

#[tokio::test]
async fn bootstrap_tokens_name_their_group() {
    let world = world().await;
    let secret = json!({
        "metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"},
    });
    world
        .ok(Method::POST, "/api/v1/namespaces/kube-system/secrets", secret)
        .await;
    let (code, who) = bearer(&world, Method::POST, WHO, "abcdef.0123456789abcdef", "{}").await;
    assert_eq!(
        (code, &who["status"]["userInfo"]["username"]),
        (201, &json!("system:bootstrap:abcdef"))
    );
}

#[tokio::test]
async fn others_find_the_key() {
    let world = world().await;
    let document = world.get("/.well-known/openid-configuration").await;
    let issuer = document["issuer"].as_str().unwrap();
    let keys = document["jwks_uri"].as_str().unwrap().strip_prefix(issuer).unwrap();
    assert_eq!(world.get(keys).await["keys"][0]["crv"], "P-256");
}

#[tokio::test]
async fn nobody_in_particular_sees_health_and_version_only() {
    let world = world().await;
    let get = |path: &'static str| send(world.server.local_anonymous(), Method::GET, path, Value::Null);
    for path in ["/version", "/healthz", "/livez", "/readyz"] {
        assert_eq!(get(path).await.0.as_u16(), 200, "{path}");
    }
    for path in [
        "/api",
        "/apis",
        "/metrics",
        "/api/v1/namespaces/default/secrets",
        "/openid/v1/jwks",
    ] {
        assert_eq!(get(path).await.0.as_u16(), 403, "{path}");
    }
}
