//! What this process takes of the machine: memory and open handles, now and at their peak.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, thread};

/// How often a watch looks.
const PERIOD: Duration = Duration::from_millis(5);

/// Bytes of memory of the machine that this process occupies.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

/// Handles that this process has open.
pub fn open_handles() -> u64 {
    fs::read_dir("/proc/self/fd").unwrap().count() as u64
}

/// A thread that looks all the while, so that no peak is missed by a runtime that is busy.
pub struct Watch {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
    /// What it was at the beginning.
    pub before: Amounts,
}

#[derive(Debug, Clone, Copy)]
pub struct Amounts {
    pub resident_bytes: u64,
    pub handles: u64,
}

impl Amounts {
    pub fn now() -> Self {
        Self {
            resident_bytes: resident_bytes(),
            handles: open_handles(),
        }
    }
}

#[derive(Default)]
struct State {
    over: AtomicBool,
    resident_bytes: AtomicU64,
    handles: AtomicU64,
}

impl State {
    fn look(&self) {
        let now = Amounts::now();
        self.resident_bytes.fetch_max(now.resident_bytes, Ordering::Relaxed);
        self.handles.fetch_max(now.handles, Ordering::Relaxed);
    }
}

impl Watch {
    pub fn start() -> Self {
        let state = Arc::new(State::default());
        let watched = state.clone();
        let thread = thread::spawn(move || {
            while !watched.over.load(Ordering::Relaxed) {
                watched.look();
                thread::sleep(PERIOD);
            }
        });
        Self {
            state,
            thread: Some(thread),
            before: Amounts::now(),
        }
    }

    /// The most that there was.
    pub fn peak(&self) -> Amounts {
        self.state.look();
        Amounts {
            resident_bytes: self.state.resident_bytes.load(Ordering::Relaxed),
            handles: self.state.handles.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
