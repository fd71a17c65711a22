//! Parts of objects with doors of their own, and what every cluster has of them from the start.

use http::Method;
use serde_json::{Value, json};

use crate::world::{condition, pod, world};

const PODS: &str = "/api/v1/namespaces/default/pods";
const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

#[tokio::test]
async fn containers_for_debugging_join_a_pod_and_stay() {
    let world = world().await;
    world.ok(Method::POST, PODS, pod("a")).await;
    let path = format!("{PODS}/a/ephemeralcontainers");
    let debugger = |more: Value| {
        let mut container = json!({"name": "debug", "image": "toolbox", "targetContainerName": "c"});
        for (field, value) in more.as_object().unwrap() {
            container[field] = value.clone();
        }
        json!({"spec": {"ephemeralContainers": [container]}})
    };
    let (code, message) = world
        .fails(Method::PATCH, &path, debugger(json!({"targetContainerName": "x"})))
        .await;
    assert_eq!(code, 422);
    assert!(
        message.contains("spec.ephemeralContainers[0].targetContainerName: Not found: \"x\""),
        "{message}"
    );
    let (_, message) = world
        .fails(
            Method::PATCH,
            &path,
            debugger(json!({"ports": [{"containerPort": 80}]})),
        )
        .await;
    assert!(
        message.contains("spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"),
        "{message}"
    );
    let mut change = debugger(json!({}));
    change["spec"]["activeDeadlineSeconds"] = json!(5);
    let joined = world.ok(Method::PATCH, &path, change).await;
    let container = &joined["spec"]["ephemeralContainers"][0];
    assert_eq!(
        (&container["name"], &container["terminationMessagePolicy"]),
        (&json!("debug"), &json!("File"))
    );
    assert_eq!(joined["metadata"]["generation"], 2);
    assert_eq!(
        joined["spec"].get("activeDeadlineSeconds"),
        None,
        "nothing else goes through this door"
    );
    let (code, message) = world
        .fails(Method::PATCH, &path, debugger(json!({"image": "other"})))
        .await;
    assert_eq!(code, 422);
    assert!(
        message.contains("existing ephemeral containers \"debug\" may not be changed"),
        "{message}"
    );
    assert_eq!(world.get(&path).await["kind"], "Pod");
    let (code, _) = world
        .fails(Method::PATCH, &format!("{PODS}/a"), debugger(json!({"name": "more"})))
        .await;
    assert_eq!(code, 422, "not through the main door");
}

#[tokio::test]
async fn a_pod_is_resized_within_its_class() {
    let world = world().await;
    let mut small = pod("a");
    small["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    world.ok(Method::POST, PODS, small).await;
    let path = format!("{PODS}/a/resize");
    let resources =
        |resources: Value| json!({"spec": {"containers": [{"name": "c", "image": "other", "resources": resources}]}});
    let resized = world
        .ok(Method::PATCH, &path, resources(json!({"requests": {"cpu": "300m"}})))
        .await;
    let container = &resized["spec"]["containers"][0];
    assert_eq!(
        (&container["resources"]["requests"]["cpu"], &container["image"]),
        (&json!("300m"), &json!("hello"))
    );
    assert_eq!(resized["metadata"]["generation"], 2);
    let (code, message) = world
        .fails(
            Method::PATCH,
            &path,
            resources(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}})),
        )
        .await;
    assert_eq!(code, 422);
    assert!(
        message.contains("Pod QOS Class may not change as a result of resizing"),
        "{message}"
    );
    let (code, _) = world
        .fails(
            Method::PATCH,
            &format!("{PODS}/a"),
            resources(json!({"requests": {"cpu": "2"}})),
        )
        .await;
    assert_eq!(code, 422, "not through the main door");
}

#[tokio::test]
async fn a_binding_by_itself_names_its_pod() {
    let world = world().await;
    world.ok(Method::POST, PODS, pod("a")).await;
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}});
    let bindings = "/api/v1/namespaces/default/bindings";
    world.ok(Method::POST, bindings, binding.clone()).await;
    assert_eq!(world.get(&format!("{PODS}/a")).await["spec"]["nodeName"], "n1");
    assert_eq!(world.fails(Method::POST, bindings, binding).await.0, 409);
}

#[tokio::test]
async fn flow_schemas_are_there_and_know_whether_their_level_is() {
    let world = world().await;
    let levels = world.get(&format!("{FLOW}/prioritylevelconfigurations")).await;
    assert_eq!(levels["items"].as_array().unwrap().len(), 8);
    let schemas = format!("{FLOW}/flowschemas");
    assert_eq!(world.get(&schemas).await["items"].as_array().unwrap().len(), 13);
    let dangles = |status: &'static str| move |_: &str, object: &Value| condition(object, "Dangling") == status;
    world.until(&schemas, "global-default", dangles("False")).await;
    let own = json!({"metadata": {"name": "own"}, "spec": {"matchingPrecedence": 700, "priorityLevelConfiguration": {"name": "later"}}});
    world.ok(Method::POST, &schemas, own).await;
    world.until(&schemas, "own", dangles("True")).await;
    let later = json!({"metadata": {"name": "later"}, "spec": {"type": "Exempt", "exempt": {}}});
    world
        .ok(Method::POST, &format!("{FLOW}/prioritylevelconfigurations"), later)
        .await;
    world.until(&schemas, "own", dangles("False")).await;
}
