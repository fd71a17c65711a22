//! Measures what docs/promises.md promises of the whole binary, with the binary as users start it, and prints the table's rows.
//!
//! `cargo bench -p coracle --bench promises`. Each cluster is a process of its own on a fresh directory, spoken to over TLS. With names
//! after `--` only those parts: `starts`, `creates`, `memory`, `crowded`, `latency`, `api`.

#![allow(missing_docs)] // What a benchmark has is not for others to call.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{AsyncBufReadExt as _, StreamExt, TryStreamExt};
use http::Method;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, ContainerStatus, Node, Pod},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::await_condition,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

const STARTS: usize = 11;
const PODS: usize = 200;
const MANY: usize = 1000;
/// Idle pods on one node, where its limit on memory maps lets it have so many.
const CROWD: usize = 10_000;
const GETS: usize = 5_000;
/// Config maps of the measurements of the API, and requests at once.
const MAPS: usize = 10_000;
const AT_ONCE: usize = 64;
const WATCHERS: usize = 100;
const EVENTS: usize = 1_000;
const LISTS: usize = 11;

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    // cargo says `--bench` to every benchmark.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let part = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    println!("| what | promise | measured |\n|---|---|---|");
    if part("starts") {
        starts().await?;
    }
    if part("creates") {
        creates().await?;
    }
    if part("memory") {
        memory().await?;
    }
    if part("crowded") {
        crowded().await?;
    }
    if part("latency") {
        latency().await?;
    }
    if part("api") {
        api().await?;
    }
    Ok(())
}

fn row(what: &str, promise: &str, measured: &str) {
    println!("| {what} | {promise} | {measured} |");
}

/// A cluster in a process of its own.
struct Up {
    process: Child,
    /// Held open, for the process goes on writing to it.
    _output: Lines<BufReader<ChildStdout>>,
    client: Client,
    /// From the start of the process until `/readyz` had answered ok.
    ready: Duration,
    started: Instant,
}

impl Up {
    async fn start(data: &Path) -> anyhow::Result<Self> {
        let started = Instant::now();
        let mut process = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["up", "--no-merge", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().context("the process has an output")?;
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next_line().await? {
            if line.starts_with("ready") {
                break;
            }
        }
        let kubeconfig = Kubeconfig::read_from(data.join("kubeconfig"))?;
        let client =
            Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?;
        let answer = client
            .request_text(http::Request::get("/readyz").body(Vec::new())?)
            .await?;
        ensure!(answer == "ok", "/readyz says {answer}");
        Ok(Self {
            process,
            _output: lines,
            client,
            ready: started.elapsed(),
            started,
        })
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create(&self, name: &str, image: &str, args: &[&str]) -> anyhow::Result<()> {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": image, "args": args}]},
        }))?;
        self.pods().create(&PostParams::default(), &pod).await?;
        Ok(())
    }

    /// A Deployment named `many` of so many pods, once all are available.
    async fn deployment(&self, replicas: usize) -> anyhow::Result<Api<Deployment>> {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "many"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "many"}},
                "template": {
                    "metadata": {"labels": {"app": "many"}},
                    "spec": {"containers": [{"name": "hello", "image": "hello"}]},
                },
            },
        }))?;
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), "default");
        deployments.create(&PostParams::default(), &deployment).await?;
        let all = i32::try_from(replicas)?;
        let available = |deployment: Option<&Deployment>| {
            let status = deployment.and_then(|deployment| deployment.status.as_ref());
            status.is_some_and(|status| status.available_replicas == Some(all))
        };
        await_condition(deployments.clone(), "many", available).await?;
        Ok(deployments)
    }

    async fn running(&self, name: &str) -> anyhow::Result<()> {
        let ready = |pod: Option<&Pod>| pod.is_some_and(is_ready);
        await_condition(self.pods(), name, ready).await?;
        Ok(())
    }

    /// Resident memory in MB.
    #[cfg(target_os = "linux")]
    fn resident(&self) -> anyhow::Result<f64> {
        let id = self.process.id().context("the process runs")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()).context("VmRSS")?;
        Ok(kibibytes.parse::<f64>()? * 1024.0 / 1e6)
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.process.id().context("the process runs")?.to_string();
        ensure!(Command::new("kill").args(["-s", "INT", &id]).status().await?.success());
        ensure!(self.process.wait().await?.success());
        Ok(())
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Start to ready, and start to the first pod with its module compiled by an earlier start.
async fn starts() -> anyhow::Result<()> {
    let (mut ready, mut fresh, mut first) = (Vec::new(), Vec::new(), Vec::new());
    let data = tempfile::tempdir()?;
    for round in 0..=STARTS {
        let empty = tempfile::tempdir()?;
        let up = Up::start(empty.path()).await?;
        let on_nothing = up.ready;
        up.stop().await?;

        let up = Up::start(data.path()).await?;
        up.create("first", "hello", &[]).await?;
        up.running("first").await?;
        let to_pod = up.started.elapsed();
        // The first round compiles the module.
        if round > 0 {
            fresh.push(on_nothing);
            ready.push(up.ready);
            first.push(to_pod);
        }
        up.pods()
            .delete("first", &DeleteParams::default().grace_period(0))
            .await?;
        up.stop().await?;
    }
    row(
        "process start to `/readyz` ok, empty data directory",
        "< 300 ms",
        &spread(&mut fresh),
    );
    row(
        "process start to `/readyz` ok, used data directory",
        "< 300 ms",
        &spread(&mut ready),
    );
    row(
        "process start to the first pod Ready, module compiled before",
        "< 600 ms",
        &spread(&mut first),
    );
    Ok(())
}

/// Create to Running, one pod after the other and all at once, as a watcher sees it.
async fn creates() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let up = Up::start(data.path()).await?;
    up.create("warm", "hello", &[]).await?;
    up.running("warm").await?;
    let mut changes = up
        .pods()
        .watch(&WatchParams::default().timeout(290), "0")
        .await?
        .boxed();
    let mut times = Vec::new();
    for n in 0..PODS {
        let name = format!("one-{n}");
        let created = Instant::now();
        up.create(&name, "hello", &[]).await?;
        until_running(&mut changes, |pod| pod == name).await?;
        times.push(created.elapsed());
    }
    row(
        &format!("create to Running, {PODS} pods one after the other"),
        "p50 < 5 ms, p99 < 50 ms",
        &spread(&mut times),
    );

    let began = Instant::now();
    let creates = (0..PODS).map(|n| {
        let up = &up;
        async move { up.create(&format!("burst-{n}"), "hello", &[]).await }
    });
    futures::future::try_join_all(creates).await?;
    for _ in 0..PODS {
        until_running(&mut changes, |pod| pod.starts_with("burst-")).await?;
    }
    row(
        &format!("{PODS} pods created at once, until all run"),
        "",
        &format!("{:.0} ms", began.elapsed().as_secs_f64() * 1e3),
    );
    up.stop().await
}

/// The next change that shows a wanted pod running for the first time.
async fn until_running(
    changes: &mut (impl futures::Stream<Item = kube::Result<WatchEvent<Pod>>> + Unpin),
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    while let Some(change) = changes.try_next().await? {
        if let WatchEvent::Modified(pod) = change {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            if wanted(&pod.name_any()) && phase == Some("Running") {
                return Ok(());
            }
        }
    }
    anyhow::bail!("the watch ended")
}

#[cfg(target_os = "linux")]
async fn memory() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let up = Up::start(data.path()).await?;
    // What starts on the side has come to rest by then.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = up.resident()?;
    let began = Instant::now();
    let deployments = up.deployment(MANY).await?;
    let took = began.elapsed();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let loaded = up.resident()?;
    row("resident memory idle", "< 60 MB", &format!("{idle:.0} MB"));
    let each = (loaded - idle) / MANY as f64;
    row(
        &format!("resident memory a pod, at {MANY} pods of `hello`"),
        "< 1 MB",
        &format!("{each:.2} MB ({loaded:.0} MB in all)"),
    );
    row(
        &format!("a Deployment of {MANY} pods, until all are available"),
        "< 3 s",
        &format!("{:.2} s", took.as_secs_f64()),
    );

    let mut changes = up
        .pods()
        .watch(&WatchParams::default().timeout(290), "0")
        .await?
        .boxed();
    let began = Instant::now();
    deployments.delete("many", &DeleteParams::background()).await?;
    let mut gone = 0;
    while gone < MANY {
        let change = changes.try_next().await?.context("the watch ended")?;
        gone += usize::from(matches!(change, WatchEvent::Deleted(_)));
    }
    row(
        &format!("the Deployment deleted, until its {MANY} pods are gone"),
        "< 2 s",
        &format!("{:.2} s", began.elapsed().as_secs_f64()),
    );
    up.stop().await
}

/// As many idle pods as one node takes, and how the API is then.
#[cfg(target_os = "linux")]
async fn crowded() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let up = Up::start(data.path()).await?;
    let nodes = Api::<Node>::all(up.client.clone()).list(&ListParams::default()).await?;
    let allocatable = nodes
        .items
        .iter()
        .filter_map(|node| node.status.as_ref()?.allocatable.as_ref()?.get("pods"));
    let room: usize = allocatable.filter_map(|pods| pods.0.parse::<usize>().ok()).sum();
    // Two more are created below, and what runs in every cluster has its place too.
    let count = CROWD.min(room.saturating_sub(10));
    let began = Instant::now();
    up.deployment(count).await?;
    let took = began.elapsed();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let what = |what: &str| format!("{what} {count} idle pods of `hello`");
    row(
        &what("resident memory with"),
        "< 2,500 MB",
        &format!("{:.0} MB", up.resident()?),
    );
    row(&what("a Deployment of"), "", &format!("{:.1} s", took.as_secs_f64()));
    up.create("quiet", "hello", &[]).await?;
    up.running("quiet").await?;
    row(&what("GET of a pod beside"), "", &spread(&mut gets(&up).await?));
    let began = Instant::now();
    up.create("late", "hello", &[]).await?;
    up.running("late").await?;
    row(
        &what("one more pod Ready beside"),
        "",
        &format!("{:.1} ms", began.elapsed().as_secs_f64() * 1e3),
    );
    up.stop().await
}

#[cfg(not(target_os = "linux"))]
async fn crowded() -> anyhow::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
async fn memory() -> anyhow::Result<()> {
    row("resident memory", "< 60 MB", "measured on Linux only");
    Ok(())
}

/// GET of one pod over one connection, while nothing else runs and while a guest computes without end.
async fn latency() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let up = Up::start(data.path()).await?;
    up.create("quiet", "hello", &[]).await?;
    up.running("quiet").await?;
    let mut idle = gets(&up).await?;
    up.create("busy", "toolbox", &["sh", "-c", "while :; do :; done"])
        .await?;
    up.running("busy").await?;
    let mut loaded = gets(&up).await?;
    let busy = up.pods().get("busy").await?;
    let unbroken = |status: &ContainerStatus| status.ready && status.restart_count == 0;
    let statuses = busy
        .status
        .and_then(|status| status.container_statuses)
        .unwrap_or_default();
    ensure!(
        !statuses.is_empty() && statuses.iter().all(unbroken),
        "the guest did not loop all the time"
    );
    let ratio = quantile(&mut loaded, 0.99).as_secs_f64() / quantile(&mut idle, 0.99).as_secs_f64();
    row("GET of a pod, idle", "", &spread(&mut idle));
    row(
        "GET of a pod beside a guest in an endless loop",
        "p99 < 3 x idle",
        &format!("{}; p99 {ratio:.1} x idle", spread(&mut loaded)),
    );
    up.stop().await
}

async fn gets(up: &Up) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(GETS);
    for _ in 0..GETS {
        let began = Instant::now();
        up.client
            .request_text(http::Request::get("/api/v1/namespaces/default/pods/quiet").body(Vec::new())?)
            .await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let index = (last as f64 * share).round() as usize;
    times.get(index).copied().unwrap_or_default()
}

fn spread(times: &mut [Duration]) -> String {
    let (p50, p99) = (quantile(times, 0.5), quantile(times, 0.99));
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms", ms(p50), ms(p99))
}

/// The API itself, with config maps of 1 KiB: durable writes, reads, lists, watchers. Client and server share the machine.
async fn api() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let up = Up::start(data.path()).await?;
    let one = rate(1, MAPS / 10, |n| {
        send(&up.client, Method::POST, MAPS_PATH, map("one", n))
    })
    .await?;
    let many = rate(AT_ONCE, MAPS - MAPS / 10, |n| {
        send(&up.client, Method::POST, MAPS_PATH, map("many", n))
    })
    .await?;
    row(
        "durable creates of 1 KiB, one connection",
        "> 1,500/s",
        &format!("{one:.0}/s"),
    );
    row(
        &format!("durable creates of 1 KiB, {AT_ONCE} connections"),
        "> 6,000/s",
        &format!("{many:.0}/s"),
    );
    #[cfg(target_os = "linux")]
    row(
        &format!("resident memory with {MAPS} of them"),
        "< 120 MB",
        &format!("{:.0} MB", up.resident()?),
    );
    let gets = rate(AT_ONCE, 2 * MAPS, |n| {
        let path = format!("{MAPS_PATH}/many-{}", n % (MAPS / 2));
        let client = &up.client;
        async move { send(client, Method::GET, &path, Vec::new()).await }
    });
    row(
        &format!("GET of one of them, {AT_ONCE} connections"),
        "> 20,000/s",
        &format!("{:.0}/s", gets.await?),
    );
    let mut lists = Vec::new();
    for _ in 0..LISTS {
        let began = Instant::now();
        send(&up.client, Method::GET, MAPS_PATH, Vec::new()).await?;
        lists.push(began.elapsed());
    }
    row(&format!("list of {MAPS} of them"), "p50 < 40 ms", &spread(&mut lists));
    let took = fan_out(&up.client).await?;
    let what = format!("{WATCHERS} watchers x {EVENTS} new objects, until all have seen all");
    row(&what, "< 0.4 s", &format!("{:.2} s", took.as_secs_f64()));
    up.stop().await
}

const MAPS_PATH: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, n: usize) -> Vec<u8> {
    let data = "0123456789abcdef".repeat(64);
    json!({"metadata": {"name": format!("{name}-{n}")}, "data": {"payload": data}})
        .to_string()
        .into_bytes()
}

async fn send(client: &Client, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<()> {
    let request = http::Request::builder().method(method).uri(path);
    client
        .request_text(request.header("content-type", "application/json").body(body)?)
        .await?;
    Ok(())
}

/// How many requests a second are answered when so many are under way at a time.
async fn rate<F: Future<Output = anyhow::Result<()>>>(
    at_once: usize,
    count: usize,
    request: impl Fn(usize) -> F,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    futures::stream::iter((0..count).map(request))
        .buffer_unordered(at_once)
        .try_collect::<()>()
        .await?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// The time until all watchers have read all of the objects that are created meanwhile.
async fn fan_out(client: &Client) -> anyhow::Result<Duration> {
    let newest = Api::<ConfigMap>::namespaced(client.clone(), "default")
        .list(&ListParams::default().limit(1))
        .await?
        .metadata
        .resource_version
        .context("a list has a version")?;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let path = format!("{MAPS_PATH}?watch=1&resourceVersion={newest}");
        let lines = client
            .request_stream(http::Request::get(path).body(Vec::new())?)
            .await?
            .lines();
        watchers.push(tokio::spawn(
            lines.take(EVENTS).try_fold(0, async |count, _| Ok(count + 1)),
        ));
    }
    let began = Instant::now();
    rate(16, EVENTS, |n| send(client, Method::POST, MAPS_PATH, map("fan", n))).await?;
    for watcher in watchers {
        let seen: usize = watcher.await??;
        ensure!(seen == EVENTS, "a watcher saw {seen}");
    }
    Ok(began.elapsed())
}
