//! The ends of streams as programs hold them: shared by everyone who was given a handle, with one position.
//!
//! A program's standard streams are such ends. A program that was not written for our interface finds them behind `wasi:cli`.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use crate::exit::BrokenPipe;
use crate::host::stdio::LogStream;
use crate::limits;
use crate::memory::{Charge, MemoryAccount};
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
    account: Arc<MemoryAccount>,
    /// For what is ahead. There may be thousands of such streams, each with a byte read of it and the rest ahead.
    paid: Option<Charge>,
}

impl Source {
    pub(crate) fn pipe(reader: PipeReader, terminal: bool) -> Self {
        Self::Pipe(Input { reader, terminal })
    }

    pub(crate) fn over(stream: DynInputStream, depth: Depth, account: Arc<MemoryAccount>) -> Self {
        let opened = Opened {
            stream,
            ahead: Bytes::new(),
            account,
            paid: None,
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
        let piece = self.piece(end.map_or(limit, |end| limit.min(end + 1)));
        if !self.ahead.is_empty() && self.paid.is_none() {
            let paid = Charge::take(&self.account, limits::TRANSFER_BYTES).inspect_err(|_| self.ahead.clear());
            self.paid = Some(paid.map_err(|_| Fault::Failed(NO_MEMORY.into()))?);
        }
        Ok(piece)
    }

    /// The first of what is ahead.
    fn piece(&mut self, limit: usize) -> Bytes {
        let piece = self.ahead.split_to(limit.min(self.ahead.len()));
        if self.ahead.is_empty() {
            self.paid = None;
        }
        piece
    }
}

/// What the container's memory limit is called where it is no reason to end a program.
pub(crate) const NO_MEMORY: &str = "Cannot allocate memory";

impl IsTerminal for Source {
    fn is_terminal(&self) -> bool {
        matches!(self, Self::Pipe(input) if input.terminal)
    }
}

impl StdinStream for Source {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        // Asked for by no version of WASI that is linked.
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        match self {
            Self::Pipe(input) => Box::new(input.clone()),
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
        Ok(opened.piece(size))
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut opened = self.0.lock().await;
        if opened.ahead.is_empty() {
            return opened.stream.blocking_read(size).await;
        }
        Ok(opened.piece(size))
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
    Stream(Arc<Outlet>, Depth),
}

/// A stream that several write to, and who pays for what waits for it.
pub struct Outlet {
    stream: Mutex<DynOutputStream>,
    account: Arc<MemoryAccount>,
}

impl Sink {
    pub(crate) fn log(sink: Arc<dyn LogSink>, terminal: bool) -> Self {
        Self::Log(LogStream::new(sink, terminal))
    }

    pub(crate) fn over(stream: DynOutputStream, depth: Depth, account: Arc<MemoryAccount>) -> Self {
        let stream = Mutex::new(stream);
        Self::Stream(Arc::new(Outlet { stream, account }), depth)
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
                for piece in pieces(bytes) {
                    poll_fn(|cx| writer.poll_room(cx)).await;
                    pushed(writer.push(piece))?;
                }
                Ok(())
            }
            Self::Stream(outlet, _) => {
                let mut stream = outlet.stream.lock().await;
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

/// What goes into a pipe, in allocations of no more than a pipe holds: the last byte of one keeps all of it alive.
fn pieces(bytes: Bytes) -> impl Iterator<Item = Bytes> {
    let (whole, parts) = match bytes.len() > limits::PIPE_BYTES {
        true => (None, bytes),
        false => (Some(bytes).filter(|bytes| !bytes.is_empty()), Bytes::new()),
    };
    let copies = (0..parts.len()).step_by(limits::PIPE_BYTES).map(move |at| {
        let end = parts.len().min(at + limits::PIPE_BYTES);
        Bytes::copy_from_slice(parts.get(at..end).unwrap_or_default())
    });
    whole.into_iter().chain(copies)
}

fn pushed(pushed: Pushed) -> Result<(), Fault> {
    match pushed {
        Pushed::Held => Ok(()),
        Pushed::Abandoned => Err(Fault::Closed),
        Pushed::Unpaid(_) => Err(Fault::Failed(NO_MEMORY.into())),
    }
}

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        matches!(self, Self::Log(log) if log.terminal)
    }
}

impl StdoutStream for Sink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Asked for by no version of WASI that is linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        match self {
            Self::Log(log) => Box::new(log.clone()),
            Self::Pipe(writer) => Box::new(PipeOutput(writer.clone())),
            Self::Stream(outlet, _) => Box::new(SharedOutput {
                outlet: outlet.clone(),
                permit: 0,
                late: None,
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
        for piece in pieces(bytes) {
            match self.0.push(piece) {
                Pushed::Held => {}
                Pushed::Abandoned => return Err(StreamError::Trap(BrokenPipe.into())),
                Pushed::Unpaid(unpaid) => return Err(StreamError::Trap(unpaid.into())),
            }
        }
        Ok(())
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
    outlet: Arc<Outlet>,
    /// Bytes that the guest may write before it asks again. Without it, thousands of such streams could each keep two megabytes
    /// that came too late.
    permit: usize,
    late: Option<Late>,
}

/// What came while somebody else was writing: no more than was permitted at once, which is what is paid.
struct Late {
    bytes: BytesMut,
    _paid: Charge,
}

impl SharedOutput {
    fn keep(&mut self, bytes: &[u8]) -> StreamResult<()> {
        let late = match &mut self.late {
            Some(late) => late,
            none => none.insert(Late {
                bytes: BytesMut::new(),
                _paid: Charge::take(&self.outlet.account, limits::TRANSFER_BYTES)
                    .map_err(|error| StreamError::Trap(error.into()))?,
            }),
        };
        late.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

#[async_trait]
impl Pollable for SharedOutput {
    async fn ready(&mut self) {
        let mut stream = self.outlet.stream.lock().await;
        if let Some(late) = self.late.take() {
            // An error shows again at the next look.
            let _ = stream.blocking_write_and_flush(late.bytes.freeze()).await;
        }
        stream.ready().await;
    }
}

#[async_trait]
impl OutputStream for SharedOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.permit.checked_sub(bytes.len()) {
            Some(left) => self.permit = left,
            None => return Err(StreamError::trap("wrote more than check-write allowed")),
        }
        // What is late already goes first.
        if self.late.is_none()
            && let Ok(mut stream) = self.outlet.stream.try_lock()
            && stream.check_write()? >= bytes.len()
        {
            return stream.write(bytes);
        }
        self.keep(&bytes)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.outlet.stream.lock().await.blocking_write_and_flush(bytes).await
    }

    fn flush(&mut self) -> StreamResult<()> {
        match self.outlet.stream.try_lock() {
            Ok(mut stream) => stream.flush(),
            Err(_) => Ok(()), // whoever has it writes through
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.permit = 0;
        if self.late.is_none()
            && let Ok(mut stream) = self.outlet.stream.try_lock()
        {
            self.permit = stream.check_write()?.min(limits::TRANSFER_BYTES);
        }
        Ok(self.permit)
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Takes what it is given, and gives 1,000 bytes for each byte wanted.
    struct Generous;

    #[async_trait]
    impl Pollable for Generous {
        async fn ready(&mut self) {}
    }

    #[async_trait]
    impl InputStream for Generous {
        fn read(&mut self, size: usize) -> StreamResult<Bytes> {
            Ok(Bytes::from(vec![b'.'; size.min(1000)]))
        }
    }

    #[async_trait]
    impl OutputStream for Generous {
        fn write(&mut self, _: Bytes) -> StreamResult<()> {
            Ok(())
        }

        fn flush(&mut self) -> StreamResult<()> {
            Ok(())
        }

        fn check_write(&mut self) -> StreamResult<usize> {
            Ok(1000)
        }
    }

    fn account() -> Arc<MemoryAccount> {
        MemoryAccount::new(Some(limits::TRANSFER_BYTES as u64), false)
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_paid_for() {
        let account = account();
        let open = || Source::over(Box::new(Generous), Depth(1), account.clone());
        let (first, second) = (open(), open());
        assert_eq!(first.read(1).await.unwrap().len(), 1);
        assert_eq!(account.used_bytes(), limits::TRANSFER_BYTES as u64);
        // Nothing is left to pay what would be ahead of another one.
        assert_eq!(second.read(1).await, Err(Fault::Failed(NO_MEMORY.into())));
        assert_eq!(first.read(2000).await.unwrap().len(), 999);
        assert_eq!(account.used_bytes(), 0);
        assert_eq!(second.read(1000).await.unwrap().len(), 1000);
        let mut shared = second.p2_stream();
        assert_eq!(second.read(1).await.unwrap().len(), 1);
        assert_eq!(shared.read(998).unwrap().len(), 998);
        assert_eq!(account.used_bytes(), limits::TRANSFER_BYTES as u64);
        assert_eq!(shared.blocking_read(9).await.unwrap().len(), 1);
        assert_eq!(account.used_bytes(), 0);
    }

    #[tokio::test]
    async fn what_comes_too_late_is_permitted_and_paid_for() {
        let account = account();
        let sink = Sink::over(Box::new(Generous), Depth(1), account.clone());
        let Sink::Stream(outlet, _) = &sink else { unreachable!() };
        let [mut first, mut second] = [(); 2].map(|()| sink.p2_stream());
        assert!(matches!(
            first.write(Bytes::from_static(b"x")),
            Err(StreamError::Trap(_))
        ));
        assert_eq!(
            (first.check_write().unwrap(), second.check_write().unwrap()),
            (1000, 1000)
        );
        {
            let _writing = outlet.stream.lock().await;
            first.write(Bytes::from_static(b"one")).unwrap();
            first.write(Bytes::from_static(b"two")).unwrap();
            assert_eq!(account.used_bytes(), limits::TRANSFER_BYTES as u64);
            assert!(matches!(
                second.write(Bytes::from_static(b"x")),
                Err(StreamError::Trap(_))
            ));
            assert_eq!((first.check_write().unwrap(), second.check_write().unwrap()), (0, 0));
            first.flush().unwrap();
        }
        first.ready().await;
        assert_eq!((account.used_bytes(), first.check_write().unwrap()), (0, 1000));
    }

    #[tokio::test]
    async fn pieces_of_much_are_no_parts_of_it() {
        let much = Bytes::from(vec![1; limits::PIPE_BYTES + 1]);
        let lengths: Vec<_> = pieces(much).map(|piece| piece.len()).collect();
        assert_eq!(lengths, [limits::PIPE_BYTES, 1]);
        assert_eq!(pieces(Bytes::from_static(b"x")).collect::<Vec<_>>(), ["x"]);
    }

    /// Has no room until somebody waited for it, takes one piece, and fails from then on as it was told.
    struct Slow {
        room: usize,
        end: fn() -> StreamError,
    }

    #[async_trait]
    impl Pollable for Slow {
        async fn ready(&mut self) {
            self.room = self.room.max(4);
        }
    }

    #[async_trait]
    impl OutputStream for Slow {
        fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
            assert_eq!(bytes, "four");
            self.room = usize::MAX;
            Ok(())
        }

        fn flush(&mut self) -> StreamResult<()> {
            Ok(())
        }

        fn check_write(&mut self) -> StreamResult<usize> {
            match self.room {
                usize::MAX => Err((self.end)()),
                room => Ok(room),
            }
        }
    }

    #[async_trait]
    impl InputStream for Slow {
        fn read(&mut self, _: usize) -> StreamResult<Bytes> {
            Err((self.end)())
        }
    }

    #[tokio::test]
    async fn who_holds_a_stream_is_told_how_it_ended() {
        let failed = || StreamError::LastOperationFailed(wasmtime::Error::msg("the disk is gone").context("writing"));
        let closed = || StreamError::Closed;
        let told = Fault::Failed("the disk is gone".to_owned());
        for (end, of_write, of_read) in [
            (failed as fn() -> StreamError, told.clone(), Err(told)),
            (closed, Fault::Closed, Ok(Bytes::new())),
        ] {
            let sink = Sink::over(Box::new(Slow { room: 0, end }), Depth(1), account());
            // It waits for room, and what room there was has been used.
            assert_eq!(sink.write(Bytes::from_static(b"fourmore")).await, Err(of_write));
            let source = Source::over(Box::new(Slow { room: 0, end }), Depth(1), account());
            assert_eq!(source.read(9).await, of_read);
        }
    }

    #[tokio::test]
    async fn while_somebody_reads_others_wait() {
        let source = Source::over(Box::new(Generous), Depth(1), account());
        let Source::Stream(opened, _) = &source else {
            unreachable!()
        };
        let mut shared = source.p2_stream();
        shared.ready().await;
        assert_eq!(shared.read(10).unwrap().len(), 10);
        {
            let _reading = opened.lock().await;
            assert!(shared.read(10).unwrap().is_empty());
            assert!(shared.ready().now_or_never().is_none());
        }
        assert_eq!(source.read(1).await.unwrap().len(), 1);
        shared.ready().await;
        assert_eq!(shared.read(2000).unwrap().len(), 999);
    }

    #[tokio::test]
    async fn a_full_pipe_is_waited_for_and_one_that_nobody_reads_ends_who_writes() {
        let (writer, reader) = crate::pipe::pipe();
        let mut out = Sink::Pipe(writer).p2_stream();
        assert_eq!(out.check_write().unwrap(), limits::PIPE_BYTES);
        out.write(Bytes::from(vec![1; limits::PIPE_BYTES])).unwrap();
        assert_eq!(out.check_write().unwrap(), 0);
        assert!(out.ready().now_or_never().is_none());
        assert_eq!(reader.recv().await.unwrap().len(), limits::PIPE_BYTES);
        out.ready().await;
        assert_eq!(out.check_write().unwrap(), limits::PIPE_BYTES);
        drop(reader);
        let unheard = |error| matches!(error, StreamError::Trap(error) if error.is::<BrokenPipe>());
        assert!(unheard(out.check_write().unwrap_err()));
        assert!(unheard(out.write(Bytes::from_static(b"x")).unwrap_err()));
    }

    #[tokio::test]
    async fn who_cannot_pay_for_a_pipe_is_told_the_limit() {
        let (writer, _reader) = crate::pipe::charged(usize::MAX, account());
        let sink = Sink::Pipe(writer);
        let much = Bytes::from(vec![1; limits::PIPE_BYTES]);
        assert_eq!(sink.write(much.clone()).await, Err(Fault::Failed(NO_MEMORY.into())));
        let StreamError::Trap(error) = sink.p2_stream().write(much).unwrap_err() else {
            unreachable!()
        };
        let exit = crate::Exit::of(&error);
        assert_eq!((exit.code, exit.reason), (137, crate::ExitReason::OomKilled));
        assert!(exit.message.unwrap().ends_with("the memory limit of 64 KiB"));
    }
}
