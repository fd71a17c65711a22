//! Each file of examples/ does what its comment says.

use coracle::manifest;
use futures::TryStreamExt;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Pod, Service},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use crate::world::{self, World, ended, pod_of, ready};

/// Every replica is up to date and available, and the controller has seen the latest specification.
fn rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == wanted
            && status.available_replicas == wanted
            && status.replicas == wanted
    })
}

#[test]
fn every_example_is_tested_here() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "configmap.yaml",
            "hello.yaml",
            // By `mesh`.
            "mesh",
            "policies.yaml",
            "rolling-update.yaml",
            "sidecar.yaml"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_answers_behind_its_service() {
    let world = World::start().await;
    world.apply(include_str!("../../examples/hello.yaml")).await;
    world.until::<Deployment>(&world.all(), "hello", rolled_out).await;
    let pod = pod_of(&world, "app=hello").await.name_any();
    let answer = world.output("ask", "caller", &["http://hello/"]).await;
    assert!(answer.contains(&format!("Hello from {pod}")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sidecar_takes_every_request() {
    let world = World::start().await;
    let client = world.client();
    let example = manifest::parse(include_str!("../../examples/sidecar.yaml")).unwrap();
    manifest::apply(&client, &example).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "demo");
    world.until(&deployments, "web", rolled_out).await;

    let from_pod = world
        .output("ask", "caller", &["http://web.demo.svc.cluster.local/"])
        .await;
    assert!(
        from_pod.contains("Ahoy from") && from_pod.contains("x-coracle-sidecar:"),
        "{from_pod}"
    );

    let services: Api<Service> = Api::namespaced(client, "demo");
    let service = services.get("web").await.unwrap();
    let port = service.spec.unwrap().ports.unwrap()[0].node_port.unwrap();
    let address = format!("127.0.0.1:{port}");
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let from_host = world::http(stream).await;
    assert!(
        from_host.contains("Ahoy from") && from_host.contains("x-coracle-sidecar:"),
        "{from_host}"
    );

    // No Service leads past the sidecar: the application's own port is answered by nobody.
    let past = world
        .output("past", "caller", &["http://web.demo.svc.cluster.local:9090/"])
        .await;
    assert!(!past.contains("Ahoy"), "{past}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_becomes_the_greeting_and_a_file() {
    let world = World::start().await;
    world.apply(include_str!("../../examples/configmap.yaml")).await;
    world.until::<Deployment>(&world.all(), "configured", rolled_out).await;
    let pod = pod_of(&world, "app=configured").await.name_any();
    let answer = world.http(&pod, 8080).await;
    assert!(answer.contains(&format!("Welcome from {pod}")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_refuse_and_complete() {
    let world = World::start().await;
    world.apply(include_str!("../../examples/policies.yaml")).await;
    let deployments: Api<Deployment> = Api::namespaced(world.client(), "limited");
    let hello = |name: &str, replicas: i32| -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "hello", "image": "hello"}]},
                },
            },
        }))
        .unwrap()
    };
    let refused = deployments.create(&PostParams::default(), &hello("many", 5)).await;
    let kube::Error::Api(status) = refused.unwrap_err() else {
        panic!()
    };
    assert_eq!(status.code, 422);
    assert!(
        status.message.ends_with("at most 3 replicas here, not 5"),
        "{}",
        status.message
    );
    let made = deployments
        .create(&PostParams::default(), &hello("few", 2))
        .await
        .unwrap();
    assert!(
        made.annotations().contains_key("created-by"),
        "{:?}",
        made.annotations()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_rolls_without_a_missing_replica() {
    let world = World::start().await;
    world.apply(include_str!("../../examples/rolling-update.yaml")).await;
    let deployments: Api<Deployment> = world.all();
    world.until(&deployments, "rolling", rolled_out).await;

    // From here on three are to be available at all times; every state that the server publishes is looked at.
    let lowest = tokio::spawn({
        let config = watcher::Config::default().fields("metadata.name=rolling");
        let states = watcher(deployments.clone(), config).applied_objects();
        async move {
            let mut states = std::pin::pin!(states);
            let mut lowest = i32::MAX;
            while let Some(deployment) = states.try_next().await.unwrap() {
                let available = deployment.status.as_ref().and_then(|status| status.available_replicas);
                lowest = lowest.min(available.unwrap_or(0));
                if updated(&deployment) {
                    break;
                }
            }
            lowest
        }
    });
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "hello", "image": "hello:v2"}]}}}});
    deployments
        .patch("rolling", &PatchParams::default(), &Patch::Strategic(&image))
        .await
        .unwrap();
    let done = world.until(&deployments, "rolling", updated).await;
    assert_eq!(lowest.await.unwrap(), 3);

    let sets: Api<ReplicaSet> = world.all();
    let sets = sets.list(&ListParams::default()).await.unwrap();
    assert_eq!(sets.items.len(), 2, "the old set stays for a rollback");
    assert_eq!(done.annotations()["deployment.kubernetes.io/revision"], "2");
    let pods = world
        .all::<Pod>()
        .list(&ListParams::default().labels("app=rolling"))
        .await
        .unwrap();
    for pod in pods
        .iter()
        .filter(|pod| ready(pod) && !ended(pod) && pod.metadata.deletion_timestamp.is_none())
    {
        let answer = world.http(&pod.name_any(), 8080).await;
        assert!(answer.contains("version v2"), "{answer}");
    }
}

fn updated(deployment: &Deployment) -> bool {
    let image = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref()?.containers[0].image.as_deref());
    image == Some("hello:v2") && rolled_out(deployment)
}
