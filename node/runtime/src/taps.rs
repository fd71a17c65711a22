//! Those who watch a container's output beside its log, as attach does.
//!
//! A container never waits for them: one who reads too slowly is let go and sees the end of the stream, while the log, which
//! misses nothing, goes on.
//!
//! A terminal keeps the line in which the cursor stands for who attaches later: a prompt is written once, and who came after it
//! would face an empty screen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::limits;
use crate::pipe::{PipeReader, PipeWriter, pipe};
use crate::spec::LogSink;

/// The standard streams of a container, as someone who attached to it has them.
pub struct Attached {
    /// Standard input, and whether it ends with the first who attaches.
    pub stdin: Option<(PipeWriter, bool)>,
    /// Standard output from now on; of a terminal, after what its last line holds already.
    pub stdout: PipeReader,
    /// Standard error from now on.
    pub stderr: PipeReader,
}

/// The watchers of one container.
#[derive(Default)]
pub(crate) struct Taps {
    terminal: bool,
    /// Whether there is any, so that a container without costs one load per write.
    any: AtomicBool,
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    list: Vec<[PipeWriter; 2]>,
    /// What a terminal was sent since the last end of a line.
    line: Vec<u8>,
    ended: bool,
}

impl Taps {
    /// Nobody watches yet.
    pub(crate) fn new(terminal: bool) -> Self {
        Self {
            terminal,
            ..Self::default()
        }
    }

    /// A new watcher of both streams; `None` when there are too many.
    pub(crate) fn tap(&self) -> Option<(PipeReader, PipeReader)> {
        let ((out, stdout), (err, stderr)) = (pipe(), pipe());
        let mut watchers = self.watchers.lock();
        if watchers.list.len() >= limits::ATTACHED {
            return None;
        }
        if !watchers.ended {
            if !watchers.line.is_empty() {
                out.try_send(Bytes::copy_from_slice(&watchers.line));
            }
            watchers.list.push([out, err]);
            self.any.store(true, Ordering::Release);
        }
        Some((stdout, stderr))
    }

    /// The container has ended: so do its streams.
    pub(crate) fn end(&self) {
        let mut watchers = self.watchers.lock();
        watchers.ended = true;
        watchers.list.clear();
    }

    fn write(&self, stderr: bool, bytes: &[u8]) {
        if !self.terminal && !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut watchers = self.watchers.lock();
        if self.terminal {
            watchers.remember(bytes);
        }
        let bytes = Bytes::copy_from_slice(bytes);
        watchers.list.retain(|[out, err]| {
            // A terminal has one stream for both.
            let watcher = if stderr && !self.terminal { err } else { out };
            watcher.try_send(bytes.clone())
        });
        self.any.store(!watchers.list.is_empty(), Ordering::Release);
    }
}

impl Watchers {
    /// Keeps the end of what a terminal shows.
    fn remember(&mut self, bytes: &[u8]) {
        let mut lines = bytes.rsplit(|byte| *byte == b'\n');
        let begun = lines.next().unwrap_or_default();
        if lines.next().is_some() {
            self.line.clear();
        }
        self.line.extend_from_slice(begun);
        // A line grows so long by being drawn again and again: the older half of that is not missed.
        if let Some(past) = self.line.len().checked_sub(limits::TERMINAL_LINE_BYTES) {
            let half = past + limits::TERMINAL_LINE_BYTES / 2;
            let drawn = self.line.iter().skip(half).position(|byte| *byte == b'\r');
            self.line.drain(..drawn.map_or(self.line.len(), |drawn| half + drawn));
        }
    }
}

/// Standard output, to the log and to the watchers.
pub(crate) fn stdout(log: Arc<dyn LogSink>, taps: &Arc<Taps>) -> Arc<dyn LogSink> {
    let taps = taps.clone();
    Arc::new(Tee {
        log,
        taps,
        stderr: false,
    })
}

/// Standard error, to the log and to the watchers.
pub(crate) fn stderr(log: Arc<dyn LogSink>, taps: &Arc<Taps>) -> Arc<dyn LogSink> {
    let taps = taps.clone();
    Arc::new(Tee {
        log,
        taps,
        stderr: true,
    })
}

struct Tee {
    log: Arc<dyn LogSink>,
    taps: Arc<Taps>,
    stderr: bool,
}

impl LogSink for Tee {
    fn write(&self, bytes: &[u8]) {
        self.log.write(bytes);
        self.taps.write(self.stderr, bytes);
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.log.poll_ready(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_sees_what_comes_after_it_and_the_end() {
        let taps = Taps::default();
        taps.write(false, b"before");
        let (stdout, stderr) = taps.tap().unwrap();
        taps.write(false, b"out");
        taps.write(true, b"err");
        taps.end();
        assert_eq!(stdout.recv().await.unwrap(), "out");
        assert_eq!(stdout.recv().await, None);
        assert_eq!(stderr.recv().await.unwrap(), "err");
        assert_eq!(stderr.recv().await, None);
    }

    #[tokio::test]
    async fn who_comes_to_a_terminal_finds_the_line_where_the_cursor_is() {
        let shown = async |taps: &Taps| {
            let (stdout, _stderr) = taps.tap().unwrap();
            taps.write(false, b"|");
            String::from_utf8(stdout.recv().await.unwrap().to_vec()).unwrap()
        };
        let taps = Taps::new(true);
        taps.write(false, b"welcome\n/ ");
        taps.write(true, b"# ");
        assert_eq!(shown(&taps).await, "/ # ");
        taps.write(false, b"ls\nfiles\n");
        assert_eq!(shown(&taps).await, "|");
        for _ in 0..limits::TERMINAL_LINE_BYTES {
            taps.write(false, b"\r/ # text");
        }
        let line = shown(&taps).await;
        assert!(
            line.len() <= limits::TERMINAL_LINE_BYTES && line.starts_with("\r/ # text\r"),
            "{line}"
        );
        taps.write(false, &vec![b'x'; limits::TERMINAL_LINE_BYTES]);
        assert_eq!(shown(&taps).await, "|");
    }

    #[tokio::test]
    async fn a_watcher_that_does_not_read_is_let_go() {
        let taps = Taps::default();
        let (stdout, _stderr) = taps.tap().unwrap();
        let piece = vec![b'x'; limits::PIPE_BYTES];
        taps.write(false, &piece);
        taps.write(false, &piece);
        assert!(!taps.any.load(Ordering::Acquire));
        assert_eq!(stdout.recv().await.unwrap().len(), piece.len());
        assert_eq!(stdout.recv().await, None);
    }
}
