//! Reads a log file as `kubectl logs` asks for it: from a point in time or a number of lines before the end, and on as it grows.
//!
//! A follower holds a file open, so that a rotation takes nothing from it, and sleeps until a write wakes it.

use super::line;
use super::{LogFile, rotated};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Read at once: big enough for throughput, small enough that a thousand followers hold 64 MB at most.
const CHUNK_BYTES: usize = 64 << 10;

/// What to read of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on as the log grows, until the container ends.
    pub follow: bool,
    /// The start before the current one.
    pub previous: bool,
    /// Only what was written in the last so many seconds.
    pub since_seconds: Option<i64>,
    /// Only what was written at this time or later, in microseconds since 1970.
    pub since_micros: Option<i64>,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Only the last so many lines.
    pub tail_lines: Option<u64>,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The node does not have the pod.
    #[error("pod {pod:?} is not on this node")]
    NoPod {
        /// The pod's name.
        pod: String,
    },
    /// The pod has no such container.
    #[error("container {container} is not valid for pod {pod}")]
    NoContainer {
        /// The container's name.
        container: String,
        /// The pod's name.
        pod: String,
    },
    /// It never ran.
    #[error("container {container:?} in pod {pod:?} is waiting to start: {reason}")]
    Waiting {
        /// The container's name.
        container: String,
        /// The pod's name.
        pod: String,
        /// Why it waits.
        reason: String,
    },
    /// It ran only once.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// The container's name.
        container: String,
        /// The pod's name.
        pod: String,
    },
    /// The file system refused.
    #[error("cannot read the log {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A stream over the log at `path`; `live` is set while its container runs.
pub fn read(
    path: PathBuf,
    live: Option<Arc<LogFile>>,
    options: &LogOptions,
    now: Timestamp,
) -> Result<BoxStream<'static, io::Result<Bytes>>, LogError> {
    // No rotation between looking at the generation and opening the files that belong to it.
    let writers_wait = live.as_ref().map(|live| live.state.lock());
    let generation = live.as_ref().map_or(0, |live| live.generation.load(Ordering::Acquire));
    let mut files = VecDeque::new();
    for path in [rotated(&path), path.clone()] {
        match File::open(&path) {
            Ok(file) => files.push_back(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(LogError::Io { path, source }),
        }
    }
    drop(writers_wait);
    if let Some(lines) = options.tail_lines {
        seek_to_tail(&mut files, lines).map_err(|source| LogError::Io {
            path: path.clone(),
            source,
        })?;
    }
    let follower = live.filter(|_| options.follow);
    let reader = Reader {
        path,
        opened_current: !files.is_empty(),
        files,
        live: follower,
        generation,
        pending: Vec::new(),
        filter: Filter::new(options, now),
    };
    Ok(stream::unfold(reader, |mut reader| async move {
        match reader.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), reader)),
            Ok(None) => None,
            Err(error) => {
                reader.filter.left = Some(0);
                Some((Err(error), reader))
            }
        }
    })
    .boxed())
}

struct Reader {
    path: PathBuf,
    /// What is left to read, the oldest first; the last one is kept open while following.
    files: VecDeque<File>,
    /// Whether the file that grows is among `files`.
    opened_current: bool,
    live: Option<Arc<LogFile>>,
    generation: u64,
    /// The beginning of a record whose end was not read yet.
    pending: Vec<u8>,
    filter: Filter,
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.filter.left == Some(0) {
                return Ok(None);
            }
            let live = self.live.clone();
            // Order matters: what is written after this point wakes us, so nothing between the read and the wait is missed.
            let changed = live.as_ref().map(|live| live.changed.notified());
            let mut changed = std::pin::pin!(changed);
            if let Some(changed) = changed.as_mut().as_pin_mut() {
                changed.enable();
            }
            let ended = live.as_ref().is_none_or(|live| live.ended.load(Ordering::Acquire));
            let generation = live
                .as_ref()
                .map_or(self.generation, |live| live.generation.load(Ordering::Acquire));
            let read = self.read_chunk(generation)?;
            if read {
                let out = self.filter.records(&mut self.pending);
                if !out.is_empty() {
                    return Ok(Some(Bytes::from(out)));
                }
            } else if ended {
                return Ok(None);
            } else if let Some(changed) = changed.as_pin_mut() {
                changed.await;
            }
        }
    }

    /// Reads on; false when there is nothing to read now.
    fn read_chunk(&mut self, generation: u64) -> io::Result<bool> {
        loop {
            if let Some(file) = self.files.front_mut() {
                // The page cache answers: a hop to another thread would cost more than the copy.
                let start = self.pending.len();
                let read = file.take(CHUNK_BYTES as u64).read_to_end(&mut self.pending)?;
                debug_assert_eq!(self.pending.len(), start + read);
                if read > 0 {
                    return Ok(true);
                }
            }
            if self.files.len() > 1 {
                self.files.pop_front();
            } else if generation != self.generation || !self.opened_current {
                // Rotated since, and the old file was read to its end after that; or there was no file yet.
                let Some(file) = open(&self.path)? else {
                    return Ok(false);
                };
                self.generation = generation;
                self.opened_current = true;
                self.files.clear();
                self.files.push_back(file);
            } else {
                return Ok(false);
            }
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which records come through and how they look.
struct Filter {
    since: Option<Timestamp>,
    timestamps: bool,
    /// Bytes that may still be given out.
    left: Option<u64>,
    at_line_start: bool,
}

impl Filter {
    fn new(options: &LogOptions, now: Timestamp) -> Self {
        let by_age = options
            .since_seconds
            .and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
        Self {
            since: options
                .since_micros
                .and_then(|at| Timestamp::from_microsecond(at).ok())
                .max(by_age),
            timestamps: options.timestamps,
            left: options.limit_bytes,
            at_line_start: true,
        }
    }

    /// Takes the complete records off the front of `pending`.
    fn records(&mut self, pending: &mut Vec<u8>) -> Vec<u8> {
        let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let later = pending.split_off(end + 1);
        let complete = std::mem::replace(pending, later);
        let mut out = Vec::with_capacity(complete.len());
        for record in complete.split(|byte| *byte == b'\n').filter_map(line::parse) {
            self.record(&record, &mut out);
        }
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        out
    }

    fn record(&mut self, record: &line::Record<'_>, out: &mut Vec<u8>) {
        if let Some(since) = self.since
            && record.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return;
        }
        if self.timestamps && self.at_line_start {
            out.extend_from_slice(record.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(record.text);
        if record.full {
            out.push(b'\n');
        }
        self.at_line_start = record.full;
    }
}

/// Moves the files to where the last `lines` records begin.
fn seek_to_tail(files: &mut VecDeque<File>, mut lines: u64) -> io::Result<()> {
    for index in (0..files.len()).rev() {
        let Some(file) = files.get_mut(index) else { break };
        let (offset, found) = tail_offset(file, lines)?;
        file.seek(SeekFrom::Start(offset))?;
        lines -= found;
        if lines == 0 {
            files.drain(..index);
            break;
        }
    }
    Ok(())
}

/// Where the last `lines` records of a file begin, and how many of them there are.
fn tail_offset(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let mut position = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok((position, 0));
    }
    let mut found = 0;
    let mut block = vec![0; CHUNK_BYTES];
    let end = position;
    while position > 0 {
        let size = position.min(CHUNK_BYTES as u64);
        position -= size;
        file.seek(SeekFrom::Start(position))?;
        let Some(block) = block.get_mut(..usize::try_from(size).unwrap_or(CHUNK_BYTES)) else {
            break;
        };
        file.read_exact(block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = position + at as u64 + 1;
            if after == end {
                continue; // the newline that ends the last record
            }
            found += 1;
            if found == lines {
                return Ok((after, found));
            }
        }
    }
    Ok((0, found + u64::from(end > 0)))
}
