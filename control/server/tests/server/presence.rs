//! What the control plane tells of itself: its parts, and the lease of the server.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::world;

const COMPONENTS: &str = "/api/v1/componentstatuses";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

#[tokio::test]
async fn the_parts_of_the_control_plane_are_told_with_a_warning() {
    let world = world().await;
    let scheduler = world.server.component("scheduler");
    let list = world.get(COMPONENTS).await;
    assert_eq!(list["kind"], "ComponentStatusList");
    let said = |object: &Value| {
        (
            object["metadata"]["name"].clone(),
            object["conditions"][0]["status"].clone(),
        )
    };
    let all: Vec<_> = list["items"].as_array().unwrap().iter().map(said).collect();
    assert_eq!(
        all,
        [(json!("scheduler"), json!("False")), (json!("store"), json!("True"))]
    );
    scheduler.set(true);
    let one = world.get(&format!("{COMPONENTS}/scheduler")).await;
    assert_eq!(
        one["conditions"],
        json!([{"type": "Healthy", "status": "True", "message": "ok"}])
    );
    let table = world.table(COMPONENTS).await;
    assert_eq!(table["rows"][0]["cells"], json!(["scheduler", "Healthy", "ok", ""]));
    let chosen = world
        .get(&format!("{COMPONENTS}?fieldSelector=metadata.name%3Dstore"))
        .await;
    assert_eq!(chosen["items"].as_array().unwrap().len(), 1);
    let missing = world.fails(Method::GET, &format!("{COMPONENTS}/x"), Value::Null).await;
    assert_eq!(missing, (404, "componentstatuses \"x\" not found".to_owned()));
    assert_eq!(
        world
            .fails(Method::DELETE, &format!("{COMPONENTS}/store"), Value::Null)
            .await
            .0,
        405
    );
    for (path, warning) in [
        (COMPONENTS, "299 - \"v1 ComponentStatus is deprecated in v1.19+\""),
        (
            "/api/v1/endpoints",
            "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"",
        ),
    ] {
        let request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
        let answer = world.admin().oneshot(request).await.unwrap();
        assert_eq!(answer.headers()["warning"], warning);
        answer.into_body().collect().await.unwrap();
    }
}

#[tokio::test]
async fn the_server_has_a_lease_and_renews_it() {
    let world = world().await;
    let label = "labelSelector=apiserver.kubernetes.io%2Fidentity%3Dkube-apiserver";
    let found = world.get(&format!("{LEASES}?{label}")).await;
    let [lease] = found["items"].as_array().unwrap().as_slice() else {
        panic!("{found}")
    };
    let name = lease["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("apiserver-"), "{name}");
    assert!(lease["spec"]["holderIdentity"].as_str().unwrap().starts_with(name));
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 3600);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(601)).await;
    tokio::time::resume();
    world
        .until(LEASES, name, |_, now| {
            now["spec"]["renewTime"] != lease["spec"]["renewTime"]
        })
        .await;
}
