//! A pipe between a standard stream of a guest and whoever is at its other end on the node.
//!
//! It holds a bounded number of bytes. A guest that writes into a full pipe is suspended, one that reads from an empty pipe
//! too; the other end, which is async code of the node, waits in the same way. Nothing here blocks a thread.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use crate::limits;
use crate::memory::{MemoryAccount, OutOfMemory};
use crate::spec::LogSink;

/// Makes a pipe.
pub fn pipe() -> (PipeWriter, PipeReader) {
    ends(limits::PIPE_BYTES, None)
}

/// Makes a pipe that a guest asked for: what it holds is charged to the container.
pub(crate) fn charged(limit_bytes: usize, account: Arc<MemoryAccount>) -> (PipeWriter, PipeReader) {
    ends(limit_bytes, Some(account))
}

fn ends(limit_bytes: usize, account: Option<Arc<MemoryAccount>>) -> (PipeWriter, PipeReader) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        limit_bytes,
        account,
    });
    let writer = PipeWriter(Arc::new(WriterEnd(shared.clone())));
    (writer, PipeReader(Arc::new(ReaderEnd(shared))))
}

struct Shared {
    state: Mutex<State>,
    /// What it holds before a writer has to wait.
    limit_bytes: usize,
    /// Who pays for what it holds.
    account: Option<Arc<MemoryAccount>>,
}

/// What a piece costs beside its bytes: a place in the queue and an allocation. Without it a buffer of single bytes would be forty
/// times what its guest pays.
const PIECE_BYTES: usize = 64;

/// What was written at once.
#[derive(Default)]
struct Piece {
    bytes: Bytes,
    /// What is paid for it. A part of an allocation keeps all of it alive, so all is paid for until the last byte was read.
    paid_bytes: usize,
}

/// What became of bytes that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// They are in the pipe.
    Held,
    /// Nobody reads any more.
    Abandoned,
    /// The container has no memory left for them.
    Unpaid(OutOfMemory),
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    held_bytes: usize,
    /// What is paid for all pieces.
    paid_bytes: usize,
    /// Nobody will write any more.
    ended: bool,
    /// Nobody will read any more.
    abandoned: bool,
    wakers: Vec<Waker>,
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.abandoned || state.held_bytes < self.limit_bytes {
            return Poll::Ready(());
        }
        state.wait(cx)
    }

    fn poll_bytes(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.ended || !state.pieces.is_empty() {
            return Poll::Ready(());
        }
        state.wait(cx)
    }

    fn push(&self, bytes: Bytes) -> Pushed {
        if bytes.is_empty() {
            return Pushed::Held;
        }
        self.change(|state| {
            if state.abandoned || state.ended {
                return Pushed::Abandoned;
            }
            let paid_bytes = bytes.len() + PIECE_BYTES;
            if let Some(account) = &self.account
                && let Err(unpaid) = account.take(paid_bytes as u64)
            {
                return Pushed::Unpaid(unpaid);
            }
            state.held_bytes += bytes.len();
            state.paid_bytes += paid_bytes;
            state.pieces.push_back(Piece { bytes, paid_bytes });
            Pushed::Held
        })
    }

    fn pay_back(&self, state: &mut State, bytes: usize) {
        state.paid_bytes -= bytes;
        if let Some(account) = &self.account {
            account.give_back(bytes as u64);
        }
    }

    /// Up to `limit` bytes, and none after a `delimiter`.
    fn pull(&self, limit: usize, delimiter: Option<u8>) -> Pulled {
        self.change(|state| {
            let Some(mut piece) = state.pieces.pop_front() else {
                return if state.ended { Pulled::End } else { Pulled::Nothing };
            };
            if piece.bytes.is_empty() {
                return Pulled::End;
            }
            let end = delimiter.and_then(|delimiter| piece.bytes.iter().position(|byte| *byte == delimiter));
            let limit = end.map_or(limit, |end| limit.min(end + 1));
            if piece.bytes.len() > limit {
                let bytes = piece.bytes.split_off(limit);
                let paid_bytes = std::mem::take(&mut piece.paid_bytes);
                state.pieces.push_front(Piece { bytes, paid_bytes });
            }
            state.held_bytes -= piece.bytes.len();
            self.pay_back(state, piece.paid_bytes);
            Pulled::Bytes(piece.bytes)
        })
    }
}

impl State {
    fn wait(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

enum Pulled {
    Bytes(Bytes),
    Nothing,
    End,
}

struct WriterEnd(Arc<Shared>);

impl Drop for WriterEnd {
    fn drop(&mut self) {
        self.0.change(|state| state.ended = true);
    }
}

struct ReaderEnd(Arc<Shared>);

impl Drop for ReaderEnd {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.abandoned = true;
            state.pieces.clear();
            state.held_bytes = 0;
            let paid_bytes = state.paid_bytes;
            self.0.pay_back(state, paid_bytes);
        });
    }
}

/// Where bytes go in. With the last clone the reader finds the end.
#[derive(Clone)]
pub struct PipeWriter(Arc<WriterEnd>);

impl PipeWriter {
    /// Writes, when there is room; false when nobody reads any more.
    pub async fn send(&self, bytes: Bytes) -> bool {
        poll_fn(|cx| self.0.0.poll_room(cx)).await;
        self.0.0.push(bytes) == Pushed::Held
    }

    /// Puts bytes in without a look at how many there are.
    pub(crate) fn push(&self, bytes: Bytes) -> Pushed {
        self.0.0.push(bytes)
    }

    /// Ready when there is room, or when nobody reads any more.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.0.poll_room(cx)
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.0.state.lock().abandoned
    }

    /// Writes if there is room, and says whether it did.
    pub fn try_send(&self, bytes: Bytes) -> bool {
        let room = {
            let state = self.0.0.state.lock();
            !state.abandoned && state.held_bytes < self.0.0.limit_bytes
        };
        room && self.0.0.push(bytes) == Pushed::Held
    }

    /// Lets the reader find an end once, as the end-of-file key of a terminal does; more may follow.
    pub fn mark_end(&self) {
        self.0.0.change(|state| state.pieces.push_back(Piece::default()));
    }

    /// Ends the stream for the reader, whoever else could still write.
    pub fn close(&self) {
        self.0.0.change(|state| state.ended = true);
    }
}

impl LogSink for PipeWriter {
    fn write(&self, bytes: &[u8]) {
        // Where nobody reads any more, output is lost as it is with a terminal that was closed.
        self.0.0.push(Bytes::copy_from_slice(bytes));
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.0.poll_room(cx)
    }
}

/// Where bytes come out; clones share one stream.
#[derive(Clone)]
pub struct PipeReader(Arc<ReaderEnd>);

impl PipeReader {
    /// The next bytes, or nothing at the end.
    pub async fn recv(&self) -> Option<Bytes> {
        self.take(usize::MAX, None).await
    }

    /// The next bytes: at most `limit` of them, and none after a `delimiter`.
    pub(crate) async fn take(&self, limit: usize, delimiter: Option<u8>) -> Option<Bytes> {
        loop {
            poll_fn(|cx| self.0.0.poll_bytes(cx)).await;
            match self.0.0.pull(limit, delimiter) {
                Pulled::Bytes(bytes) => return Some(bytes),
                Pulled::End => return None,
                Pulled::Nothing => {}
            }
        }
    }
}

/// A guest's standard input.
#[derive(Clone)]
pub struct Input {
    pub(crate) reader: PipeReader,
    pub(crate) terminal: bool,
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        poll_fn(|cx| self.reader.0.0.poll_bytes(cx)).await;
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match self.reader.0.0.pull(size.min(limits::TRANSFER_BYTES), None) {
            Pulled::Bytes(bytes) => Ok(bytes),
            Pulled::Nothing => Ok(Bytes::new()),
            Pulled::End => Err(StreamError::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_out_in_order_and_then_the_end() {
        let (writer, reader) = pipe();
        assert!(writer.send(Bytes::from_static(b"one")).await);
        assert!(writer.try_send(Bytes::from_static(b"two")));
        drop(writer);
        assert_eq!(reader.recv().await.unwrap(), "one");
        assert_eq!(reader.recv().await.unwrap(), "two");
        assert_eq!(reader.recv().await, None);
    }

    #[tokio::test]
    async fn a_full_pipe_makes_the_writer_wait_until_the_reader_reads() {
        let (writer, reader) = pipe();
        assert!(writer.send(Bytes::from(vec![1; limits::PIPE_BYTES])).await);
        assert!(!writer.try_send(Bytes::from_static(b"x")));
        let late = tokio::spawn({
            let writer = writer.clone();
            async move { writer.send(Bytes::from_static(b"late")).await }
        });
        tokio::task::yield_now().await;
        assert!(!late.is_finished());
        assert_eq!(reader.recv().await.unwrap().len(), limits::PIPE_BYTES);
        assert!(late.await.unwrap());
        assert_eq!(reader.recv().await.unwrap(), "late");
    }

    #[tokio::test]
    async fn what_a_pipe_keeps_alive_is_paid_for() {
        let account = MemoryAccount::new(Some(1 << 20), false);
        let (writer, reader) = charged(usize::MAX, account.clone());
        for _ in 0..1000 {
            assert_eq!(writer.push(Bytes::from_static(b"x")), Pushed::Held);
        }
        assert_eq!(account.used_bytes(), 1000 * (1 + PIECE_BYTES as u64));
        while account.used_bytes() > 0 {
            assert_eq!(reader.recv().await.unwrap(), "x");
        }
        // A byte that is left keeps the whole piece.
        writer.push(Bytes::from(vec![1; 1000]));
        let paid = account.used_bytes();
        assert_eq!(reader.take(999, None).await.unwrap().len(), 999);
        assert_eq!(account.used_bytes(), paid);
        drop(reader);
        assert_eq!(account.used_bytes(), 0);
        assert_eq!(writer.push(Bytes::from_static(b"x")), Pushed::Abandoned);
    }

    #[tokio::test]
    async fn a_writer_learns_that_nobody_reads() {
        let (writer, reader) = pipe();
        drop(reader);
        assert!(!writer.send(Bytes::from_static(b"x")).await);
    }

    #[tokio::test]
    async fn the_end_of_file_key_is_found_once_and_the_end_for_good() {
        let (writer, reader) = pipe();
        let mut input = Input {
            reader: reader.clone(),
            terminal: true,
        };
        assert_eq!(input.read(9).unwrap(), "");
        writer.mark_end();
        assert!(writer.send(Bytes::from_static(b"more")).await);
        assert!(matches!(input.read(9), Err(StreamError::Closed)));
        assert_eq!(input.read(3).unwrap(), "mor");
        assert_eq!(input.read(3).unwrap(), "e");
        // Nothing is no end: not even a piece.
        assert_eq!(writer.push(Bytes::new()), Pushed::Held);
        assert_eq!(input.read(9).unwrap(), "");
        writer.close();
        assert!(matches!(input.read(9), Err(StreamError::Closed)));
        assert_eq!(reader.recv().await, None);
        assert_eq!(writer.push(Bytes::from_static(b"late")), Pushed::Abandoned);
    }

    #[tokio::test]
    async fn of_two_who_wait_one_has_the_bytes_and_the_other_waits_on() {
        let (writer, reader) = pipe();
        let wait = || {
            let reader = reader.clone();
            tokio::spawn(async move { reader.recv().await })
        };
        let (first, second) = (wait(), wait());
        tokio::task::yield_now().await;
        assert!(writer.send(Bytes::from_static(b"one")).await);
        // Both are woken, and the second finds nothing.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(
            [first.is_finished(), second.is_finished()]
                .map(u8::from)
                .iter()
                .sum::<u8>(),
            1
        );
        drop(writer);
        let mut had = [first.await.unwrap(), second.await.unwrap()];
        had.sort();
        assert_eq!(had, [None, Some(Bytes::from_static(b"one"))]);
    }
}
