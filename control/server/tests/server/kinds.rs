//! Every stored kind goes through the same life: a new row in the table of kinds is tested the moment it exists.

use base64::Engine;
use bytes::Bytes;
use coracle_api::kinds::{Kind, Kinds};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::{World, deployment, pod, send, send_as, world};

/// A name that a kind takes.
fn name_of(kind: &Kind) -> &'static str {
    match kind.kind.as_ref() {
        "IPAddress" => "10.96.77.7",
        "APIService" => "v1.one.example.com",
        _ => "one",
    }
}

/// The least that a kind demands.
fn example(kind: &Kind, name: &str) -> Value {
    let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let reference = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "view"});
    let mut object = match kind.kind.as_ref() {
        "Pod" => pod(name),
        "Deployment" | "ReplicaSet" | "StatefulSet" => deployment(name),
        "DaemonSet" => {
            let mut set = deployment(name);
            set["spec"].as_object_mut().unwrap().remove("replicas");
            set
        }
        "ReplicationController" => json!({"spec": {"template": labelled()}}),
        "PodTemplate" => json!({"template": labelled()}),
        "ControllerRevision" => json!({"data": {"a": 1}, "revision": 1}),
        "Job" => json!({"spec": {"template": once()}}),
        "CronJob" => json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": once()}}}}),
        "Service" => json!({"spec": {"ports": [{"port": 80}]}}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": [], "ports": []}),
        "Event" if kind.group == "events.k8s.io" => json!({
            "regarding": {"kind": "Pod", "name": "x", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "example.com/x", "reportingInstance": "x-1", "action": "Run", "reason": "Ran", "type": "Normal",
        }),
        "Event" => json!({"involvedObject": {"kind": "Pod", "name": "x", "namespace": "default"}, "type": "Normal"}),
        "Role" | "ClusterRole" => json!({"rules": rules}),
        "RoleBinding" | "ClusterRoleBinding" => json!({"roleRef": reference("ClusterRole"), "subjects": []}),
        "HorizontalPodAutoscaler" => {
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}})
        }
        "PersistentVolume" => json!({"spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
        }}),
        "PersistentVolumeClaim" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        }
        _ => match kind.group.as_ref() {
            "networking.k8s.io" => networking(kind),
            "storage.k8s.io" => storage(kind),
            "admissionregistration.k8s.io" => admission(kind),
            "resource.k8s.io" => devices(kind),
            _ => small(kind),
        },
    };
    object["metadata"]["name"] = json!(name);
    object
}

fn networking(kind: &Kind) -> Value {
    match kind.kind.as_ref() {
        "Ingress" => json!({"spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}),
        "IngressClass" => json!({"spec": {"controller": "example.com/ingress"}}),
        "IPAddress" => json!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "x"}}}),
        "ServiceCIDR" => json!({"spec": {"cidrs": ["10.99.0.0/24"]}}),
        _ => json!({"spec": {"podSelector": {}}}),
    }
}

fn storage(kind: &Kind) -> Value {
    match kind.kind.as_ref() {
        "StorageClass" => json!({"provisioner": "example.com/disk"}),
        "VolumeAttributesClass" => json!({"driverName": "example.com", "parameters": {"a": "b"}}),
        "VolumeAttachment" => {
            json!({"spec": {"attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
        }
        "CSINode" => json!({"spec": {"drivers": []}}),
        "CSIStorageCapacity" => json!({"storageClassName": "fast"}),
        _ => json!({"spec": {}}),
    }
}

fn admission(kind: &Kind) -> Value {
    let rules = json!([{"apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["boats"], "operations": ["CREATE"]}]);
    let chosen = json!({"resourceRules": rules});
    match kind.kind.as_ref() {
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => json!({"webhooks": [{
            "name": "a.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "rules": rules,
            "clientConfig": {"url": "https://example.com"},
        }]}),
        "ValidatingAdmissionPolicy" => {
            json!({"spec": {"matchConstraints": chosen, "validations": [{"expression": "true"}]}})
        }
        "MutatingAdmissionPolicy" => json!({"spec": {
            "matchConstraints": chosen, "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
        }}),
        "ValidatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        _ => json!({"spec": {"policyName": "p"}}),
    }
}

fn devices(kind: &Kind) -> Value {
    let requests = json!({"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "gpu"}}]}});
    match kind.kind.as_ref() {
        "ResourceClaim" => json!({"spec": requests}),
        "ResourceClaimTemplate" => json!({"spec": {"spec": requests}}),
        "ResourceSlice" => json!({"spec": {
            "driver": "gpu.example.com", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        }}),
        _ => json!({"spec": {}}),
    }
}

fn small(kind: &Kind) -> Value {
    match kind.kind.as_ref() {
        "PriorityClass" => json!({"value": 7}),
        "RuntimeClass" => json!({"handler": "wasm"}),
        "CertificateSigningRequest" => {
            let request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
            let request = base64::engine::general_purpose::STANDARD.encode(request);
            json!({"spec": {"request": request, "usages": ["client auth"], "signerName": "example.com/mine"}})
        }
        "APIService" => json!({"spec": {
            "group": "one.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
            "service": {"namespace": "default", "name": "x"},
        }}),
        "FlowSchema" => json!({"spec": {"priorityLevelConfiguration": {"name": "one"}}}),
        "PriorityLevelConfiguration" => json!({"spec": {"type": "Exempt"}}),
        _ => json!({}),
    }
}

fn labelled() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "hello"}]}})
}

fn once() -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "hello"}]}})
}

fn collection(kind: &Kind) -> String {
    let root = if kind.group.is_empty() {
        "/api".to_owned()
    } else {
        format!("/apis/{}", kind.group)
    };
    let scope = if kind.namespaced { "/namespaces/default" } else { "" };
    format!("{root}/{}{scope}/{}", kind.version, kind.plural)
}

#[tokio::test]
async fn every_kind_lives_and_dies() {
    let world = world().await;
    let kinds = Kinds::builtin();
    let mut seen = 0;
    // A definition's name and status are not its writer's alone to choose; its life is told in `custom`.
    let walked = |kind: &&std::sync::Arc<Kind>| kind.is_stored() && kind.kind != "CustomResourceDefinition";
    for kind in kinds.iter().filter(walked) {
        let list = collection(kind);
        let one = format!("{list}/{}", name_of(kind));
        nobody_may(&world, kind, &list).await;
        let created = birth(&world, kind, &list).await;
        found(&world, kind, &list, &created).await;
        changes(&world, kind, &list, &created).await;
        replaced(&world, kind, &list).await;
        death(&world, kind, &list).await;
        if is_held(kind) {
            world.gone(&list, name_of(kind)).await;
        }
        if kind.kind != "Namespace" {
            assert_eq!(world.fails(Method::GET, &one, Value::Null).await.0, 404, "{list}");
            witnessed(&world, kind, &list, &created).await;
        }
        together(&world, kind, &list).await;
        seen += 1;
    }
    assert!(seen >= 55, "{seen}");
}

async fn nobody_may(world: &World, kind: &Kind, list: &str) {
    let name = name_of(kind);
    for (method, path) in [
        (Method::GET, list.to_owned()),
        (Method::GET, format!("{list}/{name}")),
        (Method::GET, format!("{list}?watch=1&timeoutSeconds=0")),
        (Method::POST, list.to_owned()),
        (Method::PUT, format!("{list}/{name}")),
        (Method::PATCH, format!("{list}/{name}")),
        (Method::DELETE, format!("{list}/{name}")),
        (Method::DELETE, list.to_owned()),
    ] {
        let body = if method == Method::GET {
            Value::Null
        } else {
            example(kind, name)
        };
        let (denied, status) = send(world.server.local("nobody", &[]), method.clone(), &path, body).await;
        assert_eq!(denied.as_u16(), 403, "{method} {path}");
        assert_eq!(status["reason"], "Forbidden", "{method} {path}");
    }
}

async fn birth(world: &World, kind: &Kind, list: &str) -> Value {
    let name = name_of(kind);
    let one = format!("{list}/{name}");
    let dry = world
        .ok(Method::POST, &format!("{list}?dryRun=All"), example(kind, name))
        .await;
    assert_eq!(dry["metadata"]["name"], name, "{list}");
    world.fails(Method::GET, &one, Value::Null).await;

    let mut created = world.ok(Method::POST, list, example(kind, name)).await;
    if is_judged(kind) {
        let noted = |_: &str, object: &Value| !object["status"]["conditions"].is_null();
        created = world.until(list, name, noted).await;
    }
    assert_eq!(created["kind"], kind.kind.as_ref());
    assert_eq!(created["apiVersion"], kind.api_version());
    assert_eq!(created["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert_eq!(world.get(&one).await, created, "{list}");
    let again = world.fails(Method::POST, list, example(kind, name)).await;
    assert_eq!(again.0, 409, "{list}");
    created
}

/// Whether the server itself notes a condition of such an object as soon as there is one.
fn is_judged(kind: &Kind) -> bool {
    matches!(kind.kind.as_ref(), "APIService" | "FlowSchema" | "ServiceCIDR")
}

/// Whether the server looks whether such an object is used before it lets it go.
fn is_held(kind: &Kind) -> bool {
    kind.kind == "ServiceCIDR"
}

/// What a watch from right before an object's first settled version shows.
fn first_change(kind: &Kind) -> &'static str {
    if is_judged(kind) { "MODIFIED" } else { "ADDED" }
}

async fn found(world: &World, kind: &Kind, list: &str, created: &Value) {
    let name = name_of(kind);
    let all = world.get(&format!("{list}?fieldSelector=metadata.name%3D{name}")).await;
    assert_eq!(all["kind"], kind.list_kind());
    assert_eq!(all["apiVersion"], kind.api_version());
    assert_eq!(all["items"], json!([created]), "{list}");
    let version: u64 = created["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let watch = |from: u64| format!("{list}?watch=1&resourceVersion={from}&timeoutSeconds=0");
    let event = world.get(&watch(version - 1)).await;
    assert_eq!(event, json!({"type": first_change(kind), "object": created}), "{list}");
    assert_eq!(world.get(&watch(version)).await, json!(""), "{list}");
    let (status, explained) = send(
        world.admin(),
        Method::GET,
        &format!("{list}?fieldSelector=no.such%3Dfield"),
        Value::Null,
    )
    .await;
    assert_eq!(
        (status.as_u16(), &explained["message"]),
        (400, &json!("field label not supported: no.such"))
    );
}

async fn changes(world: &World, kind: &Kind, list: &str, created: &Value) {
    let one = format!("{list}/{}", name_of(kind));
    let same = world.ok(Method::PUT, &one, created.clone()).await;
    assert_eq!(
        same, *created,
        "a write that changes nothing changes no version: {list}"
    );
    let patch = json!({"metadata": {"labels": {"x": "y"}}});
    let dry = world
        .ok(Method::PATCH, &format!("{one}?dryRun=All"), patch.clone())
        .await;
    assert_eq!(dry["metadata"]["labels"]["x"], "y");
    assert_eq!(world.get(&one).await, *created, "{list}");
    let patched = world.ok(Method::PATCH, &one, patch).await;
    assert_eq!(patched["metadata"]["labels"]["x"], "y");
    assert_eq!(patched["metadata"]["uid"], created["metadata"]["uid"]);
    let (code, message) = world.fails(Method::PUT, &one, stale(created)).await;
    assert_eq!(code, 409, "{list}");
    assert!(message.contains("the object has been modified; please apply your changes to the latest version"));
    assert_eq!(
        world.get(&format!("{list}?labelSelector=x%3Dy")).await["items"],
        json!([patched])
    );
    let pointed = json!([{"op": "replace", "path": "/metadata/labels/x", "value": "z"}]);
    let pointed = world.ok(Method::PATCH, &one, pointed).await;
    assert_eq!(pointed["metadata"]["labels"]["x"], "z", "{list}");
    let merge = json!({"metadata": {"labels": {"x": null, "m": "n"}}});
    let (status, merged) = send_as(
        world.admin(),
        Method::PATCH,
        &one,
        "application/merge-patch+json",
        merge,
    )
    .await;
    assert!(status.is_success(), "{list}: {merged}");
    assert_eq!(
        (&merged["metadata"]["labels"]["m"], &merged["metadata"]["labels"]["x"]),
        (&json!("n"), &Value::Null)
    );
    let configuration = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": name_of(kind), "labels": {"applied": "yes"}},
    });
    let apply = format!("{one}?fieldManager=test&force=true");
    let (status, applied) = send_as(
        world.admin(),
        Method::PATCH,
        &apply,
        "application/apply-patch+yaml",
        configuration,
    )
    .await;
    assert!(status.is_success(), "{list}: {applied}");
    assert_eq!(
        (&applied["metadata"]["labels"]["applied"], &applied["apiVersion"]),
        (&json!("yes"), &json!(kind.api_version()))
    );
    let (status, table) = rows(world, &one).await;
    assert_eq!((status, table["kind"].as_str()), (200, Some("Table")), "{list}");
    assert_eq!(
        table["rows"][0]["cells"].as_array().map(Vec::len),
        table["columnDefinitions"].as_array().map(Vec::len),
        "{list}"
    );
}

/// A replace that changes something, first without effect.
async fn replaced(world: &World, kind: &Kind, list: &str) {
    let one = format!("{list}/{}", name_of(kind));
    let before = world.get(&one).await;
    let mut next = before.clone();
    next["metadata"]["annotations"]["note"] = json!("kept");
    let dry = world.ok(Method::PUT, &format!("{one}?dryRun=All"), next.clone()).await;
    assert_eq!(dry["metadata"]["annotations"]["note"], "kept", "{list}");
    assert_eq!(world.get(&one).await, before, "{list}");
    let after = world.ok(Method::PUT, &one, next).await;
    assert_eq!(world.get(&one).await, after, "{list}");
    assert_eq!(after["metadata"]["annotations"]["note"], "kept", "{list}");
    assert_ne!(
        after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"],
        "{list}"
    );
}

/// A delete, first without effect.
async fn death(world: &World, kind: &Kind, list: &str) {
    // Jobs and replication controllers would leave their pods behind, and wait for that.
    let delete = format!("{list}/{}?propagationPolicy=Background", name_of(kind));
    let before = world.get(&format!("{list}/{}", name_of(kind))).await;
    let dry = format!("{delete}&dryRun=All");
    world.ok(Method::DELETE, &dry, Value::Null).await;
    assert_eq!(world.get(&format!("{list}/{}", name_of(kind))).await, before, "{list}");
    let wrong = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "another"}});
    assert_eq!(world.fails(Method::DELETE, &delete, wrong).await.0, 409, "{list}");
    world.ok(Method::DELETE, &delete, Value::Null).await;
}

/// The whole life again, as a watcher sees it: one event for each version, in their order.
async fn witnessed(world: &World, kind: &Kind, list: &str, created: &Value) {
    let version = |object: &Value| -> u64 {
        let version = object["metadata"]["resourceVersion"].as_str();
        version.unwrap().parse().unwrap()
    };
    let path = format!(
        "{list}?watch=1&timeoutSeconds=0&fieldSelector=metadata.name%3D{}&resourceVersion={}",
        name_of(kind),
        version(created) - 1
    );
    let lines = world.get(&path).await;
    let events: Vec<Value> = lines
        .as_str()
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let (first, rest) = types.split_first().unwrap();
    let (last, between) = rest.split_last().unwrap();
    assert_eq!((*first, *last), (first_change(kind), "DELETED"), "{list}");
    // Strategic, JSON, merge and apply patches, and a replace.
    assert!(
        between.len() >= 5 && between.iter().all(|event| *event == "MODIFIED"),
        "{list}: {types:?}"
    );
    assert!(
        events.is_sorted_by(|one, other| version(&one["object"]) < version(&other["object"])),
        "{list}"
    );
}

/// A collection's deletion takes what is selected.
async fn together(world: &World, kind: &Kind, list: &str) {
    let chosen = format!("{list}?labelSelector=set%3Dtogether&propagationPolicy=Background");
    if !kind.allows("deletecollection") {
        assert_eq!(world.fails(Method::DELETE, &chosen, Value::Null).await.0, 405, "{list}");
        return;
    }
    let mut object = example(kind, name_of(kind));
    object["metadata"]["labels"]["set"] = json!("together");
    let one = format!("{list}/{}", name_of(kind));
    world.ok(Method::POST, list, object).await;
    let others = format!("{list}?labelSelector=set%3Dother&propagationPolicy=Background");
    let none = world.ok(Method::DELETE, &others, Value::Null).await;
    assert_eq!(none["items"], json!([]), "{list}");
    world.get(&one).await;
    let deleted = world.ok(Method::DELETE, &chosen, Value::Null).await;
    assert_eq!(deleted["kind"], kind.list_kind(), "{list}");
    assert_eq!(deleted["items"][0]["metadata"]["name"], name_of(kind), "{list}");
    if is_held(kind) {
        world.gone(list, name_of(kind)).await;
    }
    assert_eq!(world.fails(Method::GET, &one, Value::Null).await.0, 404, "{list}");
}

async fn rows(world: &World, path: &str) -> (u16, Value) {
    let request = Request::builder()
        .uri(path)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let answer = world
        .admin()
        .oneshot(request.body(Full::new(Bytes::new())).unwrap())
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn one_autoscaler_in_two_versions() {
    let world = world().await;
    let path = |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers");
    let mut first = json!({"metadata": {"name": "web"}, "spec": {
        "maxReplicas": 3, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
    }});
    let created = world.ok(Method::POST, &path("v1"), first.clone()).await;
    assert_eq!(created["spec"]["targetCPUUtilizationPercentage"], 50);
    let second = world.get(&format!("{}/web", path("v2"))).await;
    assert_eq!(second["apiVersion"], "autoscaling/v2");
    assert_eq!(
        second["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        50
    );
    let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    let mut more = second.clone();
    more["spec"]["metrics"].as_array_mut().unwrap().push(memory.clone());
    let more = world.ok(Method::PUT, &format!("{}/web", path("v2")), more).await;
    let patch = json!({"spec": {"targetCPUUtilizationPercentage": 60}});
    world.ok(Method::PATCH, &format!("{}/web", path("v1")), patch).await;
    let both = world.get(&format!("{}/web", path("v2"))).await;
    assert_eq!(
        both["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        60
    );
    assert_eq!(both["spec"]["metrics"][1], memory);
    assert_eq!(both["metadata"]["uid"], more["metadata"]["uid"]);
    first["metadata"]["name"] = json!("bad");
    first["spec"]["maxReplicas"] = json!(0);
    let (code, message) = world.fails(Method::POST, &path("v1"), first).await;
    assert_eq!(code, 422);
    assert!(
        message.contains("spec.maxReplicas: Invalid value: 0: must be greater than 0"),
        "{message}"
    );
}

#[tokio::test]
async fn an_event_is_seen_in_both_groups() {
    let world = world().await;
    let kinds = Kinds::builtin();
    let newer = "/apis/events.k8s.io/v1/namespaces/default/events";
    let older = "/api/v1/namespaces/default/events";
    let kind = kinds.find("events.k8s.io", "v1", "events").unwrap();
    world.ok(Method::POST, newer, example(kind, "e")).await;
    let event = world.get(&format!("{older}/e")).await;
    assert_eq!(
        (&event["involvedObject"]["name"], &event["reportingComponent"]),
        (&json!("x"), &json!("example.com/x"))
    );
    for (list, label) in [(newer, "regarding.name"), (older, "involvedObject.name")] {
        let chosen = world.get(&format!("{list}?fieldSelector={label}%3Dx")).await;
        assert_eq!(chosen["items"].as_array().map(Vec::len), Some(1), "{list}");
        let none = world.get(&format!("{list}?fieldSelector={label}%3Dy")).await;
        assert_eq!(none["items"].as_array().map(Vec::len), Some(0), "{list}");
    }
    let wrong = format!("{newer}?fieldSelector=involvedObject.name%3Dx");
    assert_eq!(world.fails(Method::GET, &wrong, Value::Null).await.0, 400);
}

#[tokio::test]
async fn the_systems_priorities_are_there_and_stay() {
    let world = world().await;
    let class = "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical";
    assert_eq!(world.get(class).await["value"], 2_000_001_000);
    let (code, message) = world.fails(Method::PATCH, class, json!({"value": 1})).await;
    assert_eq!(code, 422);
    assert!(
        message.contains("value: Forbidden: may not be changed in an update."),
        "{message}"
    );
}

#[tokio::test]
async fn a_request_for_a_certificate_is_decided_by_its_approver() {
    let world = world().await;
    let kinds = Kinds::builtin();
    let kind = kinds
        .find("certificates.k8s.io", "v1", "certificatesigningrequests")
        .unwrap();
    let list = collection(kind);
    let mut request = example(kind, "r");
    request["spec"]["username"] = json!("somebody-else");
    let made = world.ok(Method::POST, &list, request).await;
    assert_ne!(made["spec"]["username"], "somebody-else");
    let mut decided = made.clone();
    decided["spec"]["usages"] = json!(["server auth"]);
    decided["status"] =
        json!({"certificate": "AAAA", "conditions": [{"type": "Approved", "status": "True", "reason": "Yes"}]});
    let approval = format!("{list}/r/approval");
    let decided = world.ok(Method::PUT, &approval, decided).await;
    assert_eq!(decided["spec"], made["spec"]);
    assert!(decided["status"].get("certificate").is_none());
    assert!(decided["status"]["conditions"][0]["lastUpdateTime"].is_string());
    let take_back = json!({"status": {"conditions": [{"type": "Approved", "$patch": "delete"}]}});
    let (code, message) = world.fails(Method::PATCH, &approval, take_back).await;
    assert_eq!(code, 422);
    assert!(
        message.contains("updates may not remove a condition of type \"Approved\""),
        "{message}"
    );
}

fn stale(created: &Value) -> Value {
    let mut stale = created.clone();
    stale["metadata"]["labels"] = json!({"late": "yes"});
    stale
}
