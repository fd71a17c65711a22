//! Each greedy guest beside a neighbour that serves requests: the memory and handles of the host and how long the neighbour takes,
//! before, while and after the guest takes all it can get. In a program of its own, because it measures the whole process.
//!
//! `cargo test -p coracle-runtime --test greed -- --nocapture` prints the table of `docs/limits.md`.

#![cfg(target_os = "linux")]
// The parts that the tests share lie outside test functions, where the lints do not look for tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod usage;
#[allow(dead_code, reason = "the other tests need more of it")]
#[path = "../containers/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coracle_fixtures::greedy;
use coracle_runtime::{Mount, Quota};
use tokio::task::JoinHandle;
use usage::{Peak, Usage};
use world::{Pod, World};

/// What a process may keep of memory for what it does next, on a machine that does other things too.
const SLACK_BYTES: u64 = 96 << 20;

/// The same for handles.
const SLACK_HANDLES: usize = 16;

/// How long the neighbour is asked before and after.
const CALM: Duration = Duration::from_millis(250);

/// What a guest does.
enum Greed {
    /// It is the probe with these arguments and so many mebibytes, in a volume of 64 MiB.
    Probe(&'static [&'static str]),
    /// It is this program.
    Text(fn() -> String),
    /// As the probe, but it does not end by itself.
    Endless(&'static [&'static str]),
}

/// Everything that a guest can take, and a part of what it then says, or the reason of its end.
const CASES: [(&str, Greed, &str); 18] = [
    ("memory, limit 64 MiB", Greed::Probe(&["hog"]), "OOMKilled"),
    ("depth of calls", Greed::Probe(&["overflow"]), "stack"),
    ("CPU, two loops", Greed::Endless(&["spin"]), "Killed"),
    ("instances", Greed::Text(|| greedy::instances(10_000)), ""),
    ("memories", Greed::Text(|| greedy::memories(1000)), ""),
    (
        "elements of a table",
        Greed::Text(|| greedy::elements_of_a_table(100_000_000)),
        "",
    ),
    ("host objects", Greed::Text(|| greedy::timers(1_000_000)), ""),
    ("handles of components", Greed::Text(|| greedy::handles(10_000_000)), ""),
    (
        "entries of one poll",
        Greed::Text(|| greedy::entries_of_a_poll(100_000)),
        "",
    ),
    (
        "randomness at once",
        Greed::Text(|| greedy::bytes_of_randomness(1 << 21)),
        "",
    ),
    ("sockets", Greed::Probe(&["sockets"]), "sockets, then"),
    ("open files", Greed::Probe(&["open", "/v/f"]), "then QuotaExceeded"),
    ("space of a volume", Greed::Probe(&["fill", "/v/f"]), "then StorageFull"),
    ("names in a volume", Greed::Probe(&["names", "/v"]), "then StorageFull"),
    (
        "a listing of 16,000 names",
        Greed::Probe(&["entries", "/v"]),
        "16384 entries",
    ),
    ("bytes of one call", Greed::Probe(&["header", "33554432"]), "fuel"),
    ("headers of a message", Greed::Probe(&["headers"]), "headers, then"),
    (
        "requests under way",
        Greed::Probe(&["requests", "10.244.0.2:81"]),
        "ConnectionLimitReached",
    ),
];

/// What was seen in one of the three times.
#[derive(Debug)]
struct Seen {
    memory_bytes: u64,
    handles: usize,
    latencies: Vec<Duration>,
}

impl Seen {
    fn latency(&self, share: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort();
        let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or_default()
    }

    fn row(&self) -> String {
        let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
        format!(
            "{} MiB, {}, {:.1}/{:.1} ms",
            self.memory_bytes >> 20,
            self.handles,
            millis(self.latency(0.5)),
            millis(self.latency(0.99))
        )
    }
}

/// Asks the neighbour again and again.
struct Asking {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Duration>>,
}

impl Asking {
    fn begin(world: &Arc<World>, neighbour: &Arc<Pod>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (world, neighbour, ended) = (world.clone(), neighbour.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut latencies = Vec::new();
            while latencies.is_empty() || !ended.load(Ordering::Relaxed) {
                let start = Instant::now();
                let answer = world.get(&neighbour, 8080, "/healthz").await;
                assert!(answer.contains("200 OK"), "{answer}");
                latencies.push(start.elapsed());
                // As often as a probe that is in a hurry; more would only measure the machine.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            latencies
        });
        Self { stop, task }
    }

    async fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn calm(world: &Arc<World>, neighbour: &Arc<Pod>) -> Seen {
    let asking = Asking::begin(world, neighbour);
    tokio::time::sleep(CALM).await;
    let latencies = asking.end().await;
    let Usage { memory_bytes, handles } = Usage::now();
    Seen {
        memory_bytes,
        handles,
        latencies,
    }
}

/// Runs the guest to its end, and says what came of it.
async fn indulge(world: &World, greed: &Greed, name: &str) -> String {
    let (pod, dir) = (world.pod(name), tempfile::tempdir().unwrap());
    if name.starts_with("a listing") {
        (0..1 << 14).for_each(|n| drop(std::fs::File::create(dir.path().join(n.to_string())).unwrap()));
    }
    let volume = Mount {
        host: dir.path().to_owned(),
        guest: "/v".into(),
        read_only: false,
        quota: Some(Quota::of_directory(dir.path(), 64 << 20, None).unwrap()),
    };
    let probe = async |args: &[&str]| {
        let change = |spec: &mut coracle_runtime::ContainerSpec| {
            (spec.memory_limit_bytes, spec.mounts) = (Some(64 << 20), vec![volume.clone()]);
        };
        world.run_with(&pod, "probe", args, change).await
    };
    let guest = match greed {
        Greed::Probe(args) => probe(args).await,
        Greed::Endless(args) => {
            let pair = [probe(args).await, probe(args).await];
            tokio::time::sleep(CALM).await;
            let [guest, other] = pair;
            [&guest, &other].iter().for_each(|guest| guest.container.kill());
            other.exit().await;
            guest
        }
        Greed::Text(text) => {
            let wasm = wat::parse_str(text()).unwrap();
            let module = world.runtime.load(name, wasm.into()).await.unwrap();
            world.start(&pod, module, &[], |_| {})
        }
    };
    let exit = guest.exit().await;
    let last = |text: String| text.lines().last().unwrap_or_default().to_owned();
    let said = format!("{} {}", last(guest.out.text()), last(guest.err.text()));
    let ended = exit.message.unwrap_or_default();
    let words = format!("{} {} {ended}", said.trim(), exit.reason.as_str());
    assert!(exit.code != 0 || !said.trim().is_empty(), "{name} had all it wanted");
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_and_its_other_pods_are_as_before() {
    let world = Arc::new(World::new());
    let neighbour = Arc::new(world.pod("neighbour"));
    let server = world.run(&neighbour, "hello", &[]).await;
    server.out.wait_for("listening").await;
    // A server that does not answer, for those who ask too much.
    let silent = world.run(&neighbour, "probe", &["sink", "0.0.0.0:81"]).await;
    silent.out.wait_for("listening").await;
    println!("| what | before | while | after |\n|---|---|---|---|");
    for (name, greed, expected) in &CASES {
        let before = calm(&world, &neighbour).await;
        let (asking, peak) = (Asking::begin(&world, &neighbour), Peak::begin());
        let words = indulge(&world, greed, name).await;
        let Usage { memory_bytes, handles } = peak.end();
        let latencies = asking.end().await;
        let meanwhile = Seen {
            memory_bytes,
            handles,
            latencies,
        };
        let after = calm(&world, &neighbour).await;
        println!("| {name} | {} | {} | {} |", before.row(), meanwhile.row(), after.row());
        assert!(words.contains(expected), "{name}: {words}");
        assert!(
            after.memory_bytes <= before.memory_bytes + SLACK_BYTES && after.handles <= before.handles + SLACK_HANDLES,
            "{name}: {before:?} became {after:?}"
        );
    }
}

/// How long a guest takes to write 100 MiB and to read them again, in a volume without a limit and in one with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_costs_a_write_little() {
    let world = World::new();
    let pod = world.pod("writer");
    let dir = tempfile::tempdir().unwrap();
    let mut volume = Mount {
        host: dir.path().to_owned(),
        guest: "/v".into(),
        read_only: false,
        quota: None,
    };
    let copy = async |volume: &Mount| {
        let start = Instant::now();
        let change = |spec: &mut coracle_runtime::ContainerSpec| spec.mounts = vec![volume.clone()];
        let guest = world.run_with(&pod, "probe", &["copy", "/v/f", "100"], change).await;
        assert_eq!(guest.printed().await, format!("written\nread {}\n", 100 << 20));
        start.elapsed()
    };
    // The first one compiles the guest.
    copy(&volume).await;
    let (mut free, mut limited) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        volume.quota = None;
        free = free.min(copy(&volume).await);
        volume.quota = Some(Quota::of_directory(dir.path(), 128 << 20, None).unwrap());
        limited = limited.min(copy(&volume).await);
    }
    println!("100 MiB written and read: {free:?} without a limit, {limited:?} with one");
    assert!(limited < free * 3, "{limited:?} beside {free:?}");
}
