//! Every stored kind goes through the same life: a new row in the table of kinds is tested the moment it exists.

use coracle_api::kinds::{Kind, Kinds};
use http::Method;
use serde_json::{Value, json};

use crate::world::{deployment, pod, send, world};

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
        "Event" => json!({"involvedObject": {"kind": "Pod", "name": "x", "namespace": "default"}, "type": "Normal"}),
        "Role" | "ClusterRole" => json!({"rules": rules}),
        "RoleBinding" | "ClusterRoleBinding" => json!({"roleRef": reference("ClusterRole"), "subjects": []}),
        _ => json!({}),
    };
    object["metadata"]["name"] = json!(name);
    object
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
    let nobody = || world.server.local("nobody", &[]);
    let kinds = Kinds::builtin();
    let mut seen = 0;
    for kind in kinds.iter().filter(|kind| kind.is_stored()) {
        let list = collection(kind);
        let one = format!("{list}/one");
        let (denied, _) = send(nobody(), Method::POST, &list, example(kind, "one")).await;
        assert_eq!(denied.as_u16(), 403, "{list}");

        let dry = world
            .ok(Method::POST, &format!("{list}?dryRun=All"), example(kind, "one"))
            .await;
        assert_eq!(dry["metadata"]["name"], "one", "{list}");
        world.fails(Method::GET, &one, Value::Null).await;

        let created = world.ok(Method::POST, &list, example(kind, "one")).await;
        assert_eq!(created["kind"], kind.kind.as_ref());
        assert_eq!(created["apiVersion"], kind.api_version());
        assert_eq!(created["metadata"]["uid"].as_str().unwrap().len(), 36);
        assert_eq!(world.get(&one).await, created, "{list}");
        assert_eq!(
            world.fails(Method::POST, &list, example(kind, "one")).await.0,
            409,
            "{list}"
        );

        let all = world.get(&format!("{list}?fieldSelector=metadata.name%3Done")).await;
        assert_eq!(all["kind"], kind.list_kind());
        assert_eq!(all["items"], json!([created]), "{list}");
        let version = all["metadata"]["resourceVersion"].as_str().unwrap();
        let watched = world
            .get(&format!("{list}?watch=1&resourceVersion={version}&timeoutSeconds=0"))
            .await;
        assert_eq!(watched, json!(""), "{list}");

        let same = world.ok(Method::PUT, &one, created.clone()).await;
        assert_eq!(same, created, "a write that changes nothing changes no version: {list}");
        let patch = json!({"metadata": {"labels": {"x": "y"}}});
        let dry = world
            .ok(Method::PATCH, &format!("{one}?dryRun=All"), patch.clone())
            .await;
        assert_eq!(dry["metadata"]["labels"]["x"], "y");
        assert_eq!(world.get(&one).await, created, "{list}");
        let patched = world.ok(Method::PATCH, &one, patch).await;
        assert_eq!(patched["metadata"]["labels"]["x"], "y");
        assert_eq!(patched["metadata"]["uid"], created["metadata"]["uid"]);
        let (code, message) = world.fails(Method::PUT, &one, stale(&created)).await;
        assert_eq!(code, 409, "{list}");
        assert!(message.contains("the object has been modified; please apply your changes to the latest version"));
        assert_eq!(
            world.get(&format!("{list}?labelSelector=x%3Dy")).await["items"],
            json!([patched])
        );

        // Jobs and replication controllers would leave their pods behind, and wait for that.
        world
            .ok(
                Method::DELETE,
                &format!("{one}?propagationPolicy=Background"),
                Value::Null,
            )
            .await;
        if kind.kind != "Namespace" {
            assert_eq!(world.fails(Method::GET, &one, Value::Null).await.0, 404, "{list}");
        }
        seen += 1;
    }
    assert!(seen >= 13, "{seen}");
}

fn stale(created: &Value) -> Value {
    let mut stale = created.clone();
    stale["metadata"]["labels"] = json!({"late": "yes"});
    stale
}
