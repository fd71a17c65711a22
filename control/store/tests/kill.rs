//! kill -9 in the middle of a write load: every acknowledged write is found, no half one.
//!
//! The test starts itself as a child, which writes from several tasks and prints what was
//! acknowledged; the parent kills it at a random moment, opens the store and looks.
//!
//! Each transaction changes two keys of a pair to the same number, and every fourth deletes
//! a third key or creates it anew: a half transaction shows as a pair that differs. The history
//! is short, so that compactions are interrupted too.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test fails by a panic.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use coracle_store::{Body, Change, Config, Header, Key, Revision, SledEngine, Snapshot, Store, Transaction};

const CHILD_DIRECTORY: &str = "CORACLE_STORE_KILL_DIRECTORY";
const TEST: &str = "acknowledged_writes_survive_kill_9_and_none_is_half";
const KILLS: u64 = 20;
const WRITERS: u64 = 8;

#[test]
fn acknowledged_writes_survive_kill_9_and_none_is_half() {
    if let Some(directory) = std::env::var_os(CHILD_DIRECTORY) {
        write_until_killed(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    let mut total = 0;
    for round in 0..KILLS {
        // Spread over start, first writes, load and compaction.
        let delay = Duration::from_millis(5 + round * 37 % 190);
        // Half of the kills come after a good many writes, however slow the machine is.
        let lines = if round % 2 == 0 { 1 } else { 100 };
        total += run_and_kill(directory.path(), lines, delay, &mut acknowledged);
        acknowledged.check(directory.path());
    }
    assert!(
        total > 500,
        "only {total} writes were acknowledged; the load is no load"
    );
}

/// What the child said was durable: the highest revision and number of each writer.
#[derive(Default)]
struct Acknowledged {
    writers: HashMap<u64, (Revision, u64)>,
}

impl Acknowledged {
    fn add(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix("ack ") else {
            return false;
        };
        let numbers: Vec<u64> = rest.split(' ').map_while(|number| number.parse().ok()).collect();
        // A last line that the kill cut off has no end mark.
        let [writer, revision, number] = numbers[..] else {
            return false;
        };
        if !rest.ends_with(" end") {
            return false;
        }
        self.writers.insert(writer, (revision, number));
        true
    }

    fn check(&self, directory: &Path) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let store = open(directory);
        let snapshot = store.snapshot();
        for writer in 0..WRITERS {
            let (revision, acknowledged) = self.writers.get(&writer).copied().unwrap_or_default();
            assert!(snapshot.revision() >= revision, "revision {revision} is lost");
            let left = number(&snapshot, &format!("left/a/{writer}"));
            let right = number(&snapshot, &format!("right/a/{writer}"));
            assert_eq!(left, right, "half a transaction of writer {writer}");
            assert!(
                left >= acknowledged,
                "writer {writer}: {acknowledged} was acknowledged, {left} is there"
            );
            let third = snapshot.get(&format!("third/a/{writer}")).is_some();
            assert_eq!(
                third,
                third_exists(left),
                "half a transaction of writer {writer} at {left}"
            );
        }
        assert_events_lead_to(&store, &snapshot);
        runtime.block_on(store.close());
    }
}

/// The recent events, applied to the oldest list, give the newest.
fn assert_events_lead_to(store: &Store, snapshot: &Snapshot) {
    let oldest = store.compacted();
    let start = store.snapshot_at(oldest).unwrap();
    let mut list: HashMap<Key, Revision> = start.range("", None).map(|r| (r.key.clone(), r.revision)).collect();
    let mut watch = store.watch("", oldest).unwrap();
    let mut expected = oldest;
    while let Some(event) = watch.try_next() {
        let event = event.unwrap();
        assert!(
            event.revision == expected || event.revision == expected + 1,
            "a gap before {}",
            event.revision
        );
        expected = event.revision;
        match event.kind {
            coracle_store::EventKind::Put => list.insert(event.record.key.clone(), event.revision),
            coracle_store::EventKind::Delete => list.remove(&event.record.key),
        };
    }
    let now: HashMap<Key, Revision> = snapshot.range("", None).map(|r| (r.key.clone(), r.revision)).collect();
    assert_eq!((expected, list), (snapshot.revision(), now));
}

/// Runs a child on the directory until `delay` after it has printed some lines, of which the first is the test harness's
/// own, so that some kills hit the opening of the store; returns how many writes it acknowledged.
fn run_and_kill(directory: &Path, lines: usize, delay: Duration, acknowledged: &mut Acknowledged) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (printed, seen) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        lines
            // Nobody looks any more when enough were seen.
            .inspect(|_| printed.send(()).unwrap_or_default())
            .collect::<Vec<_>>()
    });
    for _ in 0..lines {
        seen.recv().unwrap();
    }
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = reader.join().unwrap();
    lines.iter().filter(|line| acknowledged.add(line)).count()
}

fn open(directory: &Path) -> Store {
    let config = Config {
        history_events: 400,
        ..Config::default()
    };
    let engine = SledEngine::open(directory).unwrap();
    Store::open(Arc::new(engine), |_, _| Header::default(), config).unwrap()
}

fn write_until_killed(directory: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let store = open(directory);
    for writer in 0..WRITERS {
        runtime.spawn(write_pairs(store.clone(), writer));
    }
    loop {
        std::thread::park();
    }
}

async fn write_pairs(store: Store, writer: u64) {
    let mut number = number(&store.snapshot(), &format!("left/a/{writer}"));
    loop {
        number += 1;
        let mut changes = vec![put("left", writer, number), put("right", writer, number)];
        match (third_exists(number - 1), third_exists(number)) {
            (false, true) => changes.push(put("third", writer, number)),
            (true, false) => changes.push(Change::Delete {
                key: key("third", writer),
                body: body(number),
            }),
            _ => {}
        }
        let committed = store
            .commit(Transaction {
                expect: Vec::new(),
                changes,
            })
            .await
            .unwrap();
        let line = format!("ack {writer} {} {number} end\n", committed.revision);
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

/// The third key of a pair comes and goes.
fn third_exists(number: u64) -> bool {
    number % 4 == 2 || number % 4 == 3
}

fn key(kind: &str, writer: u64) -> Key {
    Key::from(format!("{kind}/a/{writer}"))
}

fn put(kind: &str, writer: u64, number: u64) -> Change {
    Change::Put {
        key: key(kind, writer),
        body: body(number),
        header: Header::default(),
    }
}

fn body(number: u64) -> Body {
    let padding = "x".repeat(600);
    let head = format!(r#"{number} {padding} ""#);
    Body {
        revision_at: head.len(),
        json: format!(r#"{head}""#).into_bytes(),
    }
}

fn number(snapshot: &Snapshot, key: &str) -> u64 {
    let Some(record) = snapshot.get(key) else { return 0 };
    let text = std::str::from_utf8(&record.json).unwrap();
    assert!(
        text.ends_with(&format!(r#"x "{}""#, record.revision)),
        "the body is not whole: {text}"
    );
    text.split(' ').next().unwrap().parse().unwrap()
}
