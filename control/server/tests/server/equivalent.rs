//! Rules about one version of a kind, and requests in another: who stands behind the rule sees the version that it names.
//! And the parts of objects that are of a kind of their own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};

use crate::conversion::{sails, second, with_sails};
use crate::policies::{apply, bind, mutating, rules, validating};
use crate::webhooks::{MUTATING, VALIDATING, configure, hook, patch, webhook};
use crate::world::{World, deployment, pod, send_as, world};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn scalers(version: &str) -> String {
    format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers")
}

/// A scaler as the first version says it.
fn scaler(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
    }})
}

fn about(group: &str, version: &str, resource: &str) -> Value {
    json!({"rules": [{"operations": ["*"], "apiGroups": [group], "apiVersions": [version], "resources": [resource]}]})
}

async fn merge(world: &World, path: &str, body: Value) -> Value {
    let (status, answer) = send_as(world.admin(), Method::PATCH, path, "application/merge-patch+json", body).await;
    assert!(status.is_success(), "{path}: {answer}");
    answer
}

#[tokio::test]
async fn a_webhook_sees_the_version_that_its_rule_names() {
    let world = world().await;
    let operations =
        json!([{"op": "add", "path": "/spec/behavior", "value": {"scaleDown": {"stabilizationWindowSeconds": 7}}}]);
    let (client, changed) = hook(&world, "adder", move |_| patch(operations.clone()));
    let own = webhook(
        "adder",
        client,
        &[],
        about("autoscaling", "v2", "horizontalpodautoscalers"),
    );
    configure(&world, MUTATING, "m", vec![own]).await;
    let (client, checked) = hook(&world, "guard", |_| json!({"allowed": true}));
    let own = webhook(
        "guard",
        client,
        &[],
        about("autoscaling", "v1", "horizontalpodautoscalers"),
    );
    configure(&world, VALIDATING, "v", vec![own]).await;

    world.ok(Method::POST, &scalers("v1"), scaler("a")).await;
    let question = changed.lock()[0].clone();
    let version = |field: &str| question[field]["version"].as_str().unwrap().to_owned();
    assert_eq!(
        (version("kind"), version("resource")),
        ("v2".to_owned(), "v2".to_owned())
    );
    assert_eq!(
        (version("requestKind"), version("requestResource")),
        ("v1".to_owned(), "v1".to_owned())
    );
    let object = &question["object"];
    assert_eq!(object["apiVersion"], "autoscaling/v2");
    assert_eq!(
        object["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        50
    );
    // What was changed in the one version is what the other one shows.
    let stored = world.get(&format!("{}/a", scalers("v2"))).await;
    assert_eq!(
        stored["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 7,
        "{stored}"
    );
    // Both states of an object, and the other way round.
    merge(
        &world,
        &format!("{}/a", scalers("v2")),
        json!({"spec": {"maxReplicas": 5}}),
    )
    .await;
    let question = checked.lock().last().unwrap().clone();
    assert_eq!(question["requestKind"]["version"], "v2");
    for (state, most) in [("oldObject", 3), ("object", 5)] {
        assert_eq!(question[state]["apiVersion"], "autoscaling/v1", "{state}");
        assert_eq!(question[state]["spec"]["targetCPUUtilizationPercentage"], 50, "{state}");
        assert_eq!(question[state]["spec"]["maxReplicas"], most, "{state}");
    }
}

#[tokio::test]
async fn a_rule_that_wants_its_own_version_only_is_left_alone() {
    let world = world().await;
    let (client, asked) = hook(&world, "guard", |_| json!({"allowed": true}));
    let mut own = about("autoscaling", "v2", "horizontalpodautoscalers");
    own["matchPolicy"] = json!("Exact");
    configure(&world, VALIDATING, "v", vec![webhook("guard", client, &[], own)]).await;
    world.ok(Method::POST, &scalers("v1"), scaler("a")).await;
    assert!(asked.lock().is_empty());
    merge(
        &world,
        &format!("{}/a", scalers("v2")),
        json!({"spec": {"maxReplicas": 5}}),
    )
    .await;
    assert_eq!(asked.lock().len(), 1);
}

#[tokio::test]
async fn policies_and_webhooks_see_custom_kinds_converted() {
    let (world, _) = with_sails(|sail| sail).await;
    let constraints = |version: &str| {
        let mut constraints = rules("sea.example.com", "sails", &["CREATE", "UPDATE"]);
        constraints["resourceRules"][0]["apiVersions"] = json!([version]);
        constraints
    };
    let expression = "object.spec.width <= 10 && (oldObject == null || object.spec.width >= oldObject.spec.width)";
    let spec = json!({"matchConstraints": constraints("v2"), "validations": [{"expression": expression}]});
    validating(&world, "narrow", spec).await;
    bind(&world, "narrow", json!({})).await;
    let first = |size: &str| json!({"metadata": {"name": "a"}, "spec": {"size": size}});
    assert_eq!(world.fails(Method::POST, &sails("v1"), first("11x2")).await.0, 422);
    world.ok(Method::POST, &sails("v1"), first("9x2")).await;
    let path = format!("{}/a", sails("v1"));
    let resize = |size: &str| json!([{"op": "replace", "path": "/spec/size", "value": size}]);
    assert_eq!(world.fails(Method::PATCH, &path, resize("8x2")).await.0, 422);

    let paint = apply("Object{spec: Object.spec{height: object.spec.height + 1}}");
    let spec = json!({"matchConstraints": constraints("v2"), "mutations": [paint]});
    mutating(&world, "higher", spec).await;
    let changed = world.ok(Method::PATCH, &path, resize("9x3")).await;
    assert_eq!(
        (&changed["apiVersion"], &changed["spec"]["size"]),
        (&json!("sea.example.com/v1"), &json!("9x4"))
    );
}

#[tokio::test]
async fn parameters_may_be_stored_in_another_version() {
    let (world, _) = with_sails(|sail| sail).await;
    // Stored as the first version, read as the second.
    world
        .ok(
            Method::POST,
            &sails("v1"),
            json!({"metadata": {"name": "limit", "labels": {"use": "limit"}}, "spec": {"size": "3x4"}}),
        )
        .await;
    let spec = json!({
        "paramKind": {"apiVersion": "sea.example.com/v2", "kind": "Sail"},
        "validations": [{"expression": "object.spec.replicas <= params.spec.width"}],
    });
    validating(&world, "few", spec).await;
    let reference = json!({"selector": {"matchLabels": {"use": "limit"}}, "parameterNotFoundAction": "Deny"});
    bind(&world, "few", json!({"paramRef": reference})).await;
    let scaled = |name: &str, replicas: u32| {
        let mut object = deployment(name);
        object["spec"]["replicas"] = json!(replicas);
        object
    };
    assert_eq!(world.fails(Method::POST, DEPLOYMENTS, scaled("a", 4)).await.0, 422);
    world.ok(Method::POST, DEPLOYMENTS, scaled("a", 3)).await;
    world.ok(Method::POST, &sails("v2"), second("b")).await;
}

#[tokio::test]
async fn scales_are_changed_by_policies_whatever_kind_of_write_makes_them() {
    let world = world().await;
    let spec = json!({
        "matchConstraints": rules("apps", "deployments/scale", &["UPDATE"]),
        "matchConditions": [{"name": "many", "expression": "object.kind == 'Scale' && object.spec.replicas > 4"}],
        "mutations": [apply("Object{spec: Object.spec{replicas: 4}}")],
    });
    mutating(&world, "most", spec).await;
    world.ok(Method::POST, DEPLOYMENTS, deployment("a")).await;
    let scale = format!("{DEPLOYMENTS}/a/scale");
    let patched = merge(&world, &scale, json!({"spec": {"replicas": 9}})).await;
    assert_eq!(
        (&patched["kind"], &patched["spec"]["replicas"]),
        (&json!("Scale"), &json!(4))
    );
    let parent = world.get(&format!("{DEPLOYMENTS}/a")).await;
    assert_eq!(
        (&parent["spec"]["replicas"], &parent["metadata"]["generation"]),
        (&json!(4), &json!(2))
    );
    merge(&world, &scale, json!({"spec": {"replicas": 3}})).await;
    let mut whole = world.get(&scale).await;
    whole["spec"]["replicas"] = json!(8);
    assert_eq!(world.ok(Method::PUT, &scale, whole).await["spec"]["replicas"], 4);
    merge(&world, &scale, json!({"spec": {"replicas": 3}})).await;
    let configuration = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a", "namespace": "default"}, "spec": {"replicas": 7},
    });
    let forced = format!("{scale}?fieldManager=scaler&force=true");
    let (status, applied) = send_as(
        world.admin(),
        Method::PATCH,
        &forced,
        "application/apply-patch+yaml",
        configuration,
    )
    .await;
    assert!(status.is_success(), "{applied}");
    assert_eq!(
        (&applied["kind"], &applied["spec"]["replicas"]),
        (&json!("Scale"), &json!(4))
    );
    // The other door is not meant.
    let whole = merge(&world, &format!("{DEPLOYMENTS}/a"), json!({"spec": {"replicas": 9}})).await;
    assert_eq!(whole["spec"]["replicas"], 9);
}

#[tokio::test]
async fn bindings_evictions_and_tokens_are_changed_by_webhooks() {
    let world = world().await;
    let (client, asked) = hook(&world, "adder", |question| {
        let (path, value) = match question["subResource"].as_str().unwrap() {
            "binding" => ("/target/name", json!("other")),
            "eviction" => ("/deleteOptions", json!({"gracePeriodSeconds": 0})),
            _ => ("/spec/expirationSeconds", json!(700)),
        };
        patch(json!([{"op": "add", "path": path, "value": value}]))
    });
    let parts = ["pods/binding", "pods/eviction", "serviceaccounts/token"];
    configure(&world, MUTATING, "m", vec![webhook("adder", client, &parts, json!({}))]).await;
    world.ok(Method::POST, PODS, pod("p")).await;
    let target = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "one"}});
    world.ok(Method::POST, &format!("{PODS}/p/binding"), target).await;
    assert_eq!(world.get(&format!("{PODS}/p")).await["spec"]["nodeName"], "other");
    // The pod has a node, which would be waited for; the changed options do without.
    let eviction = json!({"metadata": {"name": "p"}});
    world.ok(Method::POST, &format!("{PODS}/p/eviction"), eviction).await;
    assert_eq!(world.fails(Method::GET, &format!("{PODS}/p"), Value::Null).await.0, 404);
    let account = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let made = world.ok(Method::POST, account, json!({"spec": {}})).await;
    let token = made["status"]["token"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 700);
    let kinds: Vec<Value> = asked
        .lock()
        .iter()
        .map(|question| question["kind"]["kind"].clone())
        .collect();
    assert_eq!(kinds, ["Binding", "Eviction", "TokenRequest"]);
    assert!(asked.lock().iter().all(|question| question["operation"] == "CREATE"));
}
