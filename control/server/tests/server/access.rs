//! Who may do what, seen from the outside.

use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::{pod, send, world};

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_binding_works_from_the_next_request_on() {
    let world = world().await;
    let ann = || world.server.local("ann", &["dev"]);
    let (status, denied) = send(ann(), Method::GET, PODS, Value::Null).await;
    assert_eq!(status.as_u16(), 403);
    assert_eq!(
        denied["message"],
        "pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let binding = json!({
        "metadata": {"name": "dev"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "Group", "name": "dev", "apiGroup": "rbac.authorization.k8s.io"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    world.ok(Method::POST, bindings, binding).await;
    assert!(send(ann(), Method::GET, PODS, Value::Null).await.0.is_success());
    assert!(send(ann(), Method::POST, PODS, pod("a")).await.0.is_success());
    assert_eq!(
        send(ann(), Method::GET, "/api/v1/namespaces/kube-system/pods", Value::Null)
            .await
            .0
            .as_u16(),
        403
    );
    assert_eq!(
        send(ann(), Method::GET, "/api/v1/nodes", Value::Null).await.0.as_u16(),
        403
    );
    world.ok(Method::DELETE, &format!("{bindings}/dev"), Value::Null).await;
    assert_eq!(send(ann(), Method::GET, PODS, Value::Null).await.0.as_u16(), 403);
}

#[tokio::test]
async fn components_may_do_their_work_and_no_more() {
    let world = world().await;
    let node = || world.server.local("system:node:n1", &["system:nodes"]);
    let scheduler = || world.server.local("system:kube-scheduler", &[]);
    let controllers = || world.server.local("system:kube-controller-manager", &[]);
    let status = async |service, method, path: &str, body| send(service, method, path, body).await.0.as_u16();
    assert_eq!(
        status(
            node(),
            Method::POST,
            "/api/v1/nodes",
            json!({"metadata": {"name": "n1"}})
        )
        .await,
        201
    );
    assert_eq!(
        status(
            node(),
            Method::POST,
            "/api/v1/namespaces",
            json!({"metadata": {"name": "x"}})
        )
        .await,
        403
    );
    assert_eq!(status(controllers(), Method::POST, PODS, pod("a")).await, 201);
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}});
    assert_eq!(
        status(scheduler(), Method::POST, &format!("{PODS}/a/binding"), binding).await,
        201
    );
    assert_eq!(status(scheduler(), Method::POST, PODS, pod("b")).await, 403);
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    assert_eq!(
        status(controllers(), Method::POST, roles, json!({"metadata": {"name": "x"}})).await,
        403
    );
}

#[tokio::test]
async fn reviews_say_what_would_happen() {
    let world = world().await;
    let review =
        json!({"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": "default"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (_, mine) = send(world.server.local("ann", &[]), Method::POST, path, review.clone()).await;
    assert_eq!(mine["status"]["allowed"], false);
    assert_eq!(
        world.ok(Method::POST, path, review.clone()).await["status"]["allowed"],
        true
    );
    let mut other = review;
    other["spec"]["user"] = json!("system:kube-scheduler");
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(world.ok(Method::POST, path, other).await["status"]["allowed"], false);
    let who = world
        .ok(
            Method::POST,
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            json!({}),
        )
        .await;
    assert_eq!(who["status"]["userInfo"]["username"], "coracle-admin");
}

async fn as_user(service: coracle_server::LocalService, user: &str, path: &str) -> (u16, Value) {
    let request = Request::get(path)
        .header("impersonate-user", user)
        .body(Full::<bytes::Bytes>::default())
        .unwrap();
    let answer = service.oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn acting_as_somebody_else_needs_a_right_and_gives_no_more() {
    let world = world().await;
    assert_eq!(as_user(world.admin(), "ann", PODS).await.0, 403);
    let (code, status) = as_user(world.server.local("bob", &[]), "coracle-admin", PODS).await;
    assert_eq!(code, 403);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("cannot impersonate resource \"users\""),
        "{status}"
    );
}
