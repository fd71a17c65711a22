//! Rights that go beyond a role's rules: of nodes, of who gives rights away, of who acts as somebody else.

use http::Method;
use serde_json::{Value, json};

use crate::world::{World, pod, send, world};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

pub async fn code(
    world: &World,
    user: &str,
    groups: &[&str],
    method: Method,
    path: &str,
    body: Value,
) -> (u16, String) {
    let (status, answer) = send(world.server.local(user, groups), method, path, body).await;
    let message = answer["message"].as_str().unwrap_or_default().to_owned();
    (status.as_u16(), message)
}

/// A pod on the node `n1` that reads the Secret `mine`, the Secret `other` besides, and a pod on `n2`.
async fn two_nodes(world: &World) {
    for name in ["mine", "other"] {
        world
            .ok(Method::POST, SECRETS, json!({"metadata": {"name": name}}))
            .await;
    }
    for (name, node) in [("one", "n1"), ("two", "n2")] {
        world
            .ok(Method::POST, "/api/v1/nodes", json!({"metadata": {"name": node}}))
            .await;
        let mut own = pod(name);
        own["spec"]["nodeName"] = json!(node);
        if name == "one" {
            own["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "mine"}}]);
        }
        world.ok(Method::POST, PODS, own).await;
    }
}

#[tokio::test]
async fn a_node_reads_what_its_pods_need() {
    let world = world().await;
    two_nodes(&world).await;
    let get = |path: String| {
        let world = &world;
        async move {
            code(
                world,
                "system:node:n1",
                &["system:nodes"],
                Method::GET,
                &path,
                Value::Null,
            )
            .await
        }
    };
    for (path, wanted) in [
        (format!("{SECRETS}/mine"), 200),
        (format!("{SECRETS}?fieldSelector=metadata.name%3Dmine"), 200),
        (format!("{SECRETS}/other"), 403),
        (format!("{SECRETS}?fieldSelector=metadata.name%3Dother"), 403),
        (SECRETS.to_owned(), 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1".to_owned(), 200),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn2".to_owned(), 403),
        ("/api/v1/pods".to_owned(), 403),
        (format!("{PODS}/one"), 200),
        (format!("{PODS}/two"), 403),
        ("/api/v1/nodes/n1".to_owned(), 200),
        ("/api/v1/nodes/n2".to_owned(), 403),
        ("/api/v1/services".to_owned(), 200),
        ("/api/v1/namespaces".to_owned(), 403),
    ] {
        let (found, message) = get(path.clone()).await;
        assert_eq!(found, wanted, "{path}: {message}");
    }
    let (_, message) = get(format!("{SECRETS}/other")).await;
    assert_eq!(
        message,
        "secrets \"other\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \"\" in \
         the namespace \"default\": no relationship found between node 'n1' and this object"
    );
}

#[tokio::test]
async fn a_node_changes_only_itself_and_its_pods() {
    let world = world().await;
    two_nodes(&world).await;
    let as_node = |method: Method, path: &'static str, body: Value| {
        let world = &world;
        async move { code(world, "system:node:n1", &["system:nodes"], method, path, body).await }
    };
    let running = || json!({"status": {"phase": "Running"}});
    let (found, _) = as_node(Method::PATCH, "/api/v1/namespaces/default/pods/one/status", running()).await;
    assert_eq!(found, 200);
    let (found, message) = as_node(Method::PATCH, "/api/v1/namespaces/default/pods/two/status", running()).await;
    assert_eq!(found, 403);
    assert_eq!(
        message,
        "pods \"two\" is forbidden: node \"n1\" can only update pod status for pods with spec.nodeName set to itself"
    );
    let (found, message) = as_node(Method::POST, PODS, pod("new")).await;
    assert_eq!(found, 403);
    assert!(message.contains("can only create mirror pods"), "{message}");
    let (found, message) = as_node(Method::DELETE, "/api/v1/namespaces/default/pods/two", Value::Null).await;
    assert_eq!(found, 403);
    assert!(
        message.contains("can only delete pods with spec.nodeName set to itself"),
        "{message}"
    );
    let label = |key: &str| json!({"metadata": {"labels": {key: "x"}}});
    assert_eq!(as_node(Method::PATCH, "/api/v1/nodes/n1", label("disk")).await.0, 200);
    let (found, message) = as_node(
        Method::PATCH,
        "/api/v1/nodes/n1",
        label("node-restriction.kubernetes.io/s"),
    )
    .await;
    assert_eq!(found, 403);
    assert!(message.contains("is not allowed to modify labels"), "{message}");
    let (found, message) = as_node(Method::PATCH, "/api/v1/nodes/n2", label("disk")).await;
    assert_eq!(found, 403);
    assert!(
        message.contains("node \"n1\" is not allowed to modify node \"n2\""),
        "{message}"
    );
}

#[tokio::test]
async fn a_node_gets_tokens_for_its_own_pods() {
    let world = world().await;
    two_nodes(&world).await;
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let bound = |name: &str| json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name}}});
    let ask = |body| code(&world, "system:node:n1", &["system:nodes"], Method::POST, token, body);
    assert_eq!(ask(bound("one")).await.0, 201);
    let (found, message) = ask(bound("two")).await;
    assert_eq!(found, 403);
    assert!(message.contains("scheduled on a different node"), "{message}");
    assert_eq!(ask(json!({"spec": {}})).await.0, 403);
}

/// Binds a ClusterRole of these rules to the user, cluster-wide.
pub async fn grant(world: &World, user: &str, name: &str, rules: Value) {
    world
        .ok(
            Method::POST,
            &format!("{RBAC}/clusterroles"),
            json!({"metadata": {"name": name}, "rules": rules}),
        )
        .await;
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    });
    world
        .ok(Method::POST, &format!("{RBAC}/clusterrolebindings"), binding)
        .await;
}

#[tokio::test]
async fn nobody_gives_away_what_they_do_not_have() {
    let world = world().await;
    let writer = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    ]);
    // Every verb would include `escalate` and `bind`.
    let mut writer = writer;
    writer[0]["verbs"] = json!(["create", "update", "get"]);
    grant(&world, "ann", "writer", writer).await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let role = |name: &str, resource: &str| json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]});
    assert_eq!(
        code(&world, "ann", &["dev"], Method::POST, &roles, role("pods", "pods"))
            .await
            .0,
        201
    );
    let (found, message) = code(&world, "ann", &["dev"], Method::POST, &roles, role("s", "secrets")).await;
    assert_eq!(found, 403);
    assert_eq!(
        message,
        "roles.rbac.authorization.k8s.io \"s\" is forbidden: user \"ann\" (groups=[\"dev\" \"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
    );
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let binding = |kind: &str, role: &str| {
        json!({
            "metadata": {"name": role}, "subjects": [],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        })
    };
    assert_eq!(
        code(&world, "ann", &[], Method::POST, &bindings, binding("Role", "pods"))
            .await
            .0,
        201
    );
    assert_eq!(
        code(
            &world,
            "ann",
            &[],
            Method::POST,
            &bindings,
            binding("ClusterRole", "edit")
        )
        .await
        .0,
        403
    );
    let bind = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["edit"], "verbs": ["bind"]}]);
    grant(&world, "ann", "binder", bind).await;
    assert_eq!(
        code(
            &world,
            "ann",
            &[],
            Method::POST,
            &bindings,
            binding("ClusterRole", "edit")
        )
        .await
        .0,
        201
    );
    let escalate = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["escalate"]}]);
    grant(&world, "ann", "escalator", escalate).await;
    assert_eq!(
        code(&world, "ann", &[], Method::POST, &roles, role("s", "secrets"))
            .await
            .0,
        201
    );
}

#[tokio::test]
async fn rules_and_local_reviews_answer() {
    let world = world().await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    grant(&world, "ann", "reader", rules).await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let body = json!({"spec": {"namespace": "default"}});
    let (_, answer) = send(world.server.local("ann", &[]), Method::POST, path, body).await;
    let pods = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    assert!(
        answer["status"]["resourceRules"].as_array().unwrap().contains(&pods),
        "{answer}"
    );
    assert!(!answer["status"]["nonResourceRules"].as_array().unwrap().is_empty());
    let path = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
    let review = |namespace: &str| json!({"spec": {"user": "ann", "resourceAttributes": {"namespace": namespace, "verb": "get", "resource": "pods"}}});
    assert_eq!(
        world.ok(Method::POST, path, review("default")).await["status"]["allowed"],
        true
    );
    assert_eq!(world.fails(Method::POST, path, review("other")).await.0, 422);
}

#[tokio::test]
async fn the_usual_roles_are_there() {
    let world = world().await;
    for name in [
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:node",
        "system:discovery",
        "system:basic-user",
        "system:auth-delegator",
    ] {
        let role = world.get(&format!("{RBAC}/clusterroles/{name}")).await;
        assert_eq!(
            role["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults",
            "{name}"
        );
    }
    let view = world.get(&format!("{RBAC}/clusterroles/view")).await;
    let selectors = &view["aggregationRule"]["clusterRoleSelectors"];
    assert_eq!(
        selectors[0]["matchLabels"]["rbac.authorization.k8s.io/aggregate-to-view"],
        "true"
    );
    assert!(view["rules"].as_array().unwrap().len() > 3);
}

#[tokio::test]
async fn a_service_account_may_be_acted_as_with_its_groups() {
    let world = world().await;
    let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("impersonate-user", "system:serviceaccount:default:web")
        .header("impersonate-uid", "7")
        .header("impersonate-extra-acme.com%2fteam", "red")
        .header("content-type", "application/json")
        .body(http_body_util::Full::new(bytes::Bytes::from_static(b"{}")))
        .unwrap();
    let answer = tower::ServiceExt::oneshot(world.admin(), request).await.unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    let body = http_body_util::BodyExt::collect(answer.into_body())
        .await
        .unwrap()
        .to_bytes();
    let who: Value = serde_json::from_slice(&body).unwrap();
    let user = &who["status"]["userInfo"];
    assert_eq!(user["uid"], "7");
    assert_eq!(user["extra"]["acme.com/team"], json!(["red"]));
    assert!(
        user["groups"]
            .as_array()
            .unwrap()
            .contains(&json!("system:serviceaccounts:default"))
    );
}
