//! Measures starting: `cargo run --release -p coracle-runtime --example start -- [count]`.
//!
//! Prints what compiling and loading a guest cost, the time from `start` to the end of a guest that does nothing much, and from
//! `start` to the first answer of a server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use coracle_net::{Fabric, FabricConfig, PodIdentity, PodNet};
use coracle_runtime::{ContainerSpec, LogSink, Runtime, RuntimeConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _: &[u8]) {}
}

fn spec(net: Arc<PodNet>, args: &[&str]) -> ContainerSpec {
    let args = args.iter().map(|arg| arg.to_string()).collect();
    ContainerSpec {
        memory_limit_bytes: Some(64 << 20),
        ..ContainerSpec::new(args, net, Arc::new(Nowhere))
    }
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times.get((times.len() - 1) * share / 100).copied().unwrap_or_default();
    println!(
        "{what:40} p50 {:>10.1?}  p99 {:>10.1?}  of {}",
        at(50),
        at(99),
        times.len()
    );
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let count: usize = std::env::args().nth(1).map_or(Ok(500), |count| count.parse())?;
    let cache = tempfile::tempdir()?;
    let config = RuntimeConfig::new(cache.path().to_owned());
    let runtime = Runtime::new(config.clone())?;
    let guest = |name: &str| {
        coracle_fixtures::component(name)
            .map(Bytes::from_static)
            .context("no such guest")
    };

    for name in ["hello", "web", "probe"] {
        let wasm = guest(name)?;
        let start = Instant::now();
        drop(runtime.load(name, wasm.clone()).await?);
        let compiled = start.elapsed();
        let start = Instant::now();
        runtime.load(name, wasm.clone()).await?;
        println!(
            "{name}: {} KB, compiled in {compiled:.1?}, loaded from disk in {:.1?}",
            wasm.len() / 1000,
            start.elapsed()
        );
    }

    let fabric = Fabric::new(FabricConfig::default());
    let pod = |n: usize| {
        let ip = IpAddr::V4(Ipv4Addr::new(10, 244, (n >> 8) as u8, n as u8));
        let identity = PodIdentity {
            namespace: "demo".into(),
            name: format!("pod-{n}"),
            uid: format!("uid-{n}"),
        };
        fabric.add_pod(identity, vec![ip]).map(|net| (net, ip))
    };
    let (probe, hello, web) = (
        runtime.load("probe", guest("probe")?).await?,
        runtime.load("hello", guest("hello")?).await?,
        runtime.load("web", guest("web")?).await?,
    );

    let (net, _) = pod(2)?;
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        runtime
            .start(probe.clone(), spec(net.clone(), &["probe", "lines", "1"]))?
            .wait()
            .await;
        times.push(start.elapsed());
    }
    report("start to exit", times);

    let mut held = Vec::new();
    for (what, module) in [
        ("start to first answer, std server", hello),
        ("start to first answer, wasi:http", web),
    ] {
        let mut times = Vec::new();
        for _ in 0..count {
            let (net, ip) = pod(256 + held.len())?;
            let start = Instant::now();
            let container = runtime.start(module.clone(), spec(net, &["server"]))?;
            let mut stream = loop {
                match fabric.dial_pod(ip, SocketAddr::new(ip, 8080)).await {
                    Ok(stream) => break stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                .await?;
            stream.read_to_end(&mut Vec::new()).await?;
            times.push(start.elapsed());
            held.push(container);
        }
        report(what, times);
    }
    println!("{} servers held, resident memory {}", held.len(), resident());
    Ok(())
}

/// What the system says of this process, where it says it in a file.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or("unknown".into(), |value| value.trim().to_owned())
}
