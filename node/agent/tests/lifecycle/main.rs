//! An agent with the real runtime, network and built-in images, against an API in memory.

// The allowances for tests cover functions marked as tests only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod api;
mod conduct;
mod rows;

use api::Api;
use coracle_agent::{Agent, AgentHandle, BackoffLimits, Config, LogError, LogOptions};
use coracle_images::{ImageConfig, ImageStore};
use coracle_net::{Fabric, FabricConfig};
use coracle_runtime::{Runtime, RuntimeConfig};
use futures::StreamExt;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PODS: &str = "/api/v1/namespaces/ns/pods";

/// Modules are compiled once for all tests, in a cache that the next run finds again.
fn runtime() -> Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let cache_dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache");
    RUNTIME
        .get_or_init(|| {
            Runtime::new(RuntimeConfig {
                worker_threads: 2,
                ..RuntimeConfig::new(cache_dir)
            })
            .unwrap()
        })
        .clone()
}

struct Node {
    handle: AgentHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Node {
    fn start(api: &Api, dir: &tempfile::TempDir) -> Self {
        let fabric = Fabric::new(FabricConfig::default());
        let images = Arc::new(ImageStore::open(dir.path().join("images")).unwrap());
        let mut config = Config::new("n1", api.client(), runtime(), fabric, images, dir.path());
        let quick = BackoffLimits {
            initial: Duration::from_millis(50),
            max: Duration::from_millis(200),
            ..BackoffLimits::default()
        };
        (config.restart_backoff, config.create_backoff) = (quick, quick);
        let agent = Agent::build(config).unwrap();
        let (handle, stop) = (agent.handle(), CancellationToken::new());
        let task = tokio::spawn(agent.run(stop.clone()));
        Self { handle, stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Puts the guest `probe` into the node's store, which does what its arguments say.
    fn load_probe(&self, dir: &tempfile::TempDir) {
        let store = ImageStore::open(dir.path().join("images")).unwrap();
        let config = ImageConfig {
            entrypoint: vec!["probe".to_owned()],
            ..ImageConfig::default()
        };
        store
            .load("probe", coracle_fixtures::component("probe").unwrap(), &config)
            .unwrap();
    }

    async fn logs(&self, pod: &str, options: LogOptions) -> Result<String, LogError> {
        self.logs_of(pod, "c", options).await
    }

    async fn logs_of(&self, pod: &str, container: &str, options: LogOptions) -> Result<String, LogError> {
        let mut stream = self.handle.logs("ns", pod, "", container, &options).await?;
        let mut all = Vec::new();
        while let Some(bytes) = stream.next().await {
            all.extend_from_slice(&bytes.unwrap());
        }
        Ok(String::from_utf8(all).unwrap())
    }
}

fn create(api: &Api, name: &str, spec: Value) {
    let mut spec = spec;
    spec["nodeName"] = "n1".into();
    api.put(
        PODS,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1},
            "spec": spec, "status": {"phase": "Pending", "qosClass": "BestEffort"}
        }),
    );
}

async fn pod_until(api: &Api, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    api.until(what, |api| api.get(PODS, name).filter(|pod| holds(pod)))
        .await
}

fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_runs_is_probed_answers_and_ends_gracefully() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    create(
        &api,
        "web",
        json!({"containers": [{
            "name": "c", "image": "hello", "env": [{"name": "GREETING", "value": "Ahoy"}],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
            "livenessProbe": {"tcpSocket": {"port": 8080}},
        }]}),
    );
    let pod = pod_until(&api, "web", "web to be ready", is_ready).await;
    assert_eq!(phase(&pod), "Running");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    assert!(container(&pod)["imageID"].as_str().unwrap().starts_with("sha256:"));
    assert!(
        container(&pod)["containerID"]
            .as_str()
            .unwrap()
            .starts_with("wasmtime://")
    );
    assert!(pod["status"]["podIP"].as_str().unwrap().starts_with("10.244."));
    api.until("the events of a start", |api| {
        let events = api.events();
        ["Pulled", "Created", "Started"]
            .iter()
            .all(|what| events.iter().any(|(_, text)| text.starts_with(what)))
            .then_some(())
    })
    .await;

    let mut stream = node.handle.dial("ns", "web", "uid-web", 8080).await.unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("Ahoy from web"), "{answer}");
    assert!(
        node.logs("web", LogOptions::default())
            .await
            .unwrap()
            .contains("listening on")
    );
    assert_eq!(node.handle.usage().len(), 1);

    let mut pod = api.get(PODS, "web").unwrap();
    pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
    pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    api.put(PODS, pod);
    api.until("web to be gone", |api| api.get(PODS, "web").is_none().then_some(()))
        .await;
    let deletion = &api.deletions()[0];
    assert_eq!(
        (&deletion["gracePeriodSeconds"], &deletion["preconditions"]["uid"]),
        (&json!(0), &json!("uid-web"))
    );
    let last = api.patches().pop().unwrap();
    assert_eq!(
        last["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        143
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_end_with_their_exit_code() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let job = |code: &str| json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "worker", "args": ["1000", code]}]});
    create(&api, "good", job("0"));
    create(&api, "bad", job("7"));
    let good = pod_until(&api, "good", "good to succeed", |pod| phase(pod) == "Succeeded").await;
    assert_eq!(container(&good)["state"]["terminated"]["reason"], "Completed");
    let bad = pod_until(&api, "bad", "bad to fail", |pod| phase(pod) == "Failed").await;
    assert_eq!(container(&bad)["state"]["terminated"]["exitCode"], 7);
    assert_eq!(container(&bad)["restartCount"], 0);
    assert!(
        node.logs(
            "good",
            LogOptions {
                follow: true,
                ..LogOptions::default()
            }
        )
        .await
        .unwrap()
        .contains("168 primes")
    );
    assert!(matches!(
        node.logs(
            "bad",
            LogOptions {
                previous: true,
                ..LogOptions::default()
            }
        )
        .await,
        Err(LogError::NoPrevious { .. })
    ));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashing_container_backs_off_and_counts() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    create(
        &api,
        "loop",
        json!({"containers": [{"name": "c", "image": "worker", "args": ["10", "3"]}]}),
    );
    let pod = pod_until(&api, "loop", "a third restart", |pod| {
        container(pod)["restartCount"].as_u64() >= Some(3)
    })
    .await;
    assert_eq!(phase(&pod), "Running");
    let pod = pod_until(&api, "loop", "a back-off", |pod| {
        container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    })
    .await;
    assert_eq!(container(&pod)["lastState"]["terminated"]["exitCode"], 3);
    let counts: Vec<u64> = api
        .patches()
        .iter()
        .filter_map(|patch| patch["status"]["containerStatuses"][0]["restartCount"].as_u64())
        .collect();
    assert!(counts.is_sorted(), "{counts:?}");
    assert!(
        node.logs(
            "loop",
            LogOptions {
                previous: true,
                ..LogOptions::default()
            }
        )
        .await
        .unwrap()
        .contains("exiting with 3")
    );
    api.until("an event", |api| {
        api.events()
            .iter()
            .any(|(_, text)| text.starts_with("BackOff: Back-off restarting"))
            .then_some(())
    })
    .await;
    // Gone without a grace period.
    api.remove(PODS, "loop");
    let forgotten = async {
        while node.handle.pods() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), forgotten)
        .await
        .expect("the agent forgets the pod");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_said_and_waited_for() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    create(
        &api,
        "image",
        json!({"containers": [{"name": "c", "image": "nothing:v9"}]}),
    );
    let from_map = json!([{"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "greeting"}}}]);
    create(
        &api,
        "config",
        json!({"containers": [{"name": "c", "image": "hello", "env": from_map}]}),
    );
    create(
        &api,
        "volume",
        json!({"volumes": [{"name": "v", "configMap": {"name": "m"}}],
               "containers": [{"name": "c", "image": "hello", "volumeMounts": [{"name": "v", "mountPath": "/etc/m"}]}]}),
    );
    let reason = |wanted: &'static str| move |pod: &Value| container(pod)["state"]["waiting"]["reason"] == wanted;
    pod_until(&api, "image", "a failed pull", reason("ErrImagePull")).await;
    let pod = pod_until(&api, "image", "a pull's back-off", reason("ImagePullBackOff")).await;
    assert_eq!(phase(&pod), "Pending");
    assert!(matches!(
        node.logs("image", LogOptions::default()).await,
        Err(LogError::Waiting { .. })
    ));
    let pod = pod_until(
        &api,
        "config",
        "a failed configuration",
        reason("CreateContainerConfigError"),
    )
    .await;
    assert_eq!(
        container(&pod)["state"]["waiting"]["message"],
        "configmap \"m\" not found"
    );
    api.until("the events", |api| {
        let events = api.events();
        let said = |pod: &str, text: &str| events.iter().any(|(name, found)| name == pod && found.contains(text));
        (said("image", "coracle image load nothing:v9")
            && said("config", "configmap \"m\" not found")
            && said("volume", "FailedMount: MountVolume.SetUp failed"))
        .then_some(())
    })
    .await;
    api.put(
        "/api/v1/namespaces/ns/configmaps",
        json!({"metadata": {"name": "m", "namespace": "ns"}, "data": {"greeting": "Hi"}}),
    );
    for pod in ["config", "volume"] {
        pod_until(&api, pod, "the pod to run", is_ready).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_run_again_in_a_new_process() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    create(&api, "stays", json!({"containers": [{"name": "c", "image": "hello"}]}));
    create(
        &api,
        "done",
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "worker", "args": ["10"]}]}),
    );
    let before = pod_until(&api, "stays", "the pod to run", is_ready).await;
    let follow = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut log = node.handle.logs("ns", "stays", "", "c", &follow).await.unwrap();
    log.next().await.unwrap().unwrap();
    pod_until(&api, "done", "the job", |pod| phase(pod) == "Succeeded").await;
    node.stop().await;
    let patches = api.patches().len();

    let node = Node::start(&api, &dir);
    let after = pod_until(&api, "stays", "a restart", |pod| {
        is_ready(pod) && container(pod)["restartCount"] == 1 && container(pod)["state"]["running"].is_object()
    })
    .await;
    assert_eq!(after["status"]["podIP"], before["status"]["podIP"]);
    assert_eq!(after["status"]["startTime"], before["status"]["startTime"]);
    assert_eq!(container(&after)["lastState"]["terminated"]["exitCode"], 255);
    let later = &api.patches()[patches..];
    assert!(
        later.iter().all(|patch| patch["metadata"]["uid"] != "uid-done"),
        "{later:#?}"
    );
    assert!(
        node.logs(
            "stays",
            LogOptions {
                previous: true,
                ..LogOptions::default()
            }
        )
        .await
        .unwrap()
        .contains("listening")
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_bound_to_its_pod_and_renewed_before_its_end() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, &dir);
    let source = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3607, "audience": "vault"}});
    create(
        &api,
        "robot",
        json!({"serviceAccountName": "robot", "volumes": [{"name": "v", "projected": {"sources": [source]}}],
               "containers": [{"name": "c", "image": "hello", "volumeMounts": [{"name": "v", "mountPath": "/access"}]}]}),
    );
    pod_until(&api, "robot", "the pod to run", is_ready).await;
    // The third is asked for when the second has been written.
    api.until("two renewals", |api| (api.tokens().len() >= 3).then_some(()))
        .await;
    let asked = &api.tokens()[0];
    assert_eq!(
        asked["boundObjectRef"],
        json!({"apiVersion": "v1", "kind": "Pod", "name": "robot", "uid": "uid-robot"})
    );
    assert_eq!(
        (&asked["expirationSeconds"], &asked["audiences"]),
        (&json!(3607), &json!(["vault"]))
    );
    let token = std::fs::read_to_string(dir.path().join("pods/n1/uid-robot/volumes/v/token")).unwrap();
    assert!(token.starts_with("token ") && token != "token 1", "{token}");
    node.stop().await;
}
