//! What this process holds of its system: memory and open handles, now and at their peak.

use std::{
    fs, io,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::Serialize;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// What the process holds; nothing where its system does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Bytes of memory in use.
    pub memory_bytes: Option<u64>,
    /// Handles that are open.
    pub handles: Option<usize>,
}

impl Held {
    /// What is held now.
    #[must_use]
    pub fn now() -> Self {
        Self {
            memory_bytes: memory_bytes(),
            handles: handles(),
        }
    }

    /// How much more this is than what was held before.
    #[must_use]
    pub fn over(self, before: Self) -> Self {
        let memory = self.memory_bytes.zip(before.memory_bytes);
        let handles = self.handles.zip(before.handles);
        Self {
            memory_bytes: memory.map(|(now, then)| now.saturating_sub(then)),
            handles: handles.map(|(now, then)| now.saturating_sub(then)),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            handles: self.handles.max(other.handles),
        }
    }
}

fn handles() -> Option<usize> {
    let of_process = "/proc/self/fd";
    // Linux says how many there are since 6.2. To list thousands takes a millisecond, and who watches must not be felt.
    match usize::try_from(fs::metadata(of_process).ok()?.len()) {
        Ok(0) | Err(_) => Some(fs::read_dir(of_process).ok()?.count()),
        told => told.ok(),
    }
}

fn memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes << 10)
}

/// Waits until no more handles are open than these, or for so long; what is held then.
pub async fn settled(handles: Option<usize>, patience: Duration) -> Held {
    let end = Instant::now() + patience;
    loop {
        let now = Held::now();
        if now.handles <= handles || Instant::now() > end {
            return now;
        }
        // Nothing tells of a handle that is closed.
        tokio::time::sleep(LOOK).await;
    }
}

/// A thread that looks all the while, so that no peak is missed by a runtime that is busy.
pub struct Watch {
    _over: mpsc::Sender<()>,
    thread: JoinHandle<Held>,
}

impl Watch {
    /// Begins to look.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start() -> io::Result<Self> {
        let (over, told) = mpsc::channel::<()>();
        let watch = move || {
            let mut peak = Held::now();
            while told.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                peak = peak.max(Held::now());
            }
            peak.max(Held::now())
        };
        let thread = thread::Builder::new().name("coracle-watch".into()).spawn(watch)?;
        Ok(Self { _over: over, thread })
    }

    /// Ends the watch: the most that was held.
    ///
    /// # Errors
    /// When the thread has panicked.
    pub fn peak(self) -> io::Result<Held> {
        let Self { _over: over, thread } = self;
        drop(over);
        thread.join().map_err(|_| io::Error::other("the watch has panicked"))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_peak_stays_when_what_made_it_is_gone() {
        // Other tests of this process open and close files too, but not that many.
        const MANY: usize = 200;
        let before = Held::now();
        let watch = Watch::start().unwrap();
        let files: Vec<_> = (0..MANY)
            .map(|_| fs::File::open("/proc/self/status").unwrap())
            .collect();
        let held = Held::now();
        // The watch has looked at least once with all of them open when it has looked twice.
        thread::sleep(LOOK * 10);
        drop(files);
        let peak = watch.peak().unwrap();
        assert!(held.over(before).handles.unwrap() > MANY / 2);
        assert!(peak.over(before).handles.unwrap() > MANY / 2);
        assert!(peak.memory_bytes.unwrap() > 0);
    }
}
