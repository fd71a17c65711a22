//! What containers print, on disk, in the format of the container runtime interface.
//!
//! `<dir>/<namespace>_<pod>_<uid>/<container>/<restart>.log`, one file a start; the current and the previous start are kept.
//! A write goes straight to the file (the page cache): there is no queue that could grow and no task a container. Partial lines
//! are held back until their end or 16 KiB. Followers are woken by writes. Files are opened at the first output and at most
//! [`MAX_OPEN_FILES`] stay open on a node, so that thousands of quiet pods hold no descriptors.

mod line;
mod read;

pub use read::{LogError, LogOptions};

use crate::clock::Clock;
use bytes::Bytes;
use coracle_runtime::LogSink;
use futures::stream::BoxStream;
use line::Stream;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// A file is rotated at this size: the kubelet's default.
const MAX_FILE_BYTES: u64 = 10 << 20;

/// A line longer than this is written in parts: what container runtimes do, and what bounds the memory of a container that never
/// ends a line.
const MAX_PARTIAL_BYTES: usize = 16 << 10;

/// What the name of a profile ends in, which lies beside the log.
pub const PROFILE: &str = "profile.json";

/// What the name of a core dump ends in, which lies there too.
pub const CORE_DUMP: &str = "core.wasm";

/// How many log files stay open. A process has 1,024 descriptors by default; a quarter of them keeps the busy logs of a node open.
const MAX_OPEN_FILES: usize = 256;

/// Which container's log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogTarget {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// The container's name.
    pub container: String,
}

/// The logs of a node.
pub struct Logs {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    /// In order of their paths, so that those of one pod are found without a look at all others.
    live: Mutex<BTreeMap<PathBuf, Weak<LogFile>>>,
    open: Arc<OpenFiles>,
}

impl Logs {
    /// Logs under `dir`.
    pub fn new(dir: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self {
            dir,
            clock,
            live: Mutex::default(),
            open: Arc::default(),
        }
    }

    /// The log of a new start of a container; makes no file before there is output.
    pub fn start(&self, target: &LogTarget, restart: u32) -> Arc<LogFile> {
        let dir = self.container_dir(target);
        forget_older(&dir, restart);
        let path = dir.join(format!("{restart}.log"));
        let log = Arc::new(LogFile {
            path: path.clone(),
            clock: self.clock.clone(),
            state: Mutex::default(),
            changed: Notify::new(),
            ended: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            open: self.open.clone(),
        });
        let mut live = self.live.lock();
        forget(&mut live, &dir, |earlier| earlier.strong_count() == 0);
        live.insert(path, Arc::downgrade(&log));
        log
    }

    /// Reads the log of one start of a container.
    ///
    /// # Errors
    /// When the file cannot be read; a start that printed nothing has an empty log.
    pub fn read(
        &self,
        target: &LogTarget,
        restart: u32,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, LogError> {
        let path = self.container_dir(target).join(format!("{restart}.log"));
        let live = self.live.lock().get(&path).and_then(Weak::upgrade);
        read::read(path, live, options, self.clock.now())
    }

    /// Deletes the logs of a pod.
    pub fn remove_pod(&self, namespace: &str, pod: &str, uid: &str) {
        let dir = self.dir.join(format!("{namespace}_{pod}_{uid}"));
        forget(&mut self.live.lock(), &dir, |_| true);
        if let Err(error) = fs::remove_dir_all(&dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %dir.display(), %error, "cannot delete the logs of a pod");
        }
    }

    /// The names of the directories of pods that have logs here.
    pub fn pods(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Deletes a directory that [`Logs::pods`] named.
    pub fn remove_named(&self, name: &str) {
        let _ = fs::remove_dir_all(self.dir.join(name));
    }

    fn container_dir(&self, target: &LogTarget) -> PathBuf {
        let LogTarget {
            namespace,
            pod,
            uid,
            container,
        } = target;
        self.dir.join(format!("{namespace}_{pod}_{uid}")).join(container)
    }
}

/// Forgets those of the logs below a directory that `which` says.
fn forget(live: &mut BTreeMap<PathBuf, Weak<LogFile>>, dir: &Path, which: impl Fn(&Weak<LogFile>) -> bool) {
    let below = live.range::<Path, _>((Bound::Included(dir), Bound::Unbounded));
    let below = below.take_while(|(path, _)| path.starts_with(dir));
    let below: Vec<PathBuf> = below
        .filter(|(_, log)| which(log))
        .map(|(path, _)| path.clone())
        .collect();
    for path in below {
        live.remove(&path);
    }
}

/// Where a rotated file goes.
fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// Only the current and the previous start can be asked for.
fn forget_older(dir: &Path, restart: u32) {
    let Some(oldest) = restart.checked_sub(2) else { return };
    let path = dir.join(format!("{oldest}.log"));
    let _ = fs::remove_file(rotated(&path));
    let _ = fs::remove_file(path.with_extension(PROFILE));
    let _ = fs::remove_file(path.with_extension(CORE_DUMP));
    let _ = fs::remove_file(path);
}

/// The log of one start of a container.
pub struct LogFile {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    state: Mutex<FileState>,
    changed: Notify,
    ended: AtomicBool,
    generation: AtomicU64,
    open: Arc<OpenFiles>,
}

#[derive(Default)]
struct FileState {
    file: Option<File>,
    len: u64,
    partial: [Vec<u8>; 2],
    failed: bool,
}

impl LogFile {
    /// A file that belongs to the same start of the container, and goes with its log.
    pub fn beside(&self, extension: &str) -> PathBuf {
        self.path.with_extension(extension)
    }

    /// Where standard output goes.
    pub fn stdout(self: &Arc<Self>) -> Arc<dyn LogSink> {
        Arc::new(Sink {
            log: self.clone(),
            stream: Stream::Stdout,
        })
    }

    /// Where standard error goes.
    pub fn stderr(self: &Arc<Self>) -> Arc<dyn LogSink> {
        Arc::new(Sink {
            log: self.clone(),
            stream: Stream::Stderr,
        })
    }

    /// The container ended: writes out what was held back and lets followers end.
    pub fn end(&self) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let mut out = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let partial = std::mem::take(state.partial(stream));
            if !partial.is_empty() {
                line::write(&mut out, now, stream, true, &[&partial]);
            }
        }
        self.append(&mut state, &out);
        state.file = None;
        drop(state);
        self.ended.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// The end of what was written: at most so many lines and bytes.
    pub fn tail(&self, lines: usize, bytes: usize) -> String {
        // Time, stream and tag take some forty bytes of a record.
        let wanted = (bytes + lines * 64) as u64;
        let read = || {
            let mut file = File::open(&self.path)?;
            let start = file.metadata()?.len().saturating_sub(wanted);
            file.seek(io::SeekFrom::Start(start))?;
            let mut end = Vec::new();
            file.read_to_end(&mut end).map(|_| end)
        };
        let end: Vec<u8> = read().unwrap_or_default();
        let mut text = Vec::new();
        let records: Vec<_> = end.split(|byte| *byte == b'\n').filter_map(line::parse).collect();
        let skipped = records.len().saturating_sub(lines);
        for record in records.into_iter().skip(skipped) {
            text.extend_from_slice(record.text);
            if record.full {
                text.push(b'\n');
            }
        }
        let cut = text.len().saturating_sub(bytes);
        String::from_utf8_lossy(text.get(cut..).unwrap_or_default()).into_owned()
    }

    fn write(self: &Arc<Self>, stream: Stream, bytes: &[u8]) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (text, after) = rest.split_at(end);
            let partial = state.partial(stream);
            line::write(&mut out, now, stream, true, &[partial, text]);
            partial.clear();
            rest = after.get(1..).unwrap_or_default();
        }
        let partial = state.partial(stream);
        partial.extend_from_slice(rest);
        while partial.len() >= MAX_PARTIAL_BYTES {
            let later = partial.split_off(MAX_PARTIAL_BYTES);
            line::write(&mut out, now, stream, false, &[partial]);
            *partial = later;
        }
        if out.is_empty() {
            return;
        }
        let opened = state.file.is_none();
        self.append(&mut state, &out);
        drop(state);
        if opened {
            self.open.opened(self);
        }
        self.changed.notify_waiters();
    }

    /// A log that cannot be written must not end a container: it is said once, and the output is lost.
    fn append(&self, state: &mut FileState, out: &[u8]) {
        if out.is_empty() {
            return;
        }
        if let Err(error) = self.try_append(state, out) {
            state.file = None;
            if !std::mem::replace(&mut state.failed, true) {
                tracing::error!(path = %self.path.display(), %error, "cannot write a container's log; its output is lost");
            }
        }
    }

    fn try_append(&self, state: &mut FileState, out: &[u8]) -> io::Result<()> {
        if state.len + out.len() as u64 > MAX_FILE_BYTES && state.len > 0 {
            state.file = None;
            fs::rename(&self.path, rotated(&self.path))?;
            state.len = 0;
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        let file = match &mut state.file {
            Some(file) => file,
            empty => {
                let file = open_for_append(&self.path)?;
                state.len = file.metadata()?.len();
                empty.insert(file)
            }
        };
        file.write_all(out)?;
        state.len += out.len() as u64;
        Ok(())
    }
}

impl FileState {
    fn partial(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [stdout, stderr] = &mut self.partial;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }
}

fn open_for_append(path: &Path) -> io::Result<File> {
    let open = || fs::OpenOptions::new().create(true).append(true).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir)?;
            }
            open()
        }
        result => result,
    }
}

struct Sink {
    log: Arc<LogFile>,
    stream: Stream,
}

impl LogSink for Sink {
    fn write(&self, bytes: &[u8]) {
        self.log.write(self.stream, bytes);
    }
}

/// The files that are open, the first one opened first.
#[derive(Default)]
struct OpenFiles {
    queue: Mutex<VecDeque<Weak<LogFile>>>,
}

impl OpenFiles {
    /// Closes the file opened longest ago when there are too many; its next write opens it again.
    fn opened(&self, log: &Arc<LogFile>) {
        let oldest = {
            let mut queue = self.queue.lock();
            queue.push_back(Arc::downgrade(log));
            if queue.len() > MAX_OPEN_FILES {
                queue.pop_front()
            } else {
                None
            }
        };
        if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade())
            && !Arc::ptr_eq(&oldest, log)
        {
            oldest.state.lock().file = None;
        }
    }
}

#[cfg(test)]
mod tests;
