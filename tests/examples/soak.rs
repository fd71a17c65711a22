//! Connections that come and go for minutes between thousands of pods: nothing may be lost or mixed, and nothing may grow.
//!
//! `cargo run --release -p coracle-tests --example soak [MINUTES [PODS [SERVICES [CONNECTIONS]]]]`; 10 minutes, 2,000 pods, 500
//! services and 2,000 connections a second if not said. A quarter of the pods ask, the others answer; each connection is to a
//! service by its name, and each byte is checked by who reads it.

// What fails here should be seen.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../e2e/world.rs"]
#[allow(dead_code)]
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::cluster::ClusterConfig;
use coracle::data_dir::DataDir;
use coracle::fuzz::held::Held;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::json;
use world::World;

/// Between two looks at what the process holds.
const LOOK: Duration = Duration::from_secs(10);

/// Creates under way at a time.
const CREATORS: usize = 64;

/// Pods whose log is read at a time.
const READERS: usize = 16;

/// By how much of itself memory may have grown from the first third to the last one: what the allocator keeps comes and goes.
const FLAT: f64 = 0.03;

struct Wanted {
    minutes: f64,
    pods: usize,
    services: usize,
    connections: f64,
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<f64>().unwrap());
    let wanted = Wanted {
        minutes: numbers.next().unwrap_or(10.0),
        pods: numbers.next().map_or(2000, |number| number as usize),
        services: numbers.next().map_or(500, |number| number as usize),
        connections: numbers.next().unwrap_or(2000.0),
    };
    let world = World::start_with(ClusterConfig::new(DataDir::ephemeral().unwrap())).await;
    world.load_probe();
    let clients = fill(&world, &wanted).await;
    let flat = watch(&world, &wanted).await;
    let whole = count(&world, clients, wanted.minutes).await;
    world.cluster.shutdown().await;
    assert!(flat && whole, "see above");
}

/// Makes the services and pods, and waits until all run.
async fn fill(world: &World, wanted: &Wanted) -> usize {
    let began = Instant::now();
    let services: Api<Service> = world.all();
    let make = async |at: usize| {
        let service = json!({
            "metadata": {"name": format!("churn-{at}")},
            "spec": {"selector": {"churn": at.to_string()}, "ports": [{"port": 80, "targetPort": 8080}]},
        });
        let service = serde_json::from_value(service).unwrap();
        services.create(&PostParams::default(), &service).await.map(drop)
    };
    let made = stream::iter(0..wanted.services).map(make).buffer_unordered(CREATORS);
    made.try_collect::<()>().await.unwrap();

    let clients = wanted.pods / 4;
    let (servers, rate) = (wanted.pods - clients, wanted.connections / clients as f64);
    pods(
        world,
        "server",
        servers,
        wanted.services,
        &["churn-serve", "0.0.0.0:8080"],
    )
    .await;
    ready(world, servers).await;
    until(world.all::<EndpointSlice>(), async |slices| {
        let ours = slices.iter().filter(|slice| {
            slice
                .metadata
                .name
                .as_deref()
                .is_some_and(|name| name.starts_with("churn-"))
        });
        let endpoints = ours.flat_map(|slice| slice.endpoints.iter().flatten());
        let ready = |endpoint: &&Endpoint| endpoint.conditions.as_ref().is_some_and(|is| is.ready == Some(true));
        endpoints.filter(ready).count() == servers
    })
    .await;
    let arguments = ["churn", "churn", &wanted.services.to_string(), &rate.to_string()];
    pods(world, "client", clients, wanted.services, &arguments).await;
    ready(world, wanted.pods).await;
    println!("{} pods run after {:.1} s", wanted.pods, began.elapsed().as_secs_f64());
    clients
}

async fn pods(world: &World, kind: &str, count: usize, services: usize, args: &[&str]) {
    let api: Api<Pod> = world.all();
    let make = async |at: usize| {
        let label = if kind == "server" { "churn" } else { "asks" };
        let pod = json!({
            "metadata": {"name": format!("{kind}-{at}"), "labels": {label: (at % services).to_string()}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "image": "probe", "args": args}],
            },
        });
        let pod = serde_json::from_value(pod).unwrap();
        api.create(&PostParams::default(), &pod).await.map(drop)
    };
    let made = stream::iter(0..count).map(make).buffer_unordered(CREATORS);
    made.try_collect::<()>().await.unwrap();
}

/// Waits until so many pods are ready.
async fn ready(world: &World, count: usize) {
    until(world.all::<Pod>(), async |pods| {
        if let Some(ended) = pods.iter().find(|pod| world::ended(pod)) {
            let name = ended.metadata.name.as_deref().unwrap_or_default();
            panic!("{name} has ended: {}", world.log(name, "main").await);
        }
        pods.iter().filter(|pod| world::ready(pod)).count() == count
    })
    .await;
}

/// Waits until all objects of a kind together are as wanted.
async fn until<K>(api: Api<K>, wanted: impl AsyncFn(Vec<Arc<K>>) -> bool)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = kube::runtime::reflector::store();
    let watcher = kube::runtime::watcher(api, kube::runtime::watcher::Config::default());
    let mut changes = std::pin::pin!(kube::runtime::reflector(writer, watcher));
    while let Some(change) = changes.next().await {
        change.unwrap();
        if wanted(reader.state()).await {
            return;
        }
    }
}

/// Looks at what the process holds until the time is over; whether it stayed the same.
async fn watch(world: &World, wanted: &Wanted) -> bool {
    let looks = (wanted.minutes * 60.0 / LOOK.as_secs_f64()).ceil() as usize;
    let mut held = Vec::new();
    let mut ticks = tokio::time::interval(LOOK);
    println!("| minute | resident memory | handles |\n|---|---|---|");
    for look in 0..looks.max(3) {
        ticks.tick().await;
        let now = Held::now();
        held.push((now.memory_bytes.unwrap() as f64, now.handles.unwrap() as f64));
        if look % 6 == 0 {
            let (memory, handles) = held[look];
            println!("| {} | {:.1} MB | {handles} |", look / 6, memory / 1e6);
        }
    }
    let third = held.len() / 3;
    // The first third holds the start, in which buffers grow to the size that they keep.
    let (early, late) = (median(&held[third..2 * third]), median(&held[2 * third..]));
    let grown = (late.0 / early.0 - 1.0, late.1 / early.1 - 1.0);
    println!(
        "median of the second third {:.1} MB and {} handles, of the last {:.1} MB ({:+.1} %) and {} ({:+.1} %)",
        early.0 / 1e6,
        early.1,
        late.0 / 1e6,
        grown.0 * 100.0,
        late.1,
        grown.1 * 100.0
    );
    let params = ListParams::default().fields("status.phase!=Running");
    let stopped = world.all::<Pod>().list(&params).await.unwrap().items;
    for pod in &stopped {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        println!("{name} has stopped: {}", world.log(name, "main").await.trim_end());
    }
    stopped.is_empty() && grown.0 < FLAT && grown.1 < FLAT
}

fn median(looks: &[(f64, f64)]) -> (f64, f64) {
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    (
        middle(looks.iter().map(|look| look.0).collect()),
        middle(looks.iter().map(|look| look.1).collect()),
    )
}

/// Adds up what the clients say; whether each has said something.
async fn count(world: &World, clients: usize, minutes: f64) -> bool {
    let last = async |at: usize| {
        let log = world.log(&format!("client-{at}"), "main").await;
        let words: Vec<String> = log
            .lines()
            .last()
            .unwrap_or_default()
            .split(' ')
            .map(str::to_owned)
            .collect();
        let number = |at: usize| {
            words
                .get(at)
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or_default()
        };
        (number(0), number(2))
    };
    let logs: Vec<(u64, u64)> = stream::iter(0..clients)
        .map(last)
        .buffer_unordered(READERS)
        .collect()
        .await;
    let (connections, bytes) = logs.iter().fold((0, 0), |sum, log| (sum.0 + log.0, sum.1 + log.1));
    let silent = logs.iter().filter(|log| log.0 == 0).count();
    println!(
        "{connections} connections ({:.0}/s), {:.1} GB, each byte checked; {silent} of {clients} clients said nothing",
        connections as f64 / (minutes * 60.0),
        bytes as f64 / 1e9
    );
    silent == 0
}
