//! What it costs to meter a guest's CPU, by workload: `cargo run --release -p coracle-runtime --example metering -- [PROGRAM.wasm ARGS...]`.
//!
//! Each workload runs in code that is not metered at all, as a container whose code yields at ticks (what `limits.cpu` is held with),
//! in such code as the engine makes it without our unrolling of small loops, and as a container whose code also counts
//! instructions (RuntimeClass `coracle-fuel`, `coracle.dev/fuel`). The rows are those of docs/promises.md: seconds of CPU, medians
//! of five runs. A command of WASI 0.1 or 0.2 given as an argument becomes the last row.

// An example that cannot go on ends with a message.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use bytes::Bytes;
use coracle_net::{Fabric, FabricConfig, PodIdentity, PodNet};
use coracle_runtime::{ContainerSpec, LogSink, Module, Runtime, RuntimeConfig, limits};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};

const RUNS: usize = 5;

const CLOCK: &str =
    r#"(import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))"#;

/// Loops as compilers leave them: the fewer instructions a turn has, the more a look at the clock or a count costs it.
const WORKLOADS: [(&str, &str); 6] = [
    (
        "inner product of 512 numbers, 5 instructions a turn",
        r#"(func (export "_start") (local $turn i32) (local $at i32) (local $sum f64)
            (loop $outer
                (local.set $at (i32.const 0))
                (loop $inner
                    (local.set $sum (f64.add (local.get $sum)
                        (f64.mul (f64.load (local.get $at)) (f64.load offset=4096 (local.get $at)))))
                    (br_if $inner (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 4096))))
                (br_if $outer (i32.lt_u (local.tee $turn (i32.add (local.get $turn) (i32.const 1))) (i32.const 400000))))
            (f64.store (i32.const 0) (local.get $sum)))"#,
    ),
    (
        "hash of 16 KiB, byte by byte",
        r#"(func (export "_start") (local $turn i32) (local $at i32) (local $hash i32)
            (loop $outer
                (local.set $at (i32.const 0))
                (loop $inner
                    (local.set $hash (i32.mul (i32.xor (local.get $hash) (i32.load8_u (local.get $at))) (i32.const 16777619)))
                    (br_if $inner (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 16384))))
                (br_if $outer (i32.lt_u (local.tee $turn (i32.add (local.get $turn) (i32.const 1))) (i32.const 12000))))
            (i32.store (i32.const 0) (local.get $hash)))"#,
    ),
    (
        "reading 64 MiB in order",
        r#"(func (export "_start") (local $turn i32) (local $at i32) (local $sum i64)
            (loop $outer
                (local.set $at (i32.const 0))
                (loop $inner
                    (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
                    (br_if $inner (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 67108864))))
                (br_if $outer (i32.lt_u (local.tee $turn (i32.add (local.get $turn) (i32.const 1))) (i32.const 20))))
            (i64.store (i32.const 0) (local.get $sum)))"#,
    ),
    (
        "reading 64 MiB here and there",
        r#"(func (export "_start") (local $turn i32) (local $at i32)
            (loop $next
                (local.set $at (i32.add
                    (i32.mul (i32.xor (local.get $at) (i32.load (i32.and (local.get $at) (i32.const 67108860)))) (i32.const 1664525))
                    (i32.const 1013904223)))
                (br_if $next (i32.lt_u (local.tee $turn (i32.add (local.get $turn) (i32.const 1))) (i32.const 5000000))))
            (i32.store (i32.const 0) (local.get $at)))"#,
    ),
    (
        "calls: fib(36)",
        r#"(func $fib (param $n i32) (result i32)
            (if (result i32) (i32.lt_u (local.get $n) (i32.const 2))
                (then (local.get $n))
                (else (i32.add (call $fib (i32.sub (local.get $n) (i32.const 1))) (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
        (func (export "_start") (drop (call $fib (i32.const 36))))"#,
    ),
    (
        "calls of the host: the time, 2,000,000 times",
        r#"(func (export "_start") (local $turn i32)
            (loop $next
                (drop (call $now (i32.const 1) (i64.const 1) (i32.const 0)))
                (br_if $next (i32.lt_u (local.tee $turn (i32.add (local.get $turn) (i32.const 1))) (i32.const 2000000)))))"#,
    ),
];

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _: &[u8]) {}
}

/// All that workloads run in.
struct Bench {
    plain: Engine,
    ticking: Engine,
    runtime: Runtime,
    net: Arc<PodNet>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let engine = |ticks| Engine::new(Config::new().concurrency_support(false).epoch_interruption(ticks));
    let cache = tempfile::tempdir()?;
    let identity = PodIdentity {
        namespace: "default".into(),
        name: "metered".into(),
        uid: "metered".into(),
    };
    let bench = Bench {
        plain: engine(false)?,
        ticking: engine(true)?,
        runtime: Runtime::new(RuntimeConfig {
            worker_threads: 1,
            ..RuntimeConfig::new(cache.path().to_owned())
        })?,
        net: Fabric::new(FabricConfig::default()).add_pod(identity, vec![IpAddr::V4(Ipv4Addr::new(10, 244, 0, 2))])?,
    };
    let done = Arc::new(AtomicBool::new(false));
    let ticker = tick(bench.ticking.clone(), done.clone());

    println!("| workload | not metered | by time | by time, loops as they are | by fuel |\n|---|---|---|---|---|");
    for (name, text) in WORKLOADS {
        let wasm = wat::parse_str(format!("(module {CLOCK} (memory (export \"memory\") 1024) {text})"))?;
        bench.row(name, &wasm, &[]).await?;
    }
    let mut program = std::env::args().skip(1);
    if let Some(path) = program.next() {
        let args: Vec<String> = program.collect();
        let wasm = std::fs::read(&path).with_context(|| path.clone())?;
        bench.row(&format!("{path} {}", args.join(" ")), &wasm, &args).await?;
    }
    done.store(true, Ordering::Relaxed);
    ticker.join().map_err(|_| anyhow::anyhow!("the ticker panicked"))
}

impl Bench {
    async fn row(&self, name: &str, wasm: &[u8], args: &[String]) -> anyhow::Result<()> {
        let component = component(wasm)?;
        let [plain, ticking] = [&self.plain, &self.ticking].map(|engine| Component::new(engine, &component));
        let (plain, ticking) = (plain?, ticking?);
        let wasm = Bytes::copy_from_slice(wasm);
        let time = self.runtime.load(name, wasm.clone()).await?;
        let fuel = self.runtime.load_metered(name, wasm).await?;
        let seconds = [
            median(async || command(&self.plain, false, &plain, args).await).await?,
            median(async || self.container(&time, args).await).await?,
            median(async || command(&self.ticking, true, &ticking, args).await).await?,
            median(async || self.container(&fuel, args).await).await?,
        ];
        let cells = seconds.map(|spent| format!("{spent:.2} s ({:.2} x)", spent / seconds[0]));
        println!("| {name} | {} |", cells.join(" | "));
        Ok(())
    }

    /// As the node runs it.
    async fn container(&self, module: &Arc<Module>, args: &[String]) -> anyhow::Result<f64> {
        let container = self.runtime.start(module.clone(), spec(self.net.clone(), args))?;
        let exit = container.wait().await;
        anyhow::ensure!(exit.code == 0, "{exit:?}");
        Ok(container.usage().cpu_nanos as f64 / 1e9)
    }
}

fn spec(net: Arc<PodNet>, args: &[String]) -> ContainerSpec {
    let args = ["program".to_owned()].into_iter().chain(args.iter().cloned()).collect();
    ContainerSpec::new(args, net, Arc::new(Nowhere))
}

/// Moves an engine's clock on, as the node does while guests run.
fn tick(engine: Engine, done: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !done.load(Ordering::Relaxed) {
            engine.increment_epoch();
            std::thread::sleep(limits::TICK);
        }
    })
}

struct Host(WasiCtx, ResourceTable);

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.0,
            table: &mut self.1,
        }
    }
}

/// Without the node: on a thread that does nothing else, whose clock is read.
async fn command(engine: &Engine, ticks: bool, component: &Component, args: &[String]) -> anyhow::Result<f64> {
    let wasi = WasiCtx::builder().arg("program").args(args).build();
    let mut store = Store::new(engine, Host(wasi, ResourceTable::new()));
    if ticks {
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
    }
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let command = Command::instantiate_async(&mut store, component, &linker).await?;
    let call = async move {
        match command.wasi_cli_run().call_run(&mut store).await {
            Ok(Ok(())) => Ok(()),
            Err(error) if error.downcast_ref::<I32Exit>().is_some_and(|exit| exit.0 == 0) => Ok(()),
            Ok(Err(())) => anyhow::bail!("the program failed"),
            Err(error) => Err(error.into()),
        }
    };
    let timed = tokio::task::spawn_blocking(|| {
        let before = cpu_seconds();
        tokio::runtime::Handle::current().block_on(call)?;
        Ok(cpu_seconds() - before)
    });
    timed.await?
}

/// A module of WASI 0.1 becomes a component, as the node makes one of it.
fn component(wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    use wasi_preview1_component_adapter_provider::{
        WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as ADAPTER,
    };
    if wasmparser::Parser::is_component(wasm) {
        return Ok(wasm.to_vec());
    }
    let encoder = wit_component::ComponentEncoder::default().module(wasm)?;
    encoder.adapter(NAME, ADAPTER)?.encode()
}

/// The middle one of several runs.
async fn median(run: impl AsyncFn() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        times.push(run().await?);
    }
    times.sort_by(f64::total_cmp);
    times.get(RUNS / 2).copied().context("no run")
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
