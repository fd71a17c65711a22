//! A node in a process of its own: what runs there, and that each side lives without the other.

use std::{fs, path::Path};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{AttachParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::json;
use tokio::{io::AsyncReadExt as _, process::Command};

use super::{PATIENCE, Process, client, coracle, share_compiled};

/// The identity of the process whose arguments name this directory of a node's.
fn process_of(dir: &Path) -> Option<u32> {
    let wanted = dir.to_str().unwrap();
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let words = fs::read(entry.path().join("cmdline")).ok()?;
        let names = words.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes());
        names.then_some(id)
    })
}

async fn kill(id: u32) {
    let done = Command::new("kill")
        .args(["-s", "KILL", &id.to_string()])
        .status()
        .await;
    assert!(done.unwrap().success());
}

/// Creates a pod that serves HTTP on 8080.
async fn create(pods: &Api<Pod>, name: &str, class: Option<&str>) {
    let pod = json!({
        "metadata": {"name": name},
        "spec": {"runtimeClassName": class, "containers": [{"name": "main", "image": "web"}]},
    });
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
}

/// Waits until its container is ready and has been started again so often.
async fn ready(pods: &Api<Pod>, name: &str, restarts: i32) -> Pod {
    let ready = |pod: Option<&Pod>| {
        let statuses = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        statuses.is_some_and(|all| all.iter().all(|one| one.ready && one.restart_count == restarts))
    };
    let wait = await_condition(pods.clone(), name, ready);
    tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap().unwrap()
}

fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().node_name.as_deref().unwrap()
}

/// What one pod gets from another one by HTTP.
async fn ask(pods: &Api<Pod>, from: &str, to: &Pod) -> String {
    let url = format!("http://{}:8080/", to.status.as_ref().unwrap().pod_ip.as_ref().unwrap());
    let command = ["wget", "-q", "-O", "-", &url];
    let mut program = pods.exec(from, command, &AttachParams::default()).await.unwrap();
    let mut said = String::new();
    program.stdout().unwrap().read_to_string(&mut said).await.unwrap();
    said
}

#[tokio::test]
async fn the_guests_of_a_class_have_a_process_of_their_own() {
    let data = tempfile::tempdir().unwrap();
    share_compiled(data.path());
    let dir = data.path().to_str().unwrap();
    let mut up = Process::start(&[
        "up",
        "--data-dir",
        dir,
        "--no-merge",
        "--ingress",
        "off",
        "--listen",
        "127.0.0.1:0",
        "--node-process",
        "guests",
    ]);
    assert_eq!(
        up.says("process").await,
        "coracle-guests for pods of the RuntimeClass guests"
    );
    let client = client(&data.path().join("kubeconfig")).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    create(&pods, "inside", Some("guests")).await;
    create(&pods, "outside", None).await;
    let (inside, outside) = (ready(&pods, "inside", 0).await, ready(&pods, "outside", 0).await);
    assert_eq!((node(&inside), node(&outside)), ("coracle-guests", "coracle-1"));
    assert!(ask(&pods, "outside", &inside).await.contains("inside"));
    assert!(ask(&pods, "inside", &outside).await.contains("outside"));

    // The one that ends takes nothing else with it, and comes back.
    let process = process_of(&data.path().join("processes/guests")).unwrap();
    assert_ne!(Some(process), up.child.id());
    kill(process).await;
    up.complains("is started again").await;
    create(&pods, "meanwhile", None).await;
    ready(&pods, "meanwhile", 0).await;
    let again = ready(&pods, "inside", 1).await;
    assert!(ask(&pods, "outside", &again).await.contains("inside"));

    // It ends with the one that has started it, which has no time to say so: both hold the standard error.
    up.child.kill().await.unwrap();
    let ended = async { while up.complained.next_line().await.unwrap().is_some() {} };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(process_of(&data.path().join("processes/guests")), None);
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let refused = coracle(&["up", "--ephemeral", "--node-process", "Guests"])
        .output()
        .await
        .unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("a name looks like untrusted"), "{said}");
}
