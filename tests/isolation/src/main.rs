//! Measures every attack beside a neighbour and the API, and prints the table of docs/isolation.md.
//!
//! `cargo run --release -p coracle-isolation`, or with names of attacks after `--` only those; `crowd` is
//! all of them at once. With the command of the compiler it
//! is the node's compiler: a program that is not `coracle` has none.

// What fails here should be seen.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use coracle_isolation::attacks::{ATTACKS, Attack};
use coracle_isolation::scene::{Outcome, Room};
use coracle_runtime::Metering;

/// How long the neighbour is measured beside each attack: 600 questions.
const SPAN: Duration = Duration::from_secs(3);

/// How long it is measured beside fifty.
const CROWD_SPAN: Duration = Duration::from_secs(10);

/// Hostile pods at once.
const CROWD: usize = 50;

/// Objects that must not be lost.
const KEPT: usize = 200;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [command, metering, memory_bytes, cpu_seconds] = &args[..]
        && command == coracle_runtime::COMPILE_COMMAND
    {
        let metering = match metering.as_str() {
            "fuel" => Metering::Fuel,
            _ => Metering::Time,
        };
        let (memory_bytes, cpu_seconds) = (memory_bytes.parse().unwrap(), cpu_seconds.parse().unwrap());
        return ExitCode::from(coracle_runtime::compile_as_child(metering, memory_bytes, cpu_seconds));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure(&args));
    ExitCode::SUCCESS
}

/// Runs the attacks that are wanted, or all of them.
async fn measure(wanted: &[String]) {
    let chosen = |attack: &&Attack| wanted.is_empty() || wanted.iter().any(|name| name == attack.name);
    let room = Room::open(env::current_exe().unwrap()).await;
    let kept = room.fill(KEPT).await;
    let idle = room.neighbour.measure(SPAN).await;
    let build = if cfg!(debug_assertions) {
        "dev build"
    } else {
        "release build"
    };
    let cores = std::thread::available_parallelism().unwrap();
    println!(
        "{cores} cores, {build}; with nobody hostile the neighbour's p99 is {:.1} ms and the API's {:.1} ms.\n",
        idle.neighbour.p99_millis, idle.api.p99_millis
    );
    println!(
        "| a guest that | is seen as | memory over before | handles over before | come back | neighbour's p99 before, during | API's p99 |"
    );
    println!("|---|---|---|---|---|---|---|");
    for attack in ATTACKS.iter().filter(chosen) {
        let before = room.neighbour.measure(SPAN / 3).await;
        let Outcome {
            pods,
            measured,
            over,
            handles_came_back,
        } = room.run(&[*attack], SPAN).await;
        let seen = &pods[0];
        let wrong = if seen.as_expected { "" } else { " (NOT AS EXPECTED)" };
        let failed = match (&measured.neighbour.failure, &measured.api.failure) {
            (None, None) => String::new(),
            (why, api) => format!(
                ", {} without an answer ({why:?} {api:?})",
                measured.neighbour.failed + measured.api.failed
            ),
        };
        println!(
            "| {} | {}{wrong} | {} MiB | {} | {} | {:.1}, {:.1} ms{failed} | {:.1} ms |",
            attack.does,
            seen.words.replace('|', "/"),
            over.memory_bytes.unwrap() >> 20,
            over.handles.unwrap(),
            if handles_came_back { "yes" } else { "NO" },
            before.neighbour.p99_millis,
            measured.neighbour.p99_millis,
            measured.api.p99_millis,
        );
    }
    if wanted.is_empty() || wanted.iter().any(|name| name == "crowd") {
        crowd(&room, &kept).await;
    }
}

/// All kinds at once.
async fn crowd(room: &Room, kept: &[String]) {
    let before = room.neighbour.measure(SPAN).await;
    let attacks: Vec<Attack> = ATTACKS.iter().cycle().take(CROWD).copied().collect();
    let outcome = room.run(&attacks, CROWD_SPAN).await;
    let (neighbour, api) = (&outcome.measured.neighbour, &outcome.measured.api);
    println!(
        "\n{CROWD} hostile pods at once, all kinds: neighbour's p99 {:.1} ms, before {:.1} ms ({} answers, {} failed); API's p99 {:.1} ms ({} answers, {} failed); {} MiB and {} handles over before, which {}; {} of {CROWD} ended as alone; {} of {} objects as before.",
        neighbour.p99_millis,
        before.neighbour.p99_millis,
        neighbour.answered,
        neighbour.failed,
        api.p99_millis,
        api.answered,
        api.failed,
        outcome.over.memory_bytes.unwrap() >> 20,
        outcome.over.handles.unwrap(),
        if outcome.handles_came_back {
            "came back"
        } else {
            "DID NOT COME BACK"
        },
        outcome.pods.iter().filter(|seen| seen.as_expected).count(),
        room.kept().await.iter().filter(|line| kept.contains(line)).count(),
        kept.len(),
    );
}
