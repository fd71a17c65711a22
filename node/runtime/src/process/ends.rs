//! The ends of streams as programs hold them: shared by everyone who was given a handle, with one position.
//!
//! A program's standard streams are such ends. A program that was not written for our interface finds them behind `wasi:cli`.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use crate::exit::BrokenPipe;
use crate::host::stdio::LogStream;
use crate::limits;
use crate::memory::OutOfMemory;
use crate::pipe::{Input, PipeReader, PipeWriter, Pushed};
use crate::spec::LogSink;

/// Why nothing could be written or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody reads any more.
    Closed,
    /// The stream failed.
    Failed(String),
}

impl From<StreamError> for Fault {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Closed => Self::Closed,
            StreamError::LastOperationFailed(error) | StreamError::Trap(error) => {
                Self::Failed(error.root_cause().to_string())
            }
        }
    }
}

/// Where bytes come from.
#[derive(Clone)]
pub enum Source {
    /// A pipe, or a terminal's keys.
    Pipe(Input),
    /// A stream that its holder opened, such as that of a file.
    Stream(Arc<Mutex<Opened>>, Depth),
}

/// How many streams may stand in each other: the input of a program that is its parent's input that is its parent's, each
/// made a stream of its own. One read or one drop goes through all of them, on one stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Depth(usize);

impl Depth {
    /// What a program may make of the streams that it was started with. `None` where that would be too deep.
    ///
    /// Which of its streams it takes nobody can tell, so the deepest counts.
    pub(crate) fn beyond(ends: &Ends) -> Option<Self> {
        let deepest = ends.values().map(End::depth).max().unwrap_or(0);
        Some(Self(deepest + 1)).filter(|depth| depth.0 <= limits::NESTED_STREAMS)
    }
}

/// A stream, and what was read of it beyond what somebody wanted.
pub struct Opened {
    stream: DynInputStream,
    ahead: Bytes,
}

impl Source {
    pub(crate) fn pipe(reader: PipeReader, terminal: bool) -> Self {
        Self::Pipe(Input { reader, terminal })
    }

    pub(crate) fn over(stream: DynInputStream, depth: Depth) -> Self {
        let opened = Opened {
            stream,
            ahead: Bytes::new(),
        };
        Self::Stream(Arc::new(Mutex::new(opened)), depth)
    }

    /// Up to `limit` bytes, and none after a `delimiter`; empty at the end.
    async fn take(&self, limit: usize, delimiter: Option<u8>) -> Result<Bytes, Fault> {
        match self {
            Self::Pipe(input) => Ok(input.reader.take(limit, delimiter).await.unwrap_or_default()),
            Self::Stream(opened, _) => opened.lock().await.take(limit, delimiter).await,
        }
    }

    pub(crate) async fn read(&self, limit: usize) -> Result<Bytes, Fault> {
        self.take(limit, None).await
    }

    /// Up to and with the first `delimiter`, at most `limit` bytes.
    pub(crate) async fn read_until(&self, delimiter: u8, limit: usize) -> Result<Vec<u8>, Fault> {
        let mut line = Vec::new();
        while line.len() < limit && line.last() != Some(&delimiter) {
            let piece = self.take(limit - line.len(), Some(delimiter)).await?;
            if piece.is_empty() {
                break;
            }
            line.extend_from_slice(&piece);
        }
        Ok(line)
    }
}

impl Opened {
    async fn take(&mut self, limit: usize, delimiter: Option<u8>) -> Result<Bytes, Fault> {
        if self.ahead.is_empty() {
            self.ahead = match self.stream.blocking_read(limits::TRANSFER_BYTES).await {
                Ok(bytes) => bytes,
                Err(StreamError::Closed) => Bytes::new(),
                Err(error) => return Err(error.into()),
            };
        }
        let end = delimiter.and_then(|delimiter| self.ahead.iter().position(|byte| *byte == delimiter));
        let limit = end.map_or(limit, |end| limit.min(end + 1)).min(self.ahead.len());
        Ok(self.ahead.split_to(limit))
    }
}

impl IsTerminal for Source {
    fn is_terminal(&self) -> bool {
        matches!(self, Self::Pipe(input) if input.terminal)
    }
}

impl StdinStream for Source {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        match self {
            Self::Pipe(input) => input.async_stream(),
            // Asked for by no version of WASI that is linked.
            Self::Stream(..) => Box::new(tokio::io::empty()),
        }
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        match self {
            Self::Pipe(input) => input.p2_stream(),
            Self::Stream(opened, _) => Box::new(SharedInput(opened.clone())),
        }
    }
}

/// A stream with others who read it.
struct SharedInput(Arc<Mutex<Opened>>);

#[async_trait]
impl Pollable for SharedInput {
    async fn ready(&mut self) {
        let mut opened = self.0.lock().await;
        if opened.ahead.is_empty() {
            opened.stream.ready().await;
        }
    }
}

#[async_trait]
impl InputStream for SharedInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        // Somebody else reads just now: there is nothing for us yet.
        let Ok(mut opened) = self.0.try_lock() else {
            return Ok(Bytes::new());
        };
        if opened.ahead.is_empty() {
            return opened.stream.read(size);
        }
        let size = size.min(opened.ahead.len());
        Ok(opened.ahead.split_to(size))
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut opened = self.0.lock().await;
        if opened.ahead.is_empty() {
            return opened.stream.blocking_read(size).await;
        }
        let size = size.min(opened.ahead.len());
        Ok(opened.ahead.split_to(size))
    }
}

/// Where bytes go.
#[derive(Clone)]
pub enum Sink {
    /// A log, or what somebody outside the container reads.
    Log(LogStream),
    /// A pipe between programs of the container.
    Pipe(PipeWriter),
    /// A stream that its holder opened, such as that of a file.
    Stream(Arc<Mutex<DynOutputStream>>, Depth),
}

impl Sink {
    pub(crate) fn log(sink: Arc<dyn LogSink>, terminal: bool) -> Self {
        Self::Log(LogStream::new(sink, terminal))
    }

    pub(crate) fn over(stream: DynOutputStream, depth: Depth) -> Self {
        Self::Stream(Arc::new(Mutex::new(stream)), depth)
    }

    pub(crate) async fn write(&self, mut bytes: Bytes) -> Result<(), Fault> {
        match self {
            Self::Log(log) => {
                while !bytes.is_empty() {
                    poll_fn(|cx| log.sink.poll_ready(cx)).await;
                    log.sink.write(&bytes.split_to(bytes.len().min(limits::LOG_BYTES)));
                }
                Ok(())
            }
            Self::Pipe(writer) => {
                while !bytes.is_empty() {
                    poll_fn(|cx| writer.poll_room(cx)).await;
                    let piece = bytes.split_to(bytes.len().min(limits::PIPE_BYTES));
                    pushed(writer.push(piece))?;
                }
                Ok(())
            }
            Self::Stream(stream, _) => {
                let mut stream = stream.lock().await;
                while !bytes.is_empty() {
                    let room = stream.check_write()?;
                    if room == 0 {
                        stream.ready().await;
                        continue;
                    }
                    let piece = bytes.split_to(bytes.len().min(room));
                    stream.blocking_write_and_flush(piece).await?;
                }
                Ok(())
            }
        }
    }
}

fn pushed(pushed: Pushed) -> Result<(), Fault> {
    match pushed {
        Pushed::Held => Ok(()),
        Pushed::Abandoned => Err(Fault::Closed),
        Pushed::Unpaid => Err(Fault::Failed("Cannot allocate memory".into())),
    }
}

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        matches!(self, Self::Log(log) if log.terminal)
    }
}

impl StdoutStream for Sink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        match self {
            Self::Log(log) => log.async_stream(),
            // Asked for by no version of WASI that is linked.
            Self::Pipe(_) | Self::Stream(..) => Box::new(tokio::io::sink()),
        }
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        match self {
            Self::Log(log) => log.p2_stream(),
            Self::Pipe(writer) => Box::new(PipeOutput(writer.clone())),
            Self::Stream(stream, _) => Box::new(SharedOutput {
                stream: stream.clone(),
                late: Bytes::new(),
            }),
        }
    }
}

/// A pipe as a guest's output. Who writes where nobody reads is ended, as the signal for that does it elsewhere.
struct PipeOutput(PipeWriter);

#[async_trait]
impl Pollable for PipeOutput {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_room(cx)).await;
    }
}

#[async_trait]
impl OutputStream for PipeOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let wanted_bytes = bytes.len() as u64;
        match self.0.push(bytes) {
            Pushed::Held => Ok(()),
            Pushed::Abandoned => Err(StreamError::Trap(BrokenPipe.into())),
            Pushed::Unpaid => Err(StreamError::Trap(OutOfMemory::unpaid(wanted_bytes).into())),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(()) // nothing is held back
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.0.is_abandoned() {
            return Err(StreamError::Trap(BrokenPipe.into()));
        }
        match self.0.poll_room(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => Ok(limits::PIPE_BYTES),
            Poll::Pending => Ok(0),
        }
    }
}

/// A stream with others who write to it.
struct SharedOutput {
    stream: Arc<Mutex<DynOutputStream>>,
    /// What came while somebody else was writing.
    late: Bytes,
}

#[async_trait]
impl Pollable for SharedOutput {
    async fn ready(&mut self) {
        let mut stream = self.stream.lock().await;
        if !self.late.is_empty() {
            // An error shows again at the next look.
            let _ = stream.blocking_write_and_flush(std::mem::take(&mut self.late)).await;
        }
        stream.ready().await;
    }
}

#[async_trait]
impl OutputStream for SharedOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.stream.try_lock() {
            Ok(mut stream) => match stream.check_write()? {
                room if room >= bytes.len() => return stream.write(bytes),
                _ => self.late = bytes,
            },
            Err(_) => self.late = bytes,
        }
        Ok(())
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.stream.lock().await.blocking_write_and_flush(bytes).await
    }

    fn flush(&mut self) -> StreamResult<()> {
        match self.stream.try_lock() {
            Ok(mut stream) => stream.flush(),
            Err(_) => Ok(()), // whoever has it writes through
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if !self.late.is_empty() {
            return Ok(0);
        }
        match self.stream.try_lock() {
            Ok(mut stream) => Ok(stream.check_write()?.min(limits::TRANSFER_BYTES)),
            Err(_) => Ok(0),
        }
    }
}

/// One end of a stream.
#[derive(Clone)]
pub(crate) enum End {
    Source(Source),
    Sink(Sink),
}

impl End {
    fn depth(&self) -> usize {
        match self {
            Self::Source(Source::Stream(_, depth)) | Self::Sink(Sink::Stream(_, depth)) => depth.0,
            Self::Source(Source::Pipe(_)) | Self::Sink(Sink::Log(_) | Sink::Pipe(_)) => 0,
        }
    }
}

/// The streams that a program is started with, by number.
pub(crate) type Ends = BTreeMap<u32, End>;
