//! What this process has of the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Memory and handles.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Open files, sockets and the like.
    pub handles: usize,
}

impl Usage {
    /// What it has now.
    pub fn now() -> Self {
        Self {
            memory_bytes: status("VmRSS:"),
            handles: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        }
    }
}

/// The most that it has in a time.
pub struct Peak {
    stop: Arc<AtomicBool>,
    handles: JoinHandle<usize>,
}

impl Peak {
    pub fn begin() -> Self {
        // Has the system begin anew with the highest amount of memory.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let handles = std::thread::spawn(move || {
            let mut most = 0;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(Usage::now().handles);
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        Self { stop, handles }
    }

    pub fn end(self) -> Usage {
        self.stop.store(true, Ordering::Relaxed);
        Usage {
            memory_bytes: status("VmHWM:"),
            handles: self.handles.join().unwrap(),
        }
    }
}

/// A line of the process's status, in bytes.
fn status(line: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = text.lines().find_map(|text| text.strip_prefix(line));
    let kibibytes = found.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or_default() << 10
}
