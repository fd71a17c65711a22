//! What is added to pods that run, and pods that run without the API: with kubectl, as users do it.

use coracle::{cluster::ClusterConfig, data_dir::DataDir};
use k8s_openapi::api::core::v1::Pod;

use crate::world::{World, end, ended, main_status, phase, ready};

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_debugs_and_resizes_a_running_pod() {
    let world = World::start().await;
    let resources = "resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {cpu: 100m, memory: 64Mi}}";
    world.run("web", "hello", &["hello"], resources).await;
    world.pod("web", ready).await;
    let look = [
        "debug",
        "web",
        "--image=toolbox",
        "-c",
        "look",
        "--",
        "wget",
        "-qO-",
        "http://127.0.0.1:8080/",
    ];
    world.kubectl(&look).await;
    let seen = |pod: &Pod| {
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.ephemeral_container_statuses.as_ref());
        let state = statuses.and_then(|statuses| statuses[0].state.clone());
        state.is_some_and(|state| state.terminated.is_some())
    };
    let pod = world.pod("web", seen).await;
    assert!(ready(&pod));
    let said = world.kubectl(&["logs", "web", "-c", "look"]).await;
    assert!(said.contains("Hello from web"), "{said}");
    let removal = r#"[{"op": "remove", "path": "/spec/ephemeralContainers/0"}]"#;
    let (good, _, refused) = world
        .try_kubectl(
            &[
                "patch",
                "pod",
                "web",
                "--subresource=ephemeralcontainers",
                "--type=json",
                "-p",
                removal,
            ],
            "",
        )
        .await;
    assert!(!good && refused.contains("may not be removed"), "{refused}");

    let resize = async |cpu: &str| {
        let patch = format!(
            r#"{{"spec": {{"containers": [{{"name": "main", "resources": {{"limits": {{"cpu": "{cpu}"}}}}}}]}}}}"#
        );
        world
            .kubectl(&["patch", "pod", "web", "--subresource=resize", "-p", &patch])
            .await
    };
    resize("200m").await;
    let limit = |pod: &Pod| {
        let resources = main_status(pod).and_then(|status| status.resources.clone());
        resources
            .and_then(|resources| resources.limits)
            .and_then(|mut limits| limits.remove("cpu"))
    };
    let pod = world
        .pod("web", |pod| limit(pod).is_some_and(|cpu| cpu.0 == "200m"))
        .await;
    assert_eq!(main_status(&pod).unwrap().restart_count, 0);
    let main = r#"{"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "300m"}}}]}}"#;
    let (good, _, refused) = world.try_kubectl(&["patch", "pod", "web", "-p", main], "").await;
    assert!(
        !good && refused.contains("pod updates may not change fields other than"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_on_the_node_is_a_pod_with_a_mirror() {
    let manifests = tempfile::tempdir().unwrap();
    let file = manifests.path().join("web.yaml");
    let pod = |greeting: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{{name: main, image: hello, env: [{{name: GREETING, value: {greeting}}}]}}]\n"
        )
    };
    std::fs::write(&file, pod("Ahoy")).unwrap();
    let mut config = ClusterConfig::new(DataDir::ephemeral().unwrap());
    config.manifests = Some(manifests.path().to_owned());
    let world = World::start_with(config).await;
    let first = world.pod("web-coracle-1", ready).await;
    assert!(world.http("web-coracle-1", 8080).await.contains("Ahoy from web"));
    world.says("web-coracle-1", "main", "listening").await;

    // Who deletes the mirror does not delete the pod.
    world.kubectl(&["delete", "pod", "web-coracle-1", "--wait=false"]).await;
    let uid = |pod: &Pod| pod.metadata.uid.clone();
    let again = world
        .pod("web-coracle-1", |pod| ready(pod) && uid(pod) != uid(&first))
        .await;
    assert_eq!(main_status(&again).unwrap().restart_count, 0);
    assert_eq!(
        main_status(&again).unwrap().container_id,
        main_status(&first).unwrap().container_id
    );

    std::fs::write(&file, pod("Hello")).unwrap();
    let changed = world
        .pod("web-coracle-1", |pod| ready(pod) && uid(pod) != uid(&again))
        .await;
    assert_eq!(phase(&changed), "Running");
    assert!(world.http("web-coracle-1", 8080).await.contains("Hello from web"));
    std::fs::remove_file(&file).unwrap();
    world.gone::<Pod>(&world.all(), "web-coracle-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_guest_ended_is_told_exactly() {
    let world = World::start().await;
    world.load_probe();
    let module = "(module (memory (export \"memory\") 1) (func $innermost unreachable) (func $middle call $innermost)
        (func (export \"_start\") call $middle))";
    world.load("trap", &wat::parse_str(module).unwrap());
    world.run("trap", "trap", &["trap"], "").await;
    world
        .run(
            "fuel",
            "probe",
            &["lines", "1000000"],
            "resources: {limits: {coracle.dev/fuel: 5M}}",
        )
        .await;
    let trap = world.pod("trap", ended).await;
    assert_eq!(end(&trap), Some(("Error".to_owned(), 134)));
    let told = main_status(&trap)
        .unwrap()
        .state
        .clone()
        .unwrap()
        .terminated
        .unwrap()
        .message
        .unwrap();
    for said in [&told, &world.log("trap", "main").await] {
        assert!(said.contains("unreachable"), "{said}");
        assert!(said.contains("at innermost\n  at middle"), "{said}");
    }
    let fuel = world.pod("fuel", ended).await;
    assert_eq!(end(&fuel), Some(("FuelExhausted".to_owned(), 137)));
    let described = world.kubectl(&["describe", "pod", "fuel"]).await;
    assert!(described.contains("FuelExhausted"), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_file_is_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.wasm");
    let save = |guest: &str| {
        let next = dir.path().join("next");
        std::fs::write(&next, coracle_fixtures::component(guest).unwrap()).unwrap();
        std::fs::rename(next, &file).unwrap();
    };
    save("hello");
    let mut config = ClusterConfig::new(DataDir::ephemeral().unwrap());
    config.file_images = true;
    let world = World::start_with(config).await;
    let image = format!("file://{}", file.display());
    world
        .run("app", &image, &["app"], "readinessProbe: {httpGet: {port: 8080}}")
        .await;
    world.pod("app", ready).await;
    assert!(world.http("app", 8080).await.contains("Hello from app"));
    save("web");
    let again = |pod: &Pod| ready(pod) && main_status(pod).is_some_and(|status| status.restart_count == 1);
    world.pod("app", again).await;
    assert!(world.http("app", 8080).await.contains("you asked for /"));
    world
        .event("Container main image file changed, will be restarted")
        .await;
}
