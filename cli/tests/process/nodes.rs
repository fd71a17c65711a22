//! A cluster and a node of it as two processes on one machine: joining, what the API server asks of the node, pod traffic,
//! and what a user is told who mistypes.

use std::{path::Path, process::Output};

use futures::AsyncBufReadExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{AttachParams, LogParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{PATIENCE, Process, client, coracle, share_compiled};

/// A cluster that others can join, with nobody else in it.
pub(super) struct Joinable {
    pub(super) process: Process,
    pub(super) client: Client,
    pub(super) server: String,
    join: Vec<String>,
}

impl Joinable {
    async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    /// The same with further options.
    pub(super) async fn start_with(data: &Path, more: &[&str]) -> Self {
        share_compiled(data);
        let dir = data.to_str().unwrap();
        let (process, server) = Self::up(data, "127.0.0.1:0", more).await;
        let create = [
            "token",
            "create",
            "--data-dir",
            dir,
            "--print-join-command",
            "--server",
            &server,
        ];
        let command = printed(coracle(&create).output().await.unwrap());
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        assert_eq!(words[..3], ["coracle", "node", "--join"], "{command}");
        Self {
            client: client(&data.join("kubeconfig")).await,
            process,
            join: words[1..].to_vec(),
            server,
        }
    }

    /// Starts the cluster of a directory: the process and its URL.
    async fn up(data: &Path, listen: &str, more: &[&str]) -> (Process, String) {
        let dir = data.to_str().unwrap();
        let mut args = vec!["up", "--data-dir", dir, "--no-merge", "--ingress", "off"];
        args.extend(["--listen", listen, "--node-listen", "127.0.0.1:0"]);
        args.extend(more);
        let mut process = Process::start(&args);
        process.says("ready").await;
        let server = process.says("API").await;
        (process, server)
    }

    /// Stops it and starts it again at the same address.
    pub(super) async fn restart(&mut self, data: &Path, more: &[&str]) {
        assert!(self.process.end("TERM").await.success());
        let listen = self.server.trim_start_matches("https://").to_owned();
        (self.process, _) = Self::up(data, &listen, more).await;
    }

    pub(super) fn join(&self) -> Vec<&str> {
        self.join.iter().map(String::as_str).collect()
    }

    /// The value of an option of the join command.
    fn given(&self, option: &str) -> &str {
        let at = self.join.iter().position(|word| word == option).unwrap();
        &self.join[at + 1]
    }

    pub(super) async fn ready(&self, node: &str) {
        let ready = |node: Option<&Node>| {
            let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
        };
        let wait = await_condition(Api::all(self.client.clone()), node, ready);
        tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap();
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Runs a pod on a node and waits until it is ready.
    pub(super) async fn run(&self, name: &str, image: &str, node: &str) -> Pod {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": image}]},
        }));
        self.pods().create(&PostParams::default(), &pod.unwrap()).await.unwrap();
        let ready = |pod: Option<&Pod>| {
            let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
        };
        let wait = await_condition(self.pods(), name, ready);
        tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap().unwrap()
    }

    /// What a program in a pod writes.
    pub(super) async fn exec(&self, pod: &str, command: &[&str]) -> String {
        let run = async {
            let mut program = self
                .pods()
                .exec(pod, command.to_vec(), &AttachParams::default())
                .await
                .unwrap();
            let (mut out, mut err) = (String::new(), String::new());
            program.stdout().unwrap().read_to_string(&mut out).await.unwrap();
            program.stderr().unwrap().read_to_string(&mut err).await.unwrap();
            let status = program.take_status().unwrap().await;
            assert!(
                status.is_some_and(|status| status.status.as_deref() == Some("Success")),
                "{command:?}: {out}{err}"
            );
            out
        };
        tokio::time::timeout(PATIENCE, run).await.unwrap()
    }
}

fn printed(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub(super) fn ip(pod: &Pod) -> String {
    pod.status.as_ref().unwrap().pod_ip.clone().unwrap()
}

#[tokio::test]
async fn a_node_joins_serves_and_comes_back() {
    let (up, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cluster = Joinable::start(up.path()).await;
    share_compiled(work.path());
    let work_dir = work.path().to_str().unwrap();
    let more = [
        "--data-dir",
        work_dir,
        "--node-name",
        "worker",
        "--listen",
        "127.0.0.1:0",
    ];
    let mut args = cluster.join();
    args.extend(more);
    let mut worker = Process::start(&args);
    worker.says("joined").await;
    worker.says("ready").await;
    cluster.ready("worker").await;

    // What the API server asks of the node.
    let there = cluster.run("there", "hello", "worker").await;
    let here = cluster.run("here", "hello", "coracle-1").await;
    let log = cluster.pods().logs("there", &LogParams::default()).await.unwrap();
    assert!(log.contains("hello: listening on"), "{log}");
    assert_eq!(cluster.exec("there", &["echo", "from", "there"]).await, "from there\n");
    let forwarded = async {
        let mut forward = cluster.pods().portforward("there", &[8080]).await.unwrap();
        let mut stream = forward.take_stream(8080).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let forwarded = tokio::time::timeout(PATIENCE, forwarded).await.unwrap();
    assert!(forwarded.contains("Hello from there"), "{forwarded}");
    let summary = http::Request::get("/api/v1/nodes/worker/proxy/stats/summary")
        .body(Vec::new())
        .unwrap();
    let summary: serde_json::Value = cluster.client.request(summary).await.unwrap();
    assert_eq!(summary["node"]["nodeName"], "worker");

    // Pods reach each other by address, by service and by name, both ways, and the API.
    let service = serde_json::from_value(json!({
        "metadata": {"name": "there"},
        "spec": {"selector": {"app": "there"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }));
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(cluster.client.clone(), "default");
    services
        .create(&PostParams::default(), &service.unwrap())
        .await
        .unwrap();
    for (from, url, answer) in [
        ("here", format!("http://{}:8080/", ip(&there)), "Hello from there"),
        ("there", format!("http://{}:8080/", ip(&here)), "Hello from here"),
    ] {
        let got = cluster.exec(from, &["wget", "-qO-", &url]).await;
        assert!(got.contains(answer), "{from}: {got}");
    }
    let endpoints: Api<k8s_openapi::api::core::v1::Endpoints> = Api::namespaced(cluster.client.clone(), "default");
    let known = await_condition(
        endpoints,
        "there",
        |endpoints: Option<&k8s_openapi::api::core::v1::Endpoints>| {
            endpoints.is_some_and(|endpoints| endpoints.subsets.as_ref().is_some_and(|subsets| !subsets.is_empty()))
        },
    );
    tokio::time::timeout(PATIENCE, known).await.unwrap().unwrap();
    for from in ["here", "there"] {
        // The names reach each node by a watch of its own.
        let script = "until wget -qO- http://there.default.svc/; do sleep 0.1; done";
        let got = cluster.exec(from, &["sh", "-c", script]).await;
        assert!(got.contains("Hello from there"), "{from}: {got}");
    }
    let version = cluster
        .exec("there", &["wget", "-qO-", "https://kubernetes.default.svc/version"])
        .await;
    assert!(version.contains("gitVersion"), "{version}");

    // It comes back without a token, as the same node with the same pods.
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let pods = cluster.pods();
    let lines = pods.log_stream("there", &follow);
    let mut lines = lines.await.unwrap().lines();
    assert!(worker.end("TERM").await.success());
    while let Ok(Some(_)) = futures::TryStreamExt::try_next(&mut lines).await {}
    let mut args = vec!["node"];
    args.extend(more);
    let mut worker = Process::start(&args);
    worker.says("ready").await;
    let again = |pod: Option<&Pod>| {
        let statuses = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        statuses.is_some_and(|all| all[0].ready && all[0].restart_count == 1)
    };
    let wait = await_condition(cluster.pods(), "there", again);
    let back = tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap().unwrap();
    assert_eq!(back.metadata.uid, there.metadata.uid);
    let got = cluster
        .exec("here", &["wget", "-qO-", &format!("http://{}:8080/", ip(&back))])
        .await;
    assert!(got.contains("Hello from there"), "{got}");

    // Somewhere else it is not let in by accident, and after a reset it is no node.
    assert!(worker.end("INT").await.success());
    let elsewhere = refused(&[
        "node",
        "--data-dir",
        work_dir,
        "--join",
        "https://127.0.0.1:1",
        "--token",
        "abcdef.0123456789abcdef",
    ])
    .await;
    assert!(
        elsewhere.contains(&format!("is a node of {}", cluster.server)),
        "{elsewhere}"
    );
    printed(
        coracle(&["node", "reset", "--data-dir", work_dir])
            .output()
            .await
            .unwrap(),
    );
    let none = refused(&["node", "--data-dir", work_dir]).await;
    assert!(none.contains("coracle token create --print-join-command"), "{none}");
}

/// What a command says that fails.
async fn refused(args: &[&str]) -> String {
    let output = tokio::time::timeout(PATIENCE, coracle(args).output())
        .await
        .unwrap()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    message
}

#[tokio::test]
async fn who_mistypes_is_told_what_to_do() {
    let (up, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cluster = Joinable::start(up.path()).await;
    let (token, pin) = (cluster.given("--token"), cluster.given("--ca-hash"));
    let (id, _) = token.split_once('.').unwrap();
    let wrong_secret = format!("{id}.0000000000000000");
    let wrong_pin = format!("sha256:{}", "0".repeat(64));
    let work_dir = work.path().to_str().unwrap();
    let join = async |server: &str, more: &[&str]| {
        let mut args = vec![
            "node",
            "--data-dir",
            work_dir,
            "--node-name",
            "worker",
            "--join",
            server,
        ];
        args.extend(more);
        refused(&args).await
    };
    let server = cluster.server.as_str();
    for (more, said) in [
        (
            vec!["--token", "nonsense", "--ca-hash", pin],
            "looks like abcdef.0123456789abcdef",
        ),
        (
            vec!["--token", "zzzzzz.0123456789abcdef", "--ca-hash", pin],
            "knows no token zzzzzz",
        ),
        (
            vec!["--token", &wrong_secret, "--ca-hash", pin],
            "another secret after the dot",
        ),
        (vec!["--token", token, "--ca-hash", &wrong_pin], pin),
        (vec!["--token", token], "--unsafe-skip-ca-verification"),
    ] {
        let message = join(server, &more).await;
        assert!(message.contains(said), "{more:?}: {message}");
    }
    let away = join("https://127.0.0.1:1", &["--token", token, "--ca-hash", pin]).await;
    assert!(away.contains("cannot be reached: does the cluster run"), "{away}");
    let no_url = join("127.0.0.1:6443", &["--token", token, "--ca-hash", pin]).await;
    assert!(no_url.contains("is no URL such as https://"), "{no_url}");

    // A token that was removed is none, and nobody is told to join by an address that only this machine has.
    let dir = up.path().to_str().unwrap();
    let listed = printed(coracle(&["token", "ls", "--data-dir", dir]).output().await.unwrap());
    assert!(listed.contains(id) && !listed.contains(token), "{listed}");
    printed(coracle(&["token", "rm", "--data-dir", dir, id]).output().await.unwrap());
    let removed = join(server, &["--token", token, "--ca-hash", pin]).await;
    assert!(
        removed.contains("make another with `coracle token create`"),
        "{removed}"
    );
    let loopback = refused(&["token", "create", "--data-dir", dir]).await;
    assert!(loopback.contains("--listen ADDRESS:6443"), "{loopback}");
}
