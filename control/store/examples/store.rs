//! Measures the store: `cargo run --release -p coracle-store --example store`.
//!
//! Prints durable creates per second, the cost of a list of 10,000 records and of a watch
//! fan-out, and what 10,000 records of 1 KiB take in memory. Each number is the median of
//! several runs; nothing is asserted.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_store::{Body, Change, Config, Engine, Header, MemoryEngine, SledEngine, Store, Transaction};

const RUNS: usize = 5;

type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let directory = std::env::args().nth(1).unwrap_or_else(|| "target".into());
    runtime.block_on(measure(Path::new(&directory)))
}

async fn measure(parent: &Path) -> Fallible {
    memory_of_records(parent).await?;
    for writers in [1, 64] {
        let mut rates = Vec::new();
        for _ in 0..RUNS {
            rates.push(creates_per_second(parent, writers).await?);
        }
        println!("durable creates of 1 KiB, {writers} writers: {:.0}/s", median(rates));
    }
    let store = filled(Arc::new(MemoryEngine::new())).await?;
    let list = || {
        let started = Instant::now();
        let snapshot = store.snapshot();
        let bytes: usize = snapshot.range("pods/", None).map(|record| record.json.len()).sum();
        (started.elapsed(), bytes)
    };
    let lists: Vec<f64> = (0..RUNS).map(|_| micros(list().0)).collect();
    println!(
        "snapshot and range over {} records: {:.0} us",
        store.snapshot().count("pods/"),
        median(lists)
    );
    let mut fan_outs = Vec::new();
    for _ in 0..RUNS {
        fan_outs.push(micros(fan_out(&store, 100, 1_000).await?));
    }
    println!(
        "1,000 events to each of 100 watchers, commits included: {:.1} ms",
        median(fan_outs) / 1_000.0
    );
    Ok(())
}

fn open(engine: Arc<dyn Engine>) -> Fallible<Store> {
    Ok(Store::open(engine, |_, _| Header::default(), Config::default())?)
}

fn create(n: usize) -> Transaction {
    let head = r#"{"resourceVersion":""#;
    let json = format!(r#"{head}","data":"{}"}}"#, "x".repeat(990)).into_bytes();
    let body = Body {
        json,
        revision_at: head.len(),
    };
    let key = format!("pods/default/pod-{n:06}");
    Transaction {
        expect: Vec::new(),
        changes: vec![Change::Put {
            key: key.into(),
            body,
            header: Header::default(),
        }],
    }
}

/// Creates from `writers` tasks for about a second, over a new sled store.
async fn creates_per_second(parent: &Path, writers: usize) -> Fallible<f64> {
    let directory = tempfile::tempdir_in(parent)?;
    let store = open(Arc::new(SledEngine::open(directory.path())?))?;
    let started = Instant::now();
    let writer = |writer: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut count = 0;
            while started.elapsed() < Duration::from_secs(1) {
                store.commit(create(writer * 100_000 + count)).await?;
                count += 1;
            }
            Ok::<usize, coracle_store::CommitError>(count)
        })
    };
    let tasks: Vec<_> = (0..writers).map(writer).collect();
    let mut total = 0;
    for task in tasks {
        total += task.await??;
    }
    let rate = total as f64 / started.elapsed().as_secs_f64();
    store.close().await;
    Ok(rate)
}

async fn filled(engine: Arc<dyn Engine>) -> Fallible<Store> {
    let store = open(engine)?;
    // Few at a time, so that memory shows what the store holds and not what waits.
    for hundred in 0..100 {
        let creates = (0..100).map(|n| store.commit(create(hundred * 100 + n)));
        for result in futures::future::join_all(creates).await {
            result?;
        }
    }
    Ok(store)
}

/// The time until all watchers have read all events, one transaction each.
async fn fan_out(store: &Store, watchers: usize, events: usize) -> Fallible<Duration> {
    let from = store.snapshot().revision();
    let mut tasks = Vec::new();
    for _ in 0..watchers {
        let mut watch = store.watch("pods/", from)?;
        tasks.push(tokio::spawn(async move {
            for _ in 0..events {
                if !matches!(watch.next().await, Some(Ok(_))) {
                    return false;
                }
            }
            true
        }));
    }
    let started = Instant::now();
    for result in futures::future::join_all((0..events).map(|n| store.commit(create(n)))).await {
        result?;
    }
    for task in tasks {
        if !task.await? {
            return Err("a watcher fell behind".into());
        }
    }
    Ok(started.elapsed())
}

async fn memory_of_records(parent: &Path) -> Fallible {
    let directory = tempfile::tempdir_in(parent)?;
    let empty = resident_kib();
    let kept = filled(Arc::new(MemoryEngine::new())).await?;
    let before = resident_kib();
    let store = filled(Arc::new(SledEngine::open(directory.path())?)).await?;
    let written = resident_kib();
    store.close().await;
    let started = Instant::now();
    let store = open(Arc::new(SledEngine::open(directory.path())?))?;
    println!(
        "open with 10,000 records in the log: {:.0} ms",
        micros(started.elapsed()) / 1_000.0
    );
    drop(kept);
    if let (Some(empty), Some(before), Some(written)) = (empty, before, written) {
        let (memory, sled) = (before.saturating_sub(empty), written.saturating_sub(before));
        println!("10,000 records of 1 KiB: {memory} KiB resident with the memory engine, {sled} KiB with sled");
    }
    store.close().await;
    Ok(())
}

/// Resident memory where /proc tells it.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
