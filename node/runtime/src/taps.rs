//! Those who watch a container's output beside its log, as attach does.
//!
//! A container never waits for them: one who reads too slowly is let go and sees the end of the stream, while the log, which
//! misses nothing, goes on.

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
    /// Standard output from now on.
    pub stdout: PipeReader,
    /// Standard error from now on.
    pub stderr: PipeReader,
}

/// The watchers of one container.
#[derive(Default)]
pub(crate) struct Taps {
    /// Whether there is any, so that a container without costs one load per write.
    any: AtomicBool,
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    list: Vec<[PipeWriter; 2]>,
    ended: bool,
}

impl Taps {
    /// A new watcher of both streams; `None` when there are too many.
    pub(crate) fn tap(&self) -> Option<(PipeReader, PipeReader)> {
        let ((out, stdout), (err, stderr)) = (pipe(), pipe());
        let mut watchers = self.watchers.lock();
        if watchers.list.len() >= limits::ATTACHED {
            return None;
        }
        if !watchers.ended {
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
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        let mut watchers = self.watchers.lock();
        watchers.list.retain(|[out, err]| {
            let watcher = if stderr { err } else { out };
            watcher.try_send(bytes.clone())
        });
        self.any.store(!watchers.list.is_empty(), Ordering::Release);
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
