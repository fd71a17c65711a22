//! A cluster under test, and what its users do to it.

use std::{env, path::PathBuf, process::Stdio, time::Duration};

use coracle::{
    cluster::{Cluster, ClusterConfig},
    data_dir::DataDir,
    manifest,
};
use coracle_images::{ImageConfig, ImageStore};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DynamicObject, ListParams, LogParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{Condition, await_condition},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};

/// How long a state may take on a loaded machine before the test says what it found instead.
const PATIENCE: Duration = Duration::from_secs(90);

/// A cluster, and a client of its administrator.
pub struct World {
    pub cluster: Cluster,
    client: Client,
    /// Home directory of the commands that the test runs.
    home: tempfile::TempDir,
}

impl World {
    /// A fresh cluster of one node.
    pub async fn start() -> Self {
        Self::start_on(DataDir::ephemeral().unwrap()).await
    }

    /// A cluster on a directory that may have been used before.
    pub async fn start_on(data: DataDir) -> Self {
        Self::start_with(ClusterConfig::new(data)).await
    }

    pub async fn start_with(mut config: ClusterConfig) -> Self {
        // Modules are compiled once for all tests, in a cache that the next run finds again.
        config.cache = Some(cache());
        let cluster = Cluster::start(config).await.unwrap();
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig_path()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Self {
            client: Client::try_from(config).unwrap(),
            cluster,
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// A client of the administrator, over TLS.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The kind's objects in the namespace `default`.
    pub fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client(), "default")
    }

    /// Creates or merges the objects of a manifest.
    pub async fn apply(&self, text: &str) {
        let objects: Vec<DynamicObject> = manifest::parse(text).unwrap();
        manifest::apply(&self.client, &objects).await.unwrap();
    }

    /// A pod of one container named `main`; `spec` are further lines of its container, in YAML's flow style.
    pub async fn run(&self, name: &str, image: &str, args: &[&str], container: &str) {
        let args = serde_json::to_string(args).unwrap();
        let more = if container.is_empty() {
            String::new()
        } else {
            format!(", {container}")
        };
        self.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  restartPolicy: Never\n  containers:\n  - {{name: main, image: {image}, args: {args}{more}}}\n"
        ))
        .await;
    }

    /// Runs a pod to its end and returns what it wrote.
    pub async fn output(&self, name: &str, image: &str, args: &[&str]) -> String {
        self.run(name, image, args, "").await;
        self.pod(name, ended).await;
        self.log(name, "main").await
    }

    /// Waits until a pod of the namespace `default` is as wanted.
    pub async fn pod(&self, name: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        self.until(&self.all(), name, wanted).await
    }

    /// Waits until an object is there and as wanted; fails with what it is instead, and with the events of the namespace.
    pub async fn until<K>(&self, api: &Api<K>, name: &str, wanted: impl Fn(&K) -> bool) -> K
    where
        K: kube::Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + 'static,
    {
        let found = self.meets(api, name, |object: Option<&K>| object.is_some_and(&wanted));
        found.await.unwrap()
    }

    /// Waits until an object is gone.
    pub async fn gone<K>(&self, api: &Api<K>, name: &str)
    where
        K: kube::Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + 'static,
    {
        self.meets(api, name, |object: Option<&K>| object.is_none()).await;
    }

    async fn meets<K>(&self, api: &Api<K>, name: &str, condition: impl Condition<K>) -> Option<K>
    where
        K: kube::Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + 'static,
    {
        match tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition)).await {
            Ok(found) => found.unwrap(),
            Err(_) => {
                let object = api.get_opt(name).await.unwrap();
                let object = serde_json::to_string_pretty(&object).unwrap();
                panic!(
                    "{name} is not as wanted, but:\n{object}\nevents: {:#?}",
                    self.events().await
                );
            }
        }
    }

    /// Every event, as `kind/name reason: message`.
    pub async fn events(&self) -> Vec<String> {
        let events: Api<Event> = Api::all(self.client());
        let events = events.list(&ListParams::default()).await.unwrap();
        let line = |event: Event| {
            format!(
                "{}/{} {}: {}",
                event.involved_object.kind.unwrap_or_default(),
                event.involved_object.name.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            )
        };
        events.into_iter().map(line).collect()
    }

    /// Waits for an event whose line contains the words.
    pub async fn event(&self, words: &str) -> String {
        let api: Api<Event> = Api::all(self.client());
        let mut seen = Vec::new();
        let wait = async {
            use futures::TryStreamExt;
            let mut events = Box::pin(kube::runtime::watcher(api, kube::runtime::watcher::Config::default()));
            while let Some(next) = events.try_next().await.unwrap() {
                use kube::runtime::watcher::Event::{Apply, InitApply};
                let (Apply(event) | InitApply(event)) = next else {
                    continue;
                };
                let line = format!(
                    "{}: {}",
                    event.reason.unwrap_or_default(),
                    event.message.unwrap_or_default()
                );
                if line.contains(words) {
                    return line;
                }
                seen.push(line);
            }
            unreachable!("a watcher does not end")
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(line) => line,
            Err(_) => panic!("no event says {words:?}, only: {seen:#?}"),
        }
    }

    /// What a container has written so far.
    pub async fn log(&self, pod: &str, container: &str) -> String {
        let options = LogParams {
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        self.all::<Pod>().logs(pod, &options).await.unwrap()
    }

    /// Follows a container's log until a line contains the words, and returns what was written until then.
    pub async fn says(&self, pod: &str, container: &str, words: &str) -> String {
        let has = |said: &str| said.lines().next_back().is_some_and(|line| line.contains(words));
        self.says_until(pod, container, &format!("{words:?}"), has).await
    }

    /// Follows a container's log until what it has written satisfies `enough`, which is asked after each line.
    pub async fn says_until(&self, pod: &str, container: &str, what: &str, enough: impl Fn(&str) -> bool) -> String {
        use futures::{AsyncBufReadExt, TryStreamExt};
        self.pod(pod, |pod| started(pod, container)).await;
        let options = LogParams {
            container: Some(container.to_owned()),
            follow: true,
            ..LogParams::default()
        };
        let mut lines = self.all::<Pod>().log_stream(pod, &options).await.unwrap().lines();
        let mut said = String::new();
        let wait = async {
            while let Some(line) = lines.try_next().await.unwrap() {
                said.push_str(&line);
                said.push('\n');
                if enough(&said) {
                    return;
                }
            }
            panic!("the log ended without {what}:\n{said}");
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("{pod} did not say {what}:\n{said}");
        }
        said
    }

    /// Puts an image into the node's local store.
    pub fn load(&self, name: &str, wasm: &[u8]) {
        let store = ImageStore::open(self.cluster.data().join("images")).unwrap();
        let config = ImageConfig {
            entrypoint: vec![name.to_owned()],
            ..ImageConfig::default()
        };
        store.load(name, wasm, &config).unwrap();
    }

    /// Puts the guest `probe` into the store, which does what its arguments say.
    pub fn load_probe(&self) {
        self.load("probe", coracle_fixtures::component("probe").unwrap());
    }

    /// One HTTP request over a port that is forwarded into a pod: the whole answer.
    pub async fn http(&self, pod: &str, port: u16) -> String {
        let mut forwarded = self.all::<Pod>().portforward(pod, &[port]).await.unwrap();
        let stream = forwarded.take_stream(port).unwrap();
        http(stream).await
    }

    /// kubectl with the cluster's kubeconfig: standard output, when it succeeds.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        let (good, out, err) = self.try_kubectl(args, "").await;
        assert!(good, "kubectl {args:?} failed:\n{out}{err}");
        out
    }

    /// kubectl with text on its standard input: whether it succeeded, standard output, standard error.
    pub async fn try_kubectl(&self, args: &[&str], input: &str) -> (bool, String, String) {
        let mut child = self.kubectl_command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = output
            .unwrap_or_else(|_| panic!("kubectl {args:?} did not end"))
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// A kubectl process that ends with the test.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(args)
            .env("KUBECONFIG", self.cluster.kubeconfig_path())
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// Where compiled guests are kept: beside the program, in the directory that cargo gives to tests.
fn cache() -> PathBuf {
    let program = env::current_exe().unwrap();
    let profile = program.ancestors().find(|dir| dir.join("deps").is_dir()).unwrap();
    profile.with_file_name("tmp").join("cache")
}

/// One HTTP request over a connection: the whole answer.
pub async fn http(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> String {
    let exchange = async {
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("no answer")
}

pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub fn ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

pub fn pod_ip(pod: &Pod) -> String {
    pod.status.as_ref().unwrap().pod_ip.clone().unwrap_or_default()
}

fn started(pod: &Pod, container: &str) -> bool {
    let statuses = pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    });
    statuses
        .filter(|status| status.name == container)
        .filter_map(|status| status.state.as_ref())
        .any(|state| state.running.is_some() || state.terminated.is_some())
}

/// The status of the container `main`.
pub fn main_status(pod: &Pod) -> Option<&k8s_openapi::api::core::v1::ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == "main")
}

/// Why the container `main` waits, with the message.
pub fn waits(pod: &Pod) -> Option<(String, String)> {
    let waiting = main_status(pod)?.state.as_ref()?.waiting.clone()?;
    Some((waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default()))
}

/// How the container `main` ended: reason and exit code.
pub fn end(pod: &Pod) -> Option<(String, i32)> {
    let ended = main_status(pod)?.state.as_ref()?.terminated.clone()?;
    Some((ended.reason.unwrap_or_default(), ended.exit_code))
}

/// The only pod with a label.
pub async fn pod_of(world: &World, label: &str) -> Pod {
    let pods = world
        .all::<Pod>()
        .list(&ListParams::default().labels(label))
        .await
        .unwrap();
    assert_eq!(
        pods.items.len(),
        1,
        "{:?}",
        pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    );
    pods.items.into_iter().next().unwrap()
}
