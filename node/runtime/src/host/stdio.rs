//! Standard output and standard error: straight into the container's log.
//!
//! Bytes are handed over as the guest writes them, without a copy or a task in between. A log that is not ready suspends the
//! guest: output is never dropped and never piles up in the host.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::limits;
use crate::spec::LogSink;

/// One standard stream of a guest.
#[derive(Clone)]
pub struct LogStream {
    pub(crate) sink: Arc<dyn LogSink>,
    pub(crate) terminal: bool,
    /// Bytes that the guest may write before it asks again. Without it, whoever never asks could write two megabytes at a time,
    /// to a reader that is not ready for one byte.
    permit: usize,
}

impl LogStream {
    pub(crate) fn new(sink: Arc<dyn LogSink>, terminal: bool) -> Self {
        Self {
            sink,
            terminal,
            permit: 0,
        }
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {
        poll_fn(|cx| self.sink.poll_ready(cx)).await;
    }
}

#[async_trait]
impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.permit.checked_sub(bytes.len()) {
            Some(left) => self.permit = left,
            None => return Err(StreamError::trap("wrote more than check-write allowed")),
        }
        self.sink.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(()) // nothing is held back
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.permit = match self.sink.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => limits::LOG_BYTES,
            Poll::Pending => 0,
        };
        Ok(self.permit)
    }
}
