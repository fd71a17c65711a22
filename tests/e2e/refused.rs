//! Bad input: one clear message each, and nothing else suffers.

use coracle::{cluster::Cluster, data_dir::DataDir};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::json;

use crate::world::{World, ready, waits};

/// Why the server refuses a pod with such a specification.
async fn refusal(world: &World, spec: serde_json::Value) -> kube::core::Status {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let pods: Api<DynamicObject> = Api::namespaced_with(world.client(), "default", &resource);
    let pod = serde_json::from_value(json!({"metadata": {"name": "bad"}, "spec": spec})).unwrap();
    let strict = PostParams {
        field_manager: None,
        dry_run: false,
    };
    match pods.create(&strict, &pod).await.unwrap_err() {
        kube::Error::Api(status) => *status,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_manifest_names_the_field() {
    let world = World::start().await;
    let wrong_type = refusal(&world, json!({"containers": "hello"})).await;
    assert_eq!(wrong_type.code, 400);
    assert!(wrong_type.message.contains("spec.containers"), "{}", wrong_type.message);
    let nothing = refusal(&world, json!({"containers": []})).await;
    assert_eq!((nothing.code, nothing.reason.as_str()), (422, "Invalid"));
    assert!(
        nothing.message.contains("spec.containers: Required value"),
        "{}",
        nothing.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_run_says_why_and_its_neighbours_run() {
    let world = World::start().await;
    for (name, image) in [
        ("missing", "nowhere"),
        ("lacking", "lacking"),
        ("misnamed", "No:Name:AtAll"),
        ("fine", "hello"),
    ] {
        world.run(name, image, &[], "").await;
    }
    world.pod("fine", ready).await;

    let missing = world
        .pod("missing", |pod| {
            waits(pod).is_some_and(|(reason, _)| reason == "ErrImagePull" || reason == "ImagePullBackOff")
        })
        .await;
    let (_, message) = waits(&missing).unwrap();
    assert!(message.contains("nowhere"), "{message}");
    world.event("nowhere").await;

    let misnamed = world
        .pod("misnamed", |pod| {
            waits(pod).is_some_and(|(reason, _)| reason == "InvalidImageName")
        })
        .await;
    let (_, message) = waits(&misnamed).unwrap();
    assert!(
        message.contains("Failed to apply default image tag \"No:Name:AtAll\""),
        "{message}"
    );

    // Known only when it is there: the container tells.
    let text = r#"(component (import "acme:secret/vault@1.0.0" (instance)))"#;
    world.load("lacking", &wat::parse_str(text).unwrap());
    let lacking = world
        .pod("lacking", |pod| {
            waits(pod).is_some_and(|(_, message)| message.contains("acme:secret/vault"))
        })
        .await;
    assert_eq!(waits(&lacking).unwrap().0, "CreateContainerError");
    world.event("acme:secret/vault").await;
    // Known beforehand: nobody gets such a pod, and whoever makes pods for others is told.
    let refused = refusal(&world, json!({"containers": [{"name": "c", "image": "lacking"}]})).await;
    assert_eq!(refused.code, 403);
    for words in [
        "container \"c\": image \"lacking\"",
        "acme:secret/vault@1.0.0",
        "build the program for one of these",
    ] {
        assert!(refused.message.contains(words), "{}", refused.message);
    }
    let template = "metadata: {labels: {app: set}}\n    spec: {containers: [{name: c, image: lacking}]}";
    world
        .apply(&format!(
            "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: set}}\nspec:\n  selector: {{matchLabels: {{app: set}}}}\n  template:\n    {template}\n"
        ))
        .await;
    world.event("FailedCreate: Error creating: pods \"set-").await;
    let pods = world.all::<Pod>();
    assert!(ready(&pods.get("fine").await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_wasm_is_not_loaded() {
    let world = World::start().await;
    let store = coracle_images::ImageStore::open(world.cluster.data().join("images")).unwrap();
    let refused = store
        .load(
            "script",
            b"#!/bin/sh\necho hello\n",
            &coracle_images::ImageConfig::default(),
        )
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is not WebAssembly"), "{refused}");
    // A file that another program put there in spite of that is refused by the pod that names it.
    assert!(store.resolve("script").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use_is_refused() {
    let world = World::start().await;
    let refused = DataDir::open(world.cluster.data().path()).unwrap_err().to_string();
    assert!(
        refused.contains("in use") && refused.contains("--data-dir"),
        "{refused}"
    );
    world.run("still", "hello", &[], "").await;
    world.pod("still", ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_address_is_refused_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = coracle::cluster::ClusterConfig::new(DataDir::ephemeral().unwrap());
    config.listen = taken.local_addr().unwrap();
    let Err(refused) = Cluster::start(config).await else {
        panic!("the address is taken");
    };
    assert!(refused.to_string().contains("--listen"), "{refused}");
}
