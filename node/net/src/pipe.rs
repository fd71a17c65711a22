//! One direction of a connection: a bounded queue of shared byte chunks.
//!
//! Relied on: bytes come out in order and exactly once; a reader that drains sees the end only after the last byte;
//! readiness is exact (whoever is told "readable" or "writable" finds it so unless somebody else was faster), because the
//! sandbox ends guests that wake up in vain. Parked writers are woken at half of the window, which avoids a switch per
//! small read. No lock is held while memory is copied or tasks are woken.
//!
//! The window (how much may be buffered) starts at [`PIPE_FLOOR`], which is part of a socket's price, and grows to
//! [`PIPE_CAPACITY`] while the receiver's account pays. A refused charge only keeps the window where it is: the reader
//! still has bytes to take, so progress never depends on the account.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::NetError;
use crate::account::Account;
use crate::sync::Mutex;
use crate::wakers::Wakers;

/// Bytes that one direction holds before writers wait. A quarter MiB keeps a 64 KiB reader and writer busy at the same
/// time (measured at 7 GiB/s) while 1,024 sockets of a pod stay below half a GiB in the worst case.
pub const PIPE_CAPACITY: usize = 256 * 1024;

/// The part of the window that every socket has without a further charge: enough for a request or an answer.
pub const PIPE_FLOOR: usize = 4 * 1024;

/// By how much a window grows at a time. Few steps, so that an account is asked four times for a full window.
const WINDOW_STEP: usize = 64 * 1024;

/// Writes below this size are copied together into blocks of [`BLOCK`] bytes: a chunk costs some 80 bytes beside its
/// content, and one-byte writes would otherwise make a full pipe weigh 20 MiB.
const SMALL: usize = 2 * 1024;

/// Block into which small writes are collected.
const BLOCK: usize = 4 * 1024;

/// Outcome of a read that does not wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TryRead {
    /// At least one byte.
    Data(Bytes),
    /// Nothing yet.
    Empty,
    /// The peer has finished and everything has been read.
    End,
}

/// One direction; see the module page.
#[derive(Debug)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    account: AccountBox,
}

/// An [`Account`] that can stand in derived `Debug`.
struct AccountBox(Account);

impl std::fmt::Debug for AccountBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "charged" } else { "free" })
    }
}

#[derive(Debug)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Small writes at the very end, not yet a chunk.
    tail: BytesMut,
    /// Bytes in `chunks` and `tail`.
    len: usize,
    /// All bytes that were ever written.
    total: u64,
    /// How much may be buffered now: [`PIPE_FLOOR`] plus what is charged.
    window: usize,
    /// Bytes promised by `writable` to the next write, which takes them even if the account has run dry since.
    promised: usize,
    fin: bool,
    reset: bool,
    reader_gone: bool,
    readers: Wakers,
    writers: Wakers,
}

impl State {
    fn broken(&self) -> Option<NetError> {
        if self.reset {
            Some(NetError::ConnectionReset)
        } else if self.fin || self.reader_gone {
            Some(NetError::BrokenPipe)
        } else {
            None
        }
    }

    fn readable(&self) -> bool {
        self.len > 0 || self.fin || self.reset || self.reader_gone
    }

    /// Takes up to `max` bytes from the front; none only when empty.
    fn pop(&mut self, max: usize) -> Option<Bytes> {
        let taken = match self.chunks.front_mut() {
            Some(front) if front.len() > max => front.split_to(max),
            Some(_) => self.chunks.pop_front()?,
            None if self.tail.is_empty() => return None,
            None => self.tail.split_to(max.min(self.tail.len())).freeze(),
        };
        self.len -= taken.len();
        Some(taken)
    }

    fn push_small(&mut self, data: &[u8]) {
        if self.tail.capacity() - self.tail.len() < data.len() {
            self.seal_tail();
            self.tail = BytesMut::with_capacity(BLOCK);
        }
        self.tail.extend_from_slice(data);
        self.len += data.len();
    }

    fn push_chunk(&mut self, data: Bytes) {
        self.seal_tail();
        self.len += data.len();
        self.chunks.push_back(data);
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let sealed = self.tail.split().freeze();
            self.chunks.push_back(sealed);
        }
    }

    fn clear(&mut self) -> (VecDeque<Bytes>, BytesMut) {
        self.len = 0;
        (std::mem::take(&mut self.chunks), std::mem::take(&mut self.tail))
    }
}

impl Pipe {
    pub(crate) fn new(account: Account) -> Self {
        Self {
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                tail: BytesMut::new(),
                len: 0,
                total: 0,
                window: PIPE_FLOOR,
                promised: 0,
                fin: false,
                reset: false,
                reader_gone: false,
                readers: Wakers::default(),
                writers: Wakers::default(),
            }),
            account: AccountBox(account),
        }
    }

    /// All bytes that were ever written.
    pub(crate) fn total(&self) -> u64 {
        self.state.lock().total
    }

    /// Bytes that the next write takes for sure; zero means full.
    pub(crate) fn writable(&self) -> Result<usize, NetError> {
        let mut state = self.state.lock();
        if let Some(error) = state.broken() {
            return Err(error);
        }
        let free = self.free(&mut state, WINDOW_STEP).min(WINDOW_STEP);
        state.promised = free;
        Ok(free)
    }

    /// Takes what fits of `data`, from its start, and says how much that was; zero means full.
    pub(crate) fn write(&self, mut data: Bytes) -> Result<usize, NetError> {
        let (taken, wakers) = {
            let mut state = self.state.lock();
            let taken = self.admit(&mut state, data.len())?;
            state.total += taken as u64;
            if taken < SMALL {
                state.push_small(data.get(..taken).unwrap_or_default());
            } else if taken >= data.len() / 2 {
                data.truncate(taken);
                state.push_chunk(data);
            } else {
                // A small part of a large buffer would keep all of it alive, uncharged.
                state.push_chunk(Bytes::copy_from_slice(data.get(..taken).unwrap_or_default()));
            }
            (
                taken,
                if taken > 0 {
                    state.readers.take()
                } else {
                    Wakers::default()
                },
            )
        };
        wakers.wake();
        Ok(taken)
    }

    /// As [`Pipe::write`] for borrowed buffers, which are gathered into one chunk.
    pub(crate) fn write_slices(&self, slices: &[IoSlice<'_>]) -> Result<usize, NetError> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let fits = self.writable()?.min(total);
        let mut chunk = BytesMut::with_capacity(fits);
        for slice in slices {
            let part = slice.len().min(fits - chunk.len());
            chunk.extend_from_slice(slice.get(..part).unwrap_or_default());
        }
        if chunk.is_empty() {
            Ok(0)
        } else {
            self.write(chunk.freeze())
        }
    }

    pub(crate) fn read(&self, max: usize) -> Result<TryRead, NetError> {
        let (outcome, wakers) = {
            let mut state = self.state.lock();
            if state.reset {
                return Err(NetError::ConnectionReset);
            }
            if state.reader_gone {
                return Ok(TryRead::End);
            }
            if max == 0 {
                return Ok(TryRead::Empty);
            }
            let outcome = match state.pop(max) {
                Some(data) => TryRead::Data(data),
                None if state.fin => TryRead::End,
                None => TryRead::Empty,
            };
            let drained = state.len <= state.window / 2;
            self.shrink(&mut state);
            (
                outcome,
                if drained {
                    state.writers.take()
                } else {
                    Wakers::default()
                },
            )
        };
        wakers.wake();
        Ok(outcome)
    }

    /// Copies what is there into `buffer` and says how much; `None` means nothing yet, `Some(0)` the end.
    pub(crate) fn read_into(&self, mut buffer: impl bytes::BufMut) -> Result<Option<usize>, NetError> {
        let mut copied = 0;
        while buffer.has_remaining_mut() {
            match self.read(buffer.remaining_mut()) {
                Ok(TryRead::Data(data)) => {
                    copied += data.len();
                    buffer.put(data);
                }
                _ if copied > 0 => break,
                Ok(TryRead::End) => return Ok(Some(0)),
                Ok(TryRead::Empty) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(copied))
    }

    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.readable() {
            return Poll::Ready(());
        }
        state.readers.add(cx);
        Poll::Pending
    }

    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.broken().is_some() || self.free(&mut state, 1) > 0 {
            return Poll::Ready(());
        }
        state.writers.add(cx);
        Poll::Pending
    }

    /// The writer is done: the reader sees the end after the last byte.
    pub(crate) fn finish(&self) {
        self.end(|state| state.fin = true);
    }

    /// The reader is done: what is buffered is dropped, and writers see a broken pipe.
    pub(crate) fn close_read(&self) {
        self.discard(|state| state.reader_gone = true);
    }

    /// Both sides see a reset at once; what is buffered is dropped.
    pub(crate) fn reset(&self) {
        self.discard(|state| state.reset = true);
    }

    fn end(&self, change: impl FnOnce(&mut State)) {
        let (readers, writers) = {
            let mut state = self.state.lock();
            change(&mut state);
            (state.readers.take(), state.writers.take())
        };
        readers.wake();
        writers.wake();
    }

    fn discard(&self, change: impl FnOnce(&mut State)) {
        let mut dropped = None;
        self.end(|state| {
            change(state);
            dropped = Some(state.clear());
            state.promised = 0;
            self.shrink(state);
        });
        drop(dropped);
    }

    /// How many of `wanted` bytes may be written now, with the promise consumed.
    fn admit(&self, state: &mut State, wanted: usize) -> Result<usize, NetError> {
        if let Some(error) = state.broken() {
            return Err(error);
        }
        let promised = std::mem::take(&mut state.promised);
        Ok(self.free(state, wanted).max(promised).min(wanted))
    }

    /// Free bytes of the window, after growing it for `wanted` as far as the account pays.
    fn free(&self, state: &mut State, wanted: usize) -> usize {
        while state.window - state.len.min(state.window) < wanted && state.window < PIPE_CAPACITY {
            let next = (state.window / WINDOW_STEP + 1) * WINDOW_STEP;
            let step = next.min(PIPE_CAPACITY) - state.window;
            if self.account.0.as_ref().is_some_and(|account| !account.charge(step)) {
                break;
            }
            state.window += step;
        }
        state.window.saturating_sub(state.len)
    }

    /// Gives the charged part of the window back once nothing is buffered or promised in it.
    fn shrink(&self, state: &mut State) {
        if state.len == 0 && state.window > PIPE_FLOOR && state.promised <= PIPE_FLOOR {
            if let Some(account) = &self.account.0 {
                account.release(state.window - PIPE_FLOOR);
            }
            state.window = PIPE_FLOOR;
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if let Some(account) = &self.account.0 {
            account.release(state.window - PIPE_FLOOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryCharge;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Purse(Mutex<usize>);

    impl MemoryCharge for Purse {
        fn charge(&self, bytes: usize) -> bool {
            let mut left = self.0.lock();
            let pays = *left >= bytes;
            *left -= if pays { bytes } else { 0 };
            pays
        }
        fn release(&self, bytes: usize) {
            *self.0.lock() += bytes;
        }
    }

    fn filled() -> Pipe {
        let pipe = Pipe::new(None);
        while pipe.write(Bytes::from_static(&[7; 1000])).unwrap() > 0 {}
        pipe
    }

    fn drain(pipe: &Pipe) -> usize {
        let mut total = 0;
        while let TryRead::Data(data) = pipe.read(usize::MAX).unwrap() {
            total += data.len();
        }
        total
    }

    #[test]
    fn a_pipe_takes_exactly_its_capacity() {
        let pipe = filled();
        assert_eq!(pipe.writable(), Ok(0));
        assert_eq!(drain(&pipe), PIPE_CAPACITY);
        assert_eq!(pipe.write(Bytes::from(vec![0; 2 * PIPE_CAPACITY])), Ok(PIPE_CAPACITY));
        assert_eq!(pipe.write(Bytes::from_static(b"x")), Ok(0));
    }

    #[test]
    fn parked_writers_wake_at_half_and_all_of_them() {
        let pipe = filled();
        let tasks: Vec<_> = (0..3).map(|_| Arc::new(Count::default())).collect();
        for task in &tasks {
            let waker = Waker::from(task.clone());
            let cx = Context::from_waker(&waker);
            assert!(pipe.poll_writable(&cx).is_pending());
            assert!(
                pipe.poll_writable(&cx).is_pending(),
                "a second wait of the same task adds nothing"
            );
        }
        let mut left = PIPE_CAPACITY;
        while left > PIPE_CAPACITY / 2 {
            assert!(tasks.iter().all(|task| task.0.load(Ordering::SeqCst) == 0));
            let TryRead::Data(data) = pipe.read(3000).unwrap() else {
                panic!("the pipe is not empty")
            };
            left -= data.len();
        }
        assert!(tasks.iter().all(|task| task.0.load(Ordering::SeqCst) == 1));
    }

    #[test]
    fn readers_wake_for_data_end_and_reset() {
        let endings: [fn(&Pipe); 3] = [
            |pipe| assert_eq!(pipe.write(Bytes::from_static(b"x")), Ok(1)),
            Pipe::finish,
            Pipe::reset,
        ];
        for end in endings {
            let pipe = Pipe::new(None);
            let task = Arc::new(Count::default());
            let waker = Waker::from(task.clone());
            assert!(pipe.poll_readable(&Context::from_waker(&waker)).is_pending());
            end(&pipe);
            assert_eq!(task.0.load(Ordering::SeqCst), 1);
            assert!(pipe.poll_readable(&Context::from_waker(&waker)).is_ready());
        }
    }

    #[test]
    fn the_end_comes_after_the_last_byte_and_a_reset_at_once() {
        let pipe = Pipe::new(None);
        pipe.write(Bytes::from_static(b"last")).unwrap();
        pipe.finish();
        assert_eq!(pipe.write(Bytes::from_static(b"more")), Err(NetError::BrokenPipe));
        assert_eq!(pipe.read(9), Ok(TryRead::Data(Bytes::from_static(b"last"))));
        assert_eq!(pipe.read(9), Ok(TryRead::End));
        let pipe = filled();
        pipe.reset();
        assert_eq!(pipe.read(9), Err(NetError::ConnectionReset));
        assert_eq!(pipe.writable(), Err(NetError::ConnectionReset));
    }

    #[test]
    fn writers_learn_that_the_reader_left() {
        let pipe = filled();
        pipe.close_read();
        assert_eq!(pipe.write(Bytes::from_static(b"x")), Err(NetError::BrokenPipe));
        assert_eq!(pipe.read(9), Ok(TryRead::End));
    }

    #[test]
    fn a_refused_charge_keeps_the_window_small_and_nothing_is_lost() {
        let purse = Arc::new(Purse(Mutex::new(WINDOW_STEP - PIPE_FLOOR)));
        let pipe = Pipe::new(Some(purse.clone()));
        assert_eq!(pipe.write(Bytes::from(vec![1; PIPE_CAPACITY])), Ok(WINDOW_STEP));
        assert_eq!(*purse.0.lock(), 0);
        assert_eq!(drain(&pipe), WINDOW_STEP);
        assert_eq!(
            *purse.0.lock(),
            WINDOW_STEP - PIPE_FLOOR,
            "a drained pipe gives its memory back"
        );
        *purse.0.lock() = 0;
        assert_eq!(pipe.write(Bytes::from(vec![1; PIPE_CAPACITY])), Ok(PIPE_FLOOR));
    }

    #[test]
    fn a_promise_outlives_the_budget() {
        let purse = Arc::new(Purse(Mutex::new(PIPE_CAPACITY)));
        let pipe = Pipe::new(Some(purse.clone()));
        let promised = pipe.writable().unwrap();
        assert_eq!(promised, WINDOW_STEP);
        *purse.0.lock() = 0;
        assert_eq!(pipe.write(Bytes::from(vec![1; promised])), Ok(promised));
        drop(pipe);
        assert_eq!(*purse.0.lock(), WINDOW_STEP - PIPE_FLOOR);
    }

    #[test]
    fn one_byte_writes_share_blocks() {
        let pipe = Pipe::new(None);
        for _ in 0..PIPE_CAPACITY {
            assert_eq!(pipe.write(Bytes::from_static(b"x")), Ok(1));
        }
        assert!(pipe.state.lock().chunks.len() <= PIPE_CAPACITY / BLOCK);
        assert_eq!(drain(&pipe), PIPE_CAPACITY);
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order(
            steps in prop::collection::vec((any::<bool>(), 0usize..9000), 1..60),
            budget in 0usize..PIPE_CAPACITY,
        ) {
            let purse = Arc::new(Purse(Mutex::new(budget)));
            let pipe = Pipe::new(Some(purse.clone()));
            let (mut written, mut read) = (0usize, 0usize);
            for (write, size) in steps {
                if write {
                    let data: Vec<u8> = (written..written + size).map(|n| n as u8).collect();
                    written += pipe.write(Bytes::from(data)).unwrap();
                } else if let TryRead::Data(data) = pipe.read(size).unwrap() {
                    prop_assert!(!data.is_empty() && data.len() <= size);
                    prop_assert!(data.iter().enumerate().all(|(n, byte)| *byte == (read + n) as u8));
                    read += data.len();
                }
                prop_assert!(written - read <= PIPE_CAPACITY);
            }
            pipe.finish();
            prop_assert_eq!(drain(&pipe), written - read);
            drop(pipe);
            prop_assert_eq!(*purse.0.lock(), budget);
        }
    }
}
