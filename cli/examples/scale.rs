//! How fast pods get nodes in a large cluster that only pretends, and what it costs: the whole control plane and all
//! nodes in this process, its state on disk.
//!
//! `cargo run --release -p coracle --example scale [NODES [PODS]]`; 1,000 nodes and 10,000 pods if not said.

// An example that cannot go on ends with a message.
#![allow(missing_docs, clippy::expect_used)]

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::Context;
use coracle::{
    cluster::{Cluster, ClusterConfig},
    data_dir::DataDir,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{PostParams, WatchParams},
    core::{Request, WatchEvent},
};
use serde::Deserialize;
use serde_json::json;

/// Creates under way at a time.
const CREATORS: usize = 64;
/// What rests is watched for so long.
const REST: Duration = Duration::from_secs(60);

/// What is read of a pod.
#[derive(Clone, Debug, Deserialize)]
struct Seen {
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1);
    let nodes: u16 = numbers.next().map_or(Ok(1000), |text| text.parse())?;
    let pods: usize = numbers.next().map_or(Ok(10_000), |text| text.parse())?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(measure(nodes, pods))
}

async fn measure(nodes: u16, pods: usize) -> anyhow::Result<()> {
    let mut config = ClusterConfig::new(DataDir::ephemeral()?);
    (config.nodes, config.simulated) = (0, nodes);
    let began = Instant::now();
    let cluster = Cluster::start(config).await?;
    println!("{nodes} nodes registered in {:.2} s", began.elapsed().as_secs_f64());
    // What starts on the side has come to rest by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let empty = resident_bytes();

    let api: Api<Pod> = Api::namespaced(cluster.client(), "default");
    let version = api
        .list(&kube::api::ListParams::default())
        .await?
        .metadata
        .resource_version
        .context("a list has a version")?;
    let seen = tokio::spawn(see(cluster.client(), version, pods));
    let (began, cpu) = (Instant::now(), cpu_seconds());
    stream::iter(0..pods)
        .map(|at| create(&api, at))
        .buffer_unordered(CREATORS)
        .try_collect::<Vec<()>>()
        .await?;
    let created = began.elapsed();
    let (bound, ready) = seen.await??;
    let (bound, ready) = (bound - began, ready - began);
    let rate = |time: Duration| pods as f64 / time.as_secs_f64();
    println!(
        "{pods} pods created in {:.2} s: {:.0} pods/s",
        created.as_secs_f64(),
        rate(created)
    );
    println!(
        "first create to last bound: {:.2} s, {:.0} pods/s",
        bound.as_secs_f64(),
        rate(bound)
    );
    println!(
        "first create to last ready: {:.2} s, {:.0} pods/s",
        ready.as_secs_f64(),
        rate(ready)
    );
    println!(
        "cpu of all parts: {:.0} us a pod",
        (cpu_seconds() - cpu) * 1e6 / pods as f64
    );

    tokio::time::sleep(Duration::from_secs(10)).await;
    let each = resident_bytes().saturating_sub(empty) as f64 / pods as f64 / 1024.0;
    println!(
        "resident memory: {each:.1} KiB a pod, {:.0} MB without pods",
        empty as f64 / 1e6
    );
    let cpu = cpu_seconds();
    tokio::time::sleep(REST).await;
    let share = (cpu_seconds() - cpu) / REST.as_secs_f64() * 100.0;
    println!("at rest: {share:.2} % of a core");
    cluster.shutdown().await;
    Ok(())
}

async fn create(api: &Api<Pod>, at: usize) -> anyhow::Result<()> {
    let requests = json!({"cpu": "100m", "memory": "100Mi"});
    let pod = serde_json::from_value(json!({
        "metadata": {"name": format!("pod-{at}"), "labels": {"app": "many"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]},
    }))?;
    api.create(&PostParams::default(), &pod).await?;
    Ok(())
}

/// When the last of the pods was bound, and when the last one ran.
async fn see(client: kube::Client, version: String, pods: usize) -> anyhow::Result<(Instant, Instant)> {
    let params = WatchParams::default().timeout(290);
    let watch = Request::new("/api/v1/namespaces/default/pods").watch(&params, &version)?;
    let mut events = pin!(client.request_events::<Seen>(watch).await?);
    let (mut bound, mut running, mut last_bound) = (0, 0, Instant::now());
    while let Some(event) = events.try_next().await? {
        let WatchEvent::Modified(pod) = event else { continue };
        // A pod is written to twice: when it is bound, and when it runs.
        if pod.status.phase == "Running" {
            running += 1;
        } else if pod.spec.node_name.is_some() {
            bound += 1;
            last_bound = Instant::now();
        }
        if running == pods {
            anyhow::ensure!(bound == pods, "{bound} bound, {running} running");
            return Ok((last_bound, Instant::now()));
        }
    }
    anyhow::bail!("the watch ended after {bound} bound and {running} running pods")
}

/// Processor time of this process so far, of all threads.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = after_name.split_whitespace().filter_map(|f| f.parse().ok()).collect();
    // The state, which is no number, comes first; then user and system time are the 11th and 12th numbers, in ticks.
    let ticks: f64 = fields.get(10..12).map(|times| times.iter().sum()).unwrap_or_default();
    ticks / 100.0
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
