//! A guest that works on files beside a program of the machine that does the same, in one run and by turns:
//! `cargo run --release -p coracle-runtime --example files [DIRECTORY]`, in the directory for temporary files without one.
//!
//! The guest runs as the node runs it, metered and limited, its volume with a limit. Medians of the rounds, and of each round's
//! ratio; the guest's start is in its time.

// An example that cannot go on ends with a message.
#![allow(missing_docs)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use coracle_net::{Fabric, FabricConfig, PodIdentity, PodNet};
use coracle_runtime::{ContainerSpec, LogSink, Module, Mount, Runtime, RuntimeConfig};

const ROUNDS: usize = 5;
/// Pieces in which a file is written and then read, and their size.
const PIECES: [(usize, usize); 2] = [(100_000, 512), (8_000, 64 << 10)];
const FILES: usize = 10_000;

/// What a guest says is of no interest, unless it fails.
struct Silent;

impl LogSink for Silent {
    fn write(&self, _: &[u8]) {}
}

struct Pod {
    /// The network lives as long as somebody has it.
    _fabric: Fabric,
    net: Arc<PodNet>,
    runtime: Runtime,
    module: Arc<Module>,
}

impl Pod {
    async fn new(cache_dir: PathBuf) -> Result<Self> {
        let wasm = coracle_fixtures::component("probe").context("no such guest")?;
        let runtime = Runtime::new(RuntimeConfig::new(cache_dir))?;
        let fabric = Fabric::new(FabricConfig::default());
        let identity = PodIdentity {
            namespace: "default".into(),
            name: "files".into(),
            uid: "files".into(),
        };
        Ok(Self {
            net: fabric.add_pod(identity, vec![IpAddr::V4(Ipv4Addr::new(10, 244, 0, 2))])?,
            _fabric: fabric,
            module: runtime.load("probe", Bytes::from_static(wasm)).await?,
            runtime,
        })
    }

    /// Runs the guest with a directory as its volume `/v`.
    async fn run(&self, volume: &Path, args: &[String]) -> Result<()> {
        let args = ["probe".to_owned()].iter().chain(args).cloned().collect();
        let spec = ContainerSpec {
            memory_limit_bytes: Some(64 << 20),
            mounts: vec![Mount {
                host: volume.to_owned(),
                guest: "/v".into(),
                read_only: false,
                quota: Some(self.runtime.accounts().of(volume, 4 << 30, None)?),
                lazy: false,
            }],
            ..ContainerSpec::new(args, self.net.clone(), Arc::new(Silent))
        };
        let exit = self.runtime.start(self.module.clone(), spec)?.wait().await;
        ensure!(exit.code == 0, "{exit:?}");
        Ok(())
    }
}

/// What the guest does, done by this program.
fn copy(path: &Path, pieces: usize, bytes: usize) -> Result<()> {
    let mut piece = vec![7; bytes];
    let mut file = File::create(path)?;
    for _ in 0..pieces {
        file.write_all(&piece)?;
    }
    let mut file = File::open(path)?;
    while file.read(&mut piece)? > 0 {}
    Ok(())
}

fn make(dir: &Path, count: usize) -> Result<()> {
    for number in 0..count {
        File::create(dir.join(number.to_string()))?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let own = tempfile::tempdir()?;
    let within = std::env::args()
        .nth(1)
        .map_or_else(|| own.path().to_owned(), PathBuf::from);
    let pod = Pod::new(own.path().join("cache")).await?;
    println!("| | of this machine | of a guest | |\n|---|---|---|---|");
    for (pieces, bytes) in PIECES {
        let args = |path: &str| ["copy", path, &pieces.to_string(), &bytes.to_string()].map(str::to_owned);
        let native = |volume: &Path| copy(&volume.join("file"), pieces, bytes);
        let what = format!("{pieces} pieces of {bytes} bytes written and read");
        compare(&what, &pod, &within, native, &args("/v/file")).await?;
    }
    let args = ["make", "/v", &FILES.to_string()].map(str::to_owned);
    let what = format!("{FILES} files made");
    compare(&what, &pod, &within, |volume| make(volume, FILES), &args).await
}

async fn compare(
    what: &str,
    pod: &Pod,
    within: &Path,
    native: impl Fn(&Path) -> Result<()>,
    guest: &[String],
) -> Result<()> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let volume = tempfile::tempdir_in(within)?;
        let begun = Instant::now();
        native(volume.path())?;
        let native = begun.elapsed().as_secs_f64();
        fs::remove_dir_all(volume.path())?;
        fs::create_dir(volume.path())?;
        let begun = Instant::now();
        pod.run(volume.path(), guest).await?;
        rounds.push((native, begun.elapsed().as_secs_f64()));
    }
    let median = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    println!(
        "| {what} | {:.0} ms | {:.0} ms | {:.1} x |",
        median(&|round| round.0 * 1e3),
        median(&|round| round.1 * 1e3),
        median(&|round| round.1 / round.0)
    );
    Ok(())
}
