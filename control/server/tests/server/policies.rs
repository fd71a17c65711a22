//! Admission policies: rules in CEL that the server evaluates itself, through the whole chain.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::{World, deployment, pod, send, world};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

pub fn rules(group: &str, resource: &str, operations: &[&str]) -> Value {
    json!({"resourceRules": [{"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": operations}]})
}

/// A validating policy about deployments, as `spec` says.
pub async fn validating(world: &World, name: &str, spec: Value) {
    let mut policy = json!({"metadata": {"name": name}, "spec": spec});
    if policy["spec"].get("matchConstraints").is_none() {
        policy["spec"]["matchConstraints"] = rules("apps", "deployments", &["CREATE", "UPDATE"]);
    }
    world
        .ok(Method::POST, &format!("{GROUP}/validatingadmissionpolicies"), policy)
        .await;
}

/// Puts a policy of the same name in force.
pub async fn bind(world: &World, name: &str, spec: Value) {
    let mut binding = json!({"metadata": {"name": format!("{name}-everywhere")}, "spec": spec});
    binding["spec"]["policyName"] = json!(name);
    if binding["spec"].get("validationActions").is_none() {
        binding["spec"]["validationActions"] = json!(["Deny"]);
    }
    let path = format!("{GROUP}/validatingadmissionpolicybindings");
    world.ok(Method::POST, &path, binding).await;
}

/// A mutating policy about ConfigMaps, in force everywhere.
pub async fn mutating(world: &World, name: &str, spec: Value) {
    let mut policy = json!({"metadata": {"name": name}, "spec": spec});
    if policy["spec"].get("matchConstraints").is_none() {
        policy["spec"]["matchConstraints"] = rules("", "configmaps", &["CREATE", "UPDATE"]);
    }
    if policy["spec"].get("reinvocationPolicy").is_none() {
        policy["spec"]["reinvocationPolicy"] = json!("Never");
    }
    world
        .ok(Method::POST, &format!("{GROUP}/mutatingadmissionpolicies"), policy)
        .await;
    let binding = json!({"metadata": {"name": format!("{name}-everywhere")}, "spec": {"policyName": name}});
    let path = format!("{GROUP}/mutatingadmissionpolicybindings");
    world.ok(Method::POST, &path, binding).await;
}

pub fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

fn scaled(name: &str, replicas: u32) -> Value {
    let mut object = deployment(name);
    object["spec"]["replicas"] = json!(replicas);
    object
}

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

async fn warnings(world: &World, path: &str, body: Value) -> Vec<String> {
    let request = Request::post(path)
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let answer = world.admin().oneshot(request).await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    let headers = answer.headers().get_all("warning").iter();
    let found = headers.map(|value| value.to_str().unwrap().to_owned()).collect();
    answer.into_body().collect().await.unwrap();
    found
}

#[tokio::test]
async fn a_policy_in_force_refuses_at_once() {
    let world = world().await;
    let spec = json!({
        "variables": [{"name": "most", "expression": "5"}],
        "validations": [{
            "expression": "object.spec.replicas <= variables.most",
            "messageExpression": "'replicas must be no greater than ' + string(variables.most)",
        }],
    });
    validating(&world, "few", spec).await;
    // Nothing is in force without a binding.
    world.ok(Method::POST, DEPLOYMENTS, scaled("before", 9)).await;
    bind(&world, "few", json!({})).await;
    world.ok(Method::POST, DEPLOYMENTS, scaled("small", 3)).await;
    let (status, answer) = send(world.admin(), Method::POST, DEPLOYMENTS, scaled("big", 9)).await;
    let words = "deployments.apps \"big\" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few-everywhere' denied request: replicas must be no greater than 5";
    assert_eq!(status.as_u16(), 422);
    assert_eq!(
        (&answer["message"], &answer["reason"]),
        (&json!(words), &json!("Invalid"))
    );
    assert_eq!(answer["details"]["name"], "big");
    assert_eq!(
        answer["details"]["causes"][0]["message"],
        words.split_once(": ").unwrap().1
    );
    let more = json!({"spec": {"replicas": 6}});
    let (code, _) = world.fails(Method::PATCH, &format!("{DEPLOYMENTS}/small"), more).await;
    assert_eq!(code, 422);
    let binding = format!("{GROUP}/validatingadmissionpolicybindings/few-everywhere");
    world.ok(Method::DELETE, &binding, Value::Null).await;
    world.ok(Method::POST, DEPLOYMENTS, scaled("big", 9)).await;
}

#[tokio::test]
async fn a_violation_may_only_warn() {
    let world = world().await;
    validating(
        &world,
        "few",
        json!({"validations": [{"expression": "object.spec.replicas < 5", "message": "too many"}]}),
    )
    .await;
    bind(&world, "few", json!({"validationActions": ["Warn", "Audit"]})).await;
    let said = warnings(&world, DEPLOYMENTS, scaled("big", 9)).await;
    assert_eq!(
        said,
        ["299 - \"Validation failed for ValidatingAdmissionPolicy 'few' with binding 'few-everywhere': too many\""]
    );
}

#[tokio::test]
async fn reasons_and_failures_are_told() {
    let world = world().await;
    let spec = json!({"validations": [
        {"expression": "!has(object.metadata.labels) || !('secret' in object.metadata.labels)", "reason": "Forbidden"},
        {"expression": "object.spec.nobody == 1 || object.spec.replicas > 1"},
    ]});
    validating(&world, "strict", spec).await;
    bind(&world, "strict", json!({})).await;
    let mut hidden = scaled("a", 2);
    hidden["metadata"]["labels"] = json!({"secret": "1"});
    let (code, message) = world.fails(Method::POST, DEPLOYMENTS, hidden).await;
    assert_eq!(code, 403);
    assert!(
        message.ends_with("failed expression: !has(object.metadata.labels) || !('secret' in object.metadata.labels)"),
        "{message}"
    );
    let (code, message) = world.fails(Method::POST, DEPLOYMENTS, scaled("a", 1)).await;
    assert_eq!(code, 422);
    assert!(
        message.ends_with(
            "expression 'object.spec.nobody == 1 || object.spec.replicas > 1' resulted in error: no such key: nobody"
        ),
        "{message}"
    );
    let lenient = json!({"spec": {"failurePolicy": "Ignore"}});
    let path = format!("{GROUP}/validatingadmissionpolicies/strict");
    world.ok(Method::PATCH, &path, lenient).await;
    world.ok(Method::POST, DEPLOYMENTS, scaled("a", 1)).await;
}

#[tokio::test]
async fn what_does_not_compile_is_refused() {
    let world = world().await;
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "matchConstraints": rules("", "pods", &["CREATE"]),
        "validations": [{"expression": "object.spec.containers.all(c, c.nobody("}],
    }});
    let path = format!("{GROUP}/validatingadmissionpolicies");
    let (code, message) = world.fails(Method::POST, &path, policy).await;
    assert_eq!(code, 422);
    assert!(
        message.starts_with("ValidatingAdmissionPolicy.admissionregistration.k8s.io \"p\" is invalid: spec.validations[0].expression: Invalid value: ")
            && message.contains("compilation failed: ERROR: <input>:1:"),
        "{message}"
    );
    let hook = json!({"metadata": {"name": "w"}, "webhooks": [{
        "name": "w.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": "https://localhost/"}, "matchConditions": [{"name": "c", "expression": "params.x"}],
    }]});
    let path = format!("{GROUP}/validatingwebhookconfigurations");
    let (code, message) = world.fails(Method::POST, &path, hook).await;
    assert_eq!(code, 422);
    assert!(
        message.contains("webhooks[0].matchConditions[0].expression") && message.contains("compilation failed"),
        "{message}"
    );
}

#[tokio::test]
async fn the_status_tells_what_is_wrong_about_the_kinds() {
    let world = world().await;
    validating(
        &world,
        "p",
        json!({"validations": [{"expression": "object.spec.replicsa <= 5"}]}),
    )
    .await;
    let path = format!("{GROUP}/validatingadmissionpolicies/p");
    let status = world.get(&path).await["status"].clone();
    assert_eq!(status["observedGeneration"], 1);
    let warning = &status["typeChecking"]["expressionWarnings"][0];
    assert_eq!(warning["fieldRef"], "spec.validations[0].expression");
    assert!(
        warning["warning"]
            .as_str()
            .unwrap()
            .contains("undefined field 'replicsa'"),
        "{warning}"
    );
    let right =
        json!([{"op": "replace", "path": "/spec/validations/0/expression", "value": "object.spec.replicas <= 5"}]);
    let status = world.ok(Method::PATCH, &path, right).await["status"].clone();
    assert_eq!(
        (
            &status["observedGeneration"],
            status["typeChecking"].get("expressionWarnings")
        ),
        (&json!(2), None)
    );
}

#[tokio::test]
async fn parameters_come_from_objects_of_the_bindings_choice() {
    let world = world().await;
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.most)", "messageExpression": "'most: ' + params.data.most"}],
    });
    validating(&world, "few", spec).await;
    bind(
        &world,
        "few",
        json!({"paramRef": {"name": "limit", "parameterNotFoundAction": "Deny"}}),
    )
    .await;
    let (code, message) = world.fails(Method::POST, DEPLOYMENTS, scaled("a", 3)).await;
    assert_eq!(code, 422);
    assert!(
        message.ends_with(
            "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        ),
        "{message}"
    );
    world.ok(Method::POST, MAPS, map("limit", json!({"most": "4"}))).await;
    world.ok(Method::POST, DEPLOYMENTS, scaled("a", 3)).await;
    let (_, message) = world.fails(Method::POST, DEPLOYMENTS, scaled("b", 5)).await;
    assert!(message.ends_with("most: 4"), "{message}");
    // By labels, all that are found count; where none are, the write may be let through.
    let chosen = json!({"spec": {"paramRef": {"name": null, "selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Allow"}}});
    let path = format!("{GROUP}/validatingadmissionpolicybindings/few-everywhere");
    world.ok(Method::PATCH, &path, chosen).await;
    world.ok(Method::POST, DEPLOYMENTS, scaled("b", 5)).await;
    for (name, most) in [("wide", "9"), ("narrow", "2")] {
        let mut limit = map(name, json!({"most": most}));
        limit["metadata"]["labels"] = json!({"limit": "yes"});
        world.ok(Method::POST, MAPS, limit).await;
    }
    let (_, message) = world.fails(Method::POST, DEPLOYMENTS, scaled("c", 5)).await;
    assert!(message.ends_with("most: 2"), "{message}");
}

#[tokio::test]
async fn bindings_and_conditions_choose_what_is_looked_at() {
    let world = world().await;
    let namespace = json!({"metadata": {"name": "prod", "labels": {"env": "prod", "most": "2"}}});
    world.ok(Method::POST, "/api/v1/namespaces", namespace).await;
    let spec = json!({
        "matchConditions": [{"name": "not-the-robot", "expression": "request.userInfo.username != 'robot'"}],
        "validations": [{"expression": "object.spec.replicas <= int(namespaceObject.metadata.labels.most)"}],
    });
    validating(&world, "few", spec).await;
    bind(
        &world,
        "few",
        json!({"matchResources": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}}),
    )
    .await;
    let prod = "/apis/apps/v1/namespaces/prod/deployments";
    world.ok(Method::POST, DEPLOYMENTS, scaled("a", 3)).await;
    world.ok(Method::POST, prod, scaled("a", 2)).await;
    assert_eq!(world.fails(Method::POST, prod, scaled("b", 3)).await.0, 422);
    let robot = world.server.local("robot", &["system:masters"]);
    let (status, answer) = send(robot, Method::POST, prod, scaled("b", 3)).await;
    assert!(status.is_success(), "{answer}");
}

#[tokio::test]
async fn expressions_ask_for_rights() {
    let world = world().await;
    let role = json!({"metadata": {"name": "writer"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}]});
    let approver = json!({"metadata": {"name": "approver"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "approve"]}]});
    for (name, role) in [("ann", role), ("bob", approver)] {
        let role = world
            .ok(Method::POST, "/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
            .await;
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role["metadata"]["name"]},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        });
        world
            .ok(
                Method::POST,
                "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
                binding,
            )
            .await;
    }
    let spec = json!({
        "matchConstraints": rules("", "configmaps", &["CREATE"]),
        "validations": [{"expression": "authorizer.requestResource.check('approve').allowed()", "message": "not approved"}],
    });
    validating(&world, "approved", spec).await;
    bind(&world, "approved", json!({})).await;
    for (user, wanted) in [("ann", 422), ("bob", 201)] {
        let (status, answer) = send(world.server.local(user, &[]), Method::POST, MAPS, map(user, json!({}))).await;
        assert_eq!(status.as_u16(), wanted, "{user}: {answer}");
    }
}

#[tokio::test]
async fn nobody_reads_parameters_by_a_policy_that_they_may_not_read() {
    let world = world().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "author"}, "rules": [
        {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    ]});
    world.ok(Method::POST, &format!("{rbac}/clusterroles"), role).await;
    let binding = json!({
        "metadata": {"name": "author"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "author"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}],
    });
    world
        .ok(Method::POST, &format!("{rbac}/clusterrolebindings"), binding)
        .await;
    let create = async |path: &str, object: Value| {
        let (status, answer) = send(
            world.server.local("ann", &[]),
            Method::POST,
            &format!("{GROUP}/{path}"),
            object,
        )
        .await;
        (
            status.as_u16(),
            answer["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let policy = |name: &str, kind: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "paramKind": {"apiVersion": "v1", "kind": kind},
            "matchConstraints": rules("apps", "deployments", &["CREATE"]),
            "validations": [{"expression": "params != null"}],
        }})
    };
    let (code, message) = create("validatingadmissionpolicies", policy("spy", "Secret")).await;
    assert_eq!(code, 422);
    assert!(
        message.ends_with("spec.paramKind: Forbidden: user ann must have \"get\" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)"),
        "{message}"
    );
    assert_eq!(
        create("validatingadmissionpolicies", policy("fair", "ConfigMap"))
            .await
            .0,
        201
    );
    let bound = |reference: Value| json!({"metadata": {"name": "b"}, "spec": {"policyName": "fair", "validationActions": ["Deny"], "paramRef": reference}});
    let all = json!({"selector": {}, "parameterNotFoundAction": "Allow"});
    assert_eq!(create("validatingadmissionpolicybindings", bound(all)).await.0, 422);
    let one = json!({"name": "limit", "namespace": "default", "parameterNotFoundAction": "Allow"});
    let (code, message) = create("validatingadmissionpolicybindings", bound(one)).await;
    assert_eq!(code, 201, "{message}");
}

#[tokio::test]
async fn a_deletion_shows_the_old_object() {
    let world = world().await;
    let spec = json!({
        "matchConstraints": rules("", "configmaps", &["DELETE"]),
        "validations": [{"expression": "object == null && oldObject.data.keep != 'yes'", "message": "kept"}],
    });
    validating(&world, "keeper", spec).await;
    bind(&world, "keeper", json!({})).await;
    for (name, keep) in [("a", "yes"), ("b", "no")] {
        world.ok(Method::POST, MAPS, map(name, json!({"keep": keep}))).await;
    }
    let (code, message) = world.fails(Method::DELETE, &format!("{MAPS}/a"), Value::Null).await;
    assert_eq!(code, 422);
    assert!(message.ends_with("denied request: kept"), "{message}");
    world.ok(Method::DELETE, &format!("{MAPS}/b"), Value::Null).await;
}

#[tokio::test]
async fn no_expression_runs_for_ever() {
    let world = world().await;
    let list = "[0,1,2,3,4,5,6,7,8,9]";
    let mut expression = "true".to_owned();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
        expression = format!("{list}.all({name}, {expression})");
    }
    validating(&world, "slow", json!({"validations": [{"expression": expression}]})).await;
    bind(&world, "slow", json!({})).await;
    let (code, message) = world.fails(Method::POST, DEPLOYMENTS, scaled("a", 1)).await;
    assert_eq!(code, 422);
    assert!(
        message.ends_with("operation cancelled: actual cost limit exceeded"),
        "{message}"
    );
}

#[tokio::test]
async fn a_mutating_policy_merges_what_it_states() {
    let world = world().await;
    let sidecar = "Object{
        metadata: Object.metadata{labels: {'with-sidecar': 'yes'}},
        spec: Object.spec{
            initContainers: [Object.spec.initContainers{name: 'proxy', image: 'hello', restartPolicy: 'Always'}]
        }
    }";
    let spec = json!({
        "matchConstraints": rules("", "pods", &["CREATE"]),
        "matchConditions": [{"name": "once", "expression": "!object.spec.?initContainers.orValue([]).exists(c, c.name == 'proxy')"}],
        "mutations": [apply(sidecar)],
    });
    mutating(&world, "sidecar", spec).await;
    let mut given = pod("a");
    given["spec"]["initContainers"] = json!([{"name": "first", "image": "hello"}]);
    let made = world.ok(Method::POST, "/api/v1/namespaces/default/pods", given).await;
    let names: Vec<&Value> = made["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["proxy", "first"]);
    // What it adds has its defaults.
    assert_eq!(made["spec"]["initContainers"][0]["terminationMessagePolicy"], "File");
    assert_eq!(made["metadata"]["labels"], json!({"app": "a", "with-sidecar": "yes"}));
}

#[tokio::test]
async fn patches_change_and_later_policies_see_it() {
    let world = world().await;
    let escaped = "[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('a.b'), value: 'x'}]";
    let tested = "[JSONPatch{op: 'test', path: '/data/a', value: 'other'}, JSONPatch{op: 'remove', path: '/data/a'}]";
    mutating(&world, "m1", json!({"mutations": [patch(escaped), patch(tested)]})).await;
    let again = "has(object.data.last) ? [JSONPatch{op: 'add', path: '/data/again', value: 'seen'}] : []";
    mutating(
        &world,
        "m2",
        json!({"mutations": [patch(again)], "reinvocationPolicy": "IfNeeded"}),
    )
    .await;
    mutating(
        &world,
        "m3",
        json!({"mutations": [apply("Object{data: {'last': string(size(object.data))}}")]}),
    )
    .await;
    let made = world.ok(Method::POST, MAPS, map("a", json!({"a": "1"}))).await;
    // A failed test leaves the object as it is; the second policy is asked again since the third changed something.
    assert_eq!(
        made["data"],
        json!({"a": "1", "a.b": "x", "last": "2", "again": "seen"})
    );
}

#[tokio::test]
async fn what_a_mutation_asks_for_the_clusters_own_rules_see() {
    let world = world().await;
    let class = json!({
        "metadata": {"name": "apart"}, "handler": "coracle",
        "scheduling": {"nodeSelector": {"process": "apart"}, "tolerations": [{"key": "process", "operator": "Exists"}]},
    });
    world
        .ok(Method::POST, "/apis/node.k8s.io/v1/runtimeclasses", class)
        .await;
    let spec = json!({
        "matchConstraints": rules("", "pods", &["CREATE"]),
        "mutations": [apply("Object{spec: Object.spec{runtimeClassName: 'apart'}}")],
    });
    mutating(&world, "apart", spec).await;
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "hello"}]}});
    let made = world.ok(Method::POST, "/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(made["spec"]["nodeSelector"], json!({"process": "apart"}));
    let tolerated: Vec<&Value> = made["spec"]["tolerations"].as_array().unwrap().iter().collect();
    assert!(
        tolerated.contains(&&json!({"key": "process", "operator": "Exists"})),
        "{tolerated:?}"
    );
    // What the rules gave before is not given twice.
    assert_eq!(tolerated.len(), 3, "{tolerated:?}");
    assert_eq!(made["spec"]["volumes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_mutation_that_does_not_fit_is_refused() {
    let world = world().await;
    let spec = json!({"mutations": [apply("Object{boat: 1}")]});
    mutating(&world, "wrong", spec).await;
    let (code, message) = world.fails(Method::POST, MAPS, map("a", json!({}))).await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "policy 'wrong' with binding 'wrong-everywhere' denied request: error applying patch: failed to convert patch object to typed object: .boat: field not declared in schema"
    );
    let lenient = json!({"spec": {"failurePolicy": "Ignore"}});
    world
        .ok(
            Method::PATCH,
            &format!("{GROUP}/mutatingadmissionpolicies/wrong"),
            lenient,
        )
        .await;
    world.ok(Method::POST, MAPS, map("a", json!({}))).await;
}

#[tokio::test]
async fn a_rule_about_one_version_means_all_of_them() {
    let world = world().await;
    let spec = |policy: &str| {
        let mut constraints = rules("autoscaling", "horizontalpodautoscalers", &["CREATE"]);
        constraints["matchPolicy"] = json!(policy);
        json!({"matchConstraints": constraints, "validations": [{"expression": "false"}]})
    };
    validating(&world, "none", spec("Equivalent")).await;
    bind(&world, "none", json!({})).await;
    let scaler = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}}});
    for version in ["v1", "v2"] {
        let path = format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers");
        assert_eq!(
            world.fails(Method::POST, &path, scaler.clone()).await.0,
            422,
            "{version}"
        );
    }
}

#[tokio::test]
async fn scaling_binding_and_eviction_are_doors_too() {
    let world = world().await;
    let spec = |resource: &str, operation: &str, expression: &str| {
        let group = if resource.starts_with("pods") { "" } else { "apps" };
        json!({"matchConstraints": rules(group, resource, &[operation]), "validations": [{"expression": expression}]})
    };
    validating(
        &world,
        "scale",
        spec(
            "deployments/scale",
            "UPDATE",
            "object.kind == 'Scale' && object.spec.replicas <= oldObject.spec.replicas + 1",
        ),
    )
    .await;
    validating(
        &world,
        "bind",
        spec("pods/binding", "CREATE", "object.target.name != 'closed'"),
    )
    .await;
    validating(
        &world,
        "evict",
        spec("pods/eviction", "CREATE", "request.kind.kind != 'Eviction'"),
    )
    .await;
    for name in ["scale", "bind", "evict"] {
        bind(&world, name, json!({})).await;
    }
    world.ok(Method::POST, DEPLOYMENTS, scaled("a", 2)).await;
    let scale = format!("{DEPLOYMENTS}/a/scale");
    let merge = |replicas: u32| json!([{"op": "replace", "path": "/spec/replicas", "value": replicas}]);
    assert_eq!(world.fails(Method::PATCH, &scale, merge(9)).await.0, 422);
    world.ok(Method::PATCH, &scale, merge(3)).await;
    let pods = "/api/v1/namespaces/default/pods";
    world.ok(Method::POST, pods, pod("p")).await;
    let target = |node: &str| json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
    assert_eq!(
        world
            .fails(Method::POST, &format!("{pods}/p/binding"), target("closed"))
            .await
            .0,
        422
    );
    world
        .ok(Method::POST, &format!("{pods}/p/binding"), target("open"))
        .await;
    let eviction = json!({"metadata": {"name": "p"}});
    assert_eq!(
        world
            .fails(Method::POST, &format!("{pods}/p/eviction"), eviction)
            .await
            .0,
        422
    );
}

#[tokio::test]
async fn policies_are_not_asked_about_themselves() {
    let world = world().await;
    let everything =
        json!({"resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]}]});
    validating(
        &world,
        "never",
        json!({"matchConstraints": everything, "validations": [{"expression": "false"}]}),
    )
    .await;
    bind(&world, "never", json!({})).await;
    assert_eq!(world.fails(Method::POST, MAPS, map("a", json!({}))).await.0, 422);
    let path = format!("{GROUP}/validatingadmissionpolicies/never");
    world.ok(Method::DELETE, &path, Value::Null).await;
    world.ok(Method::POST, MAPS, map("a", json!({}))).await;
}
