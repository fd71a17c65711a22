//! Many seeds, each in a process of its own.
//!
//! `CORACLE_SEEDS` says how many, `CORACLE_SEED` names one; those that once failed (`regressions.txt`) are always run.

use std::{
    env,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{chance, story};

/// Seeds in a plain run of the tests: enough that something is seen of each fault, few enough that nobody minds.
const SEEDS: u64 = 8;

fn number(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn wanted() -> Vec<u64> {
    if let Some(seed) = number("CORACLE_SEED") {
        return vec![seed];
    }
    let kept = include_str!("regressions.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let mut seeds: Vec<u64> = kept
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    seeds.extend(1..=number("CORACLE_SEEDS").unwrap_or(SEEDS));
    seeds
}

#[test]
fn every_seed_keeps_the_laws_and_comes_to_rest() {
    let seeds = wanted();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(seeds.len()) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let failure = run(*seed);
                    failed.lock().unwrap().extend(failure.map(|failure| (*seed, failure)));
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let Some((seed, failure)) = failed.first() else { return };
    let all: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    panic!(
        "{failure}\n{} of {} seeds failed: {all:?}. Run one alone with CORACLE_SEED={seed}; once mended, keep it in regressions.txt.",
        all.len(),
        seeds.len(),
    );
}

/// Runs a seed in a process of its own, and tells how it failed.
fn run(seed: u64) -> Option<String> {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "seeds::one_seed", "--ignored", "--nocapture"])
        .env("CORACLE_SEED", seed.to_string())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    (!output.status.success()).then(|| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("{}{}", text(&output.stdout), text(&output.stderr))
    })
}

#[test]
#[ignore = "one seed, in a process of its own: run by the test of all seeds"]
fn one_seed() {
    let seed = number("CORACLE_SEED").unwrap_or(1);
    if env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .without_time()
            .init();
    }
    chance::follow(seed);
    // In a thread that has drawn nothing yet.
    let broken = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(story::run(seed))
    });
    if let Some(broken) = broken.join().unwrap() {
        panic!("{broken}");
    }
}
