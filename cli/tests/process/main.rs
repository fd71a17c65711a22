//! The binary as a process: started, interrupted, killed, started again, refused.

// The allowances for tests cover functions marked as tests only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[cfg(unix)]
mod apart;
#[cfg(unix)]
mod certificates;
#[cfg(unix)]
mod fuzz;
#[cfg(unix)]
mod kills;
#[cfg(target_os = "linux")]
mod machines;
#[cfg(unix)]
mod nodes;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(unix)]
mod traffic;

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::await_condition,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
};

/// How long a state may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

fn coracle(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The binary at work, and what it says.
struct Process {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    complained: Lines<BufReader<ChildStderr>>,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        Self::of(coracle(args))
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        Self {
            said: BufReader::new(child.stdout.take().unwrap()).lines(),
            complained: BufReader::new(child.stderr.take().unwrap()).lines(),
            child,
        }
    }

    /// Waits for a line on standard output that begins like this; gives the rest of it.
    async fn says(&mut self, beginning: &str) -> String {
        let Some(line) = next(&mut self.said, |line| line.starts_with(beginning)).await else {
            let mut errors = Vec::new();
            while let Ok(Some(line)) = self.complained.next_line().await {
                errors.push(line);
            }
            panic!("it ended and did not say {beginning:?}: {errors:?}");
        };
        line[beginning.len()..].trim().to_owned()
    }

    /// Waits for a line on standard error that has this in it.
    async fn complains(&mut self, part: &str) -> String {
        let line = next(&mut self.complained, |line| line.contains(part)).await;
        line.unwrap_or_else(|| panic!("it ended and did not complain of {part:?}"))
    }

    /// Sends the signal and waits for the end.
    #[cfg(unix)]
    async fn end(&mut self, name: &str) -> ExitStatus {
        signal(&self.child, name).await;
        self.ended().await
    }

    async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it does not end").unwrap()
    }
}

/// Makes a data directory whose compiled guests are those of all tests: the toolbox takes its time.
#[cfg(unix)]
fn share_compiled(data: &Path) {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    std::fs::create_dir_all(&shared).unwrap();
    std::fs::create_dir_all(data).unwrap();
    std::os::unix::fs::symlink(shared, data.join("cache")).unwrap();
}

/// The next line of that kind; `None` if the lines end before.
async fn next(lines: &mut Lines<impl AsyncBufRead + Unpin>, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let find = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if wanted(&line) {
                return Some(line);
            }
        }
        None
    };
    tokio::time::timeout(PATIENCE, find).await.expect("no such line")
}

/// A client of whom that kubeconfig names.
async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

/// A cluster in a process of its own, on a directory that outlives it.
struct Up {
    process: Process,
    client: Client,
}

impl Up {
    async fn start(data: &Path) -> Self {
        let data_dir = data.to_str().unwrap();
        let audit = data.join("audit.jsonl");
        let mut args = vec!["up", "--data-dir", data_dir, "--listen", "127.0.0.1:0", "--no-merge"];
        args.extend(["--audit-log", audit.to_str().unwrap()]);
        let mut process = Process::start(&args);
        process.says("ready").await;
        let client = client(&data.join("kubeconfig")).await;
        Self { process, client }
    }

    fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn available(&self, name: &str) {
        let available = |deployment: Option<&Deployment>| {
            let status = deployment.and_then(|deployment| deployment.status.as_ref());
            status.is_some_and(|status| status.available_replicas == Some(2))
        };
        let wait = await_condition(self.all::<Deployment>(), name, available);
        tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap();
    }

    /// Waits until a pod is ready with its container started so many times before.
    async fn restarted(&self, name: &str, times: i32) -> Pod {
        let restarted = |pod: Option<&Pod>| {
            let statuses = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
            statuses.is_some_and(|statuses| statuses[0].ready && statuses[0].restart_count == times)
        };
        let wait = await_condition(self.all::<Pod>(), name, restarted);
        let pod = tokio::time::timeout(PATIENCE, wait).await;
        pod.unwrap_or_else(|_| panic!("{name} did not run again"))
            .unwrap()
            .unwrap()
    }
}

#[cfg(unix)]
async fn signal(process: &Child, name: &str) {
    let id = process.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-s", name, &id]).status().await.unwrap();
    assert!(sent.success());
}

#[cfg(unix)]
#[tokio::test]
async fn interrupted_or_killed_it_comes_back_as_it_was() {
    let data = tempfile::tempdir().unwrap();
    let mut up = Up::start(data.path()).await;
    let deployment = serde_json::from_value(json!({
        "metadata": {"name": "hello"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "hello"}},
            "template": {
                "metadata": {"labels": {"app": "hello"}},
                "spec": {"containers": [{"name": "hello", "image": "hello"}]},
            },
        },
    }));
    let create = PostParams::default();
    up.all::<Deployment>()
        .create(&create, &deployment.unwrap())
        .await
        .unwrap();
    up.available("hello").await;
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "kept"}, "data": {"a": "b"}})).unwrap();
    let map = up.all::<ConfigMap>().create(&create, &map).await.unwrap();
    let list = ListParams::default();
    let pods = up.all::<Pod>().list(&list).await.unwrap();
    assert_eq!(pods.items.len(), 2);

    for (round, ending) in ["INT", "KILL", "TERM", "KILL"].into_iter().enumerate() {
        let ended = up.process.end(ending).await;
        assert_eq!(ended.success(), ending != "KILL", "{ending}: {ended}");
        up = Up::start(data.path()).await;
        assert_eq!(up.all::<ConfigMap>().get("kept").await.unwrap(), map, "after {ending}");
        for pod in &pods {
            let again = up.restarted(&pod.name_any(), i32::try_from(round).unwrap() + 1).await;
            assert_eq!(again.uid(), pod.uid(), "after {ending}");
        }
        up.available("hello").await;
        assert_eq!(
            up.all::<Pod>().list(&list).await.unwrap().items.len(),
            2,
            "after {ending}"
        );
    }
}

#[tokio::test]
async fn a_directory_in_use_is_refused_and_its_cluster_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path()).await;
    let second = coracle(&[
        "up",
        "--data-dir",
        data.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--no-merge",
    ])
    .output()
    .await
    .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let message = String::from_utf8(second.stderr).unwrap();
    let id = up.process.child.id().unwrap();
    assert!(
        message.contains(&format!("in use by another coracle (process {id})")),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");
    up.all::<ConfigMap>().list(&ListParams::default()).await.unwrap();
    // That it was asked stands in its audit log.
    let log = std::fs::read_to_string(data.path().join("audit.jsonl")).unwrap();
    let wanted = [
        "/api/v1/namespaces/default/configmaps",
        "\"verb\":\"list\"",
        "\"127.0.0.1\"",
    ];
    let told = |line: &str| wanted.iter().all(|part| line.contains(part));
    assert!(log.lines().any(told), "{log}");
}

#[tokio::test]
async fn the_demo_proves_itself_and_ends() {
    let output = coracle(&["demo", "--exit", "--ephemeral", "--listen", "127.0.0.1:0", "--no-merge"])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}{errors}");
    assert_eq!(errors, "", "nothing to complain about");
    for part in ["x-coracle-sidecar:", "Ahoy from web-", "kubectl get pods -n demo"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn an_image_is_loaded_listed_run_and_removed_and_other_files_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    let script = data.path().join("script.wasm");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let refused = coracle(&["image", "load", "--data-dir", dir, script.to_str().unwrap(), "mine"])
        .output()
        .await
        .unwrap();
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(message.contains("is not WebAssembly"), "{message}");

    let up = Up::start(data.path()).await;
    let good = data.path().join("good.wasm");
    let smallest = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap();
    std::fs::write(&good, smallest).unwrap();
    let loaded = coracle(&["image", "load", "--data-dir", dir, good.to_str().unwrap(), "mine:v1"])
        .output()
        .await
        .unwrap();
    assert!(loaded.status.success(), "{loaded:?}");
    let listed = coracle(&["image", "ls", "--data-dir", dir]).output().await.unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("mine:v1") && listed.contains("hello"), "{listed}");

    let pod = json!({
        "metadata": {"name": "mine"},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "mine:v1"}]},
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    up.all::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
    let succeeded = |pod: Option<&Pod>| {
        let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        phase == Some("Succeeded")
    };
    let wait = await_condition(up.all::<Pod>(), "mine", succeeded);
    tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap();

    // The pod is over and still there: its image stays until it is gone.
    let pruned = coracle(&["image", "prune", "--all", "--data-dir", dir])
        .output()
        .await
        .unwrap();
    assert!(pruned.status.success(), "{pruned:?}");
    let removed = coracle(&["image", "rm", "--data-dir", dir, "mine:v1"])
        .output()
        .await
        .unwrap();
    assert!(removed.status.success(), "{removed:?}");
    let again = coracle(&["image", "rm", "--data-dir", dir, "mine:v1"])
        .output()
        .await
        .unwrap();
    let message = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && message.contains("mine:v1"), "{message}");
}

#[tokio::test]
async fn a_dockerfile_makes_an_image_or_says_which_line_cannot_be_followed() {
    let (data, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, path) = (data.path().to_str().unwrap(), project.path().to_str().unwrap());
    let smallest = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap();
    std::fs::write(project.path().join("app.wasm"), smallest).unwrap();
    let file = project.path().join("Dockerfile");
    let text =
        "FROM scratch\nENV MODE=test\nWORKDIR /srv\nCOPY app.wasm /\nCOPY . ./all/\nENTRYPOINT [\"/app.wasm\"]\n";
    std::fs::write(&file, text).unwrap();
    let build = async || {
        let build = ["build", path, "--tag", "site:v1", "--data-dir", dir];
        coracle(&build).output().await.unwrap()
    };
    let built = build().await;
    assert!(built.status.success(), "{built:?}");
    let inspected = coracle(&["image", "inspect", "--data-dir", dir, "site:v1"])
        .output()
        .await
        .unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(shown["config"]["Env"], json!(["MODE=test"]));
    let files = Path::new(shown["files"].as_str().unwrap());
    assert!(files.join("app.wasm").exists() && files.join("srv/all/Dockerfile").exists());

    std::fs::write(&file, "FROM scratch\nCOPY app.wasm /\nRUN make\n").unwrap();
    let refused = build().await;
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && message.contains("line 3: RUN"),
        "{message}"
    );
}

/// Runs the compiler as the node does.
async fn compile(module: &[u8], memory_bytes: u64, cpu_seconds: u64) -> std::process::Output {
    let (memory, seconds) = (memory_bytes.to_string(), cpu_seconds.to_string());
    let mut child = coracle(&["compile-module", "time", &memory, &seconds])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that gives up reads no further.
    let _ = stdin.write_all(module).await;
    drop(stdin);
    tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn the_compiler_is_a_process_with_limits() {
    let smallest = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap();
    let good = compile(&smallest, 6 << 30, 60).await;
    assert!(
        good.status.success() && good.stdout.starts_with(b"\x7fELF"),
        "{:?}",
        good.status
    );
    let broken = compile(&[&smallest[..], b"\x01\xff"].concat(), 6 << 30, 60).await;
    assert_eq!(broken.status.code(), Some(3), "{broken:?}");
    // Elsewhere the system limits no memory.
    if cfg!(unix) {
        let store = coracle_images::ImageStore::open(tempfile::tempdir().unwrap().path()).unwrap();
        let large = store.resolve("toolbox").unwrap().wasm().unwrap();
        let hungry = compile(&large, 64 << 20, 60).await;
        assert!(
            !hungry.status.success() && hungry.stdout.is_empty(),
            "{:?}",
            hungry.status
        );
    }
}
