//! Reading and writing files: by streams, and at a place.
//!
//! Every piece of work is a closure that owns all it needs: the file, the write that was allowed. At the pod's turn it is done at once,
//! on the guest's own thread, see [`crate::seats`]. While the pod has no turn, it waits for one apart from the guest, and what is no
//! regular file is always worked on there. It comes to its end, or is dropped before it began, whatever becomes of the guest, and the
//! accounts are right either way.

use std::fs::File;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::pod::{Place, PodFiles};
use super::quota::{Begin, NoSpace, Opened};
use crate::limits;
use crate::memory::{Charge, MemoryAccount};
use crate::seats::blocking;

/// A file that a guest has open.
pub(super) struct OpenFile {
    pub(super) file: Arc<File>,
    /// None in a volume without a limit.
    pub(super) account: Option<Arc<Opened>>,
    /// It is no regular file: whoever reads it may wait for ever.
    pub(super) is_apart: bool,
    pub(super) pod: Arc<PodFiles>,
    pub(super) memory: Arc<MemoryAccount>,
    /// Its place among the pod's handles.
    pub(super) _place: Place,
}

/// Work that was begun.
enum Work<T> {
    Done(io::Result<T>),
    Waits(Waiting<T>),
}

/// Work that comes to its end when the pod has a turn, whether or not somebody waits for it.
type Waiting<T> = JoinHandle<io::Result<T>>;

/// Works on a file now, or when the pod has a turn.
fn work<T: Send + 'static>(file: &OpenFile, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Work<T> {
    if !file.is_apart
        && let Some(_turn) = file.pod.turn_now()
    {
        return Work::Done(blocking(work));
    }
    let pod = file.pod.clone();
    Work::Waits(tokio::spawn(async move {
        let turn = pod.turn().await;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map_err(io::Error::other).flatten()
    }))
}

/// What work came to that had to wait.
async fn waited<T>(waiting: &mut Waiting<T>) -> io::Result<T> {
    waiting.await.map_err(io::Error::other).flatten()
}

impl<T> Work<T> {
    /// What it comes to.
    async fn done(self) -> io::Result<T> {
        match self {
            Self::Done(done) => done,
            Self::Waits(mut waiting) => waited(&mut waiting).await,
        }
    }
}

impl OpenFile {
    /// Reads from a place; nothing at the end.
    pub(super) async fn read(self: &Arc<Self>, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let file = self.clone();
        work(self, move || file.read_now(at, bytes)).done().await
    }

    fn read_now(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; bytes.min(limits::TRANSFER_BYTES)];
        loop {
            match read_at(&self.file, &mut piece, at) {
                Ok(read) => {
                    piece.truncate(read);
                    return Ok(piece);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes as much of it as is allowed, at most [`limits::TRANSFER_BYTES`]; says how much.
    pub(super) async fn write(self: &Arc<Self>, from: Begin, mut bytes: Bytes) -> io::Result<usize> {
        bytes.truncate(limits::TRANSFER_BYTES);
        let (begun, length) = self.begin_write(from, bytes).map_err(io::Error::other)?;
        begun.done().await?;
        Ok(length)
    }

    fn begin_write(self: &Arc<Self>, from: Begin, mut bytes: Bytes) -> Result<(Work<()>, usize), NoSpace> {
        let mut allowed = None;
        if let Some(account) = &self.account {
            let write = account.allow(from, bytes.len() as u64)?;
            bytes.truncate(usize::try_from(write.bytes).unwrap_or(usize::MAX));
            allowed = Some(write);
        }
        let (file, length) = (self.clone(), bytes.len());
        let write = move || -> io::Result<()> {
            write_all(&file.file, from, &bytes)?;
            if let Some(allowed) = allowed {
                allowed.written();
            }
            Ok(())
        };
        Ok((work(self, write), length))
    }

    /// Makes it longer or shorter.
    pub(super) async fn set_length(self: &Arc<Self>, length: u64) -> io::Result<()> {
        let allowed = self.account.as_ref().map(|account| account.allow_length(length));
        let allowed = allowed.transpose().map_err(io::Error::other)?;
        let file = self.clone();
        let cut = move || -> io::Result<()> {
            file.file.set_len(length)?;
            if let Some(allowed) = allowed {
                allowed.written();
            }
            if let Some(account) = &file.account {
                account.cut();
            }
            Ok(())
        };
        work(self, cut).done().await
    }

    fn room(&self, from: Begin) -> usize {
        let room = self.account.as_ref().map_or(u64::MAX, |account| account.room(from));
        usize::try_from(room).unwrap_or(usize::MAX).min(limits::TRANSFER_BYTES)
    }
}

fn write_all(file: &File, from: Begin, mut bytes: &[u8]) -> io::Result<()> {
    let mut from = from;
    while !bytes.is_empty() {
        let written = match from {
            Begin::At(at) => write_at(file, bytes, at),
            Begin::End => append(file, bytes),
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                if let Begin::At(at) = &mut from {
                    *at += written as u64;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a file from a place on.
pub(super) struct Reader {
    file: Arc<OpenFile>,
    at: u64,
    state: Reading,
}

enum Reading {
    Idle,
    Waiting(Waiting<Vec<u8>>, Charge),
    Here(Bytes, #[expect(dead_code, reason = "it is held")] Charge),
    Failed(io::Error),
    End,
}

impl Reading {
    fn done(read: io::Result<Vec<u8>>, charge: Charge) -> Self {
        match read {
            Ok(bytes) if bytes.is_empty() => Self::End,
            Ok(bytes) => Self::Here(bytes.into(), charge),
            Err(error) => Self::Failed(error),
        }
    }
}

impl Reader {
    pub(super) fn new(file: Arc<OpenFile>, at: u64) -> Self {
        Self {
            file,
            at,
            state: Reading::Idle,
        }
    }

    fn begin(&mut self, bytes: usize) {
        let bytes = bytes.min(limits::TRANSFER_BYTES);
        let Ok(charge) = Charge::take(&self.file.memory, bytes) else {
            self.state = Reading::Failed(io::ErrorKind::OutOfMemory.into());
            return;
        };
        let (file, at) = (self.file.clone(), self.at);
        self.state = match work(&self.file, move || file.read_now(at, bytes)) {
            Work::Done(read) => Reading::done(read, charge),
            Work::Waits(read) => Reading::Waiting(read, charge),
        };
    }

    async fn wait(&mut self) {
        if let Reading::Waiting(read, _) = &mut self.state {
            let read = waited(read).await;
            if let Reading::Waiting(_, charge) = std::mem::replace(&mut self.state, Reading::End) {
                self.state = Reading::done(read, charge);
            }
        }
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        if let Reading::Idle = self.state {
            self.begin(limits::TRANSFER_BYTES);
        }
        self.wait().await;
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        if let Reading::Idle = self.state {
            self.begin(size);
        }
        match &mut self.state {
            Reading::Idle | Reading::Waiting(..) => Ok(Bytes::new()),
            Reading::Here(bytes, _) => {
                let piece = bytes.split_to(bytes.len().min(size));
                if bytes.is_empty() {
                    self.state = Reading::Idle;
                }
                self.at += piece.len() as u64;
                Ok(piece)
            }
            Reading::Failed(_) => match std::mem::replace(&mut self.state, Reading::End) {
                Reading::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
            Reading::End => Err(StreamError::Closed),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        if let Reading::Idle = self.state {
            self.begin(size.max(1));
        }
        self.wait().await;
        self.read(size)
    }
}

/// Writes a file from a place on, or at its end.
pub(super) struct Writer {
    file: Arc<OpenFile>,
    from: Begin,
    state: Writing,
}

enum Writing {
    Idle,
    Waiting(Waiting<()>, #[expect(dead_code, reason = "it is held")] Charge),
    Failed(wasmtime::Error),
    Closed,
}

impl Writing {
    fn done(written: io::Result<()>) -> Self {
        match written {
            Ok(()) => Self::Idle,
            Err(error) => Self::Failed(error.into()),
        }
    }
}

impl Writer {
    pub(super) fn new(file: Arc<OpenFile>, from: Begin) -> Self {
        Self {
            file,
            from,
            state: Writing::Idle,
        }
    }

    /// Whether the last write went well; a failure is told once.
    fn outcome(&mut self) -> StreamResult<()> {
        match std::mem::replace(&mut self.state, Writing::Closed) {
            Writing::Failed(error) => Err(StreamError::LastOperationFailed(error)),
            Writing::Closed => Err(StreamError::Closed),
            state => {
                self.state = state;
                Ok(())
            }
        }
    }

    async fn wait(&mut self) {
        if let Writing::Waiting(write, _) = &mut self.state {
            self.state = Writing::done(waited(write).await);
        }
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        self.wait().await;
    }
}

#[async_trait]
impl OutputStream for Writer {
    fn check_write(&mut self) -> StreamResult<usize> {
        self.outcome()?;
        if let Writing::Waiting(..) = self.state {
            return Ok(0);
        }
        match self.file.room(self.from) {
            0 => {
                self.state = Writing::Closed;
                Err(StreamError::LastOperationFailed(NoSpace.into()))
            }
            room => Ok(room),
        }
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let wanted = bytes.len();
        if !matches!(self.state, Writing::Idle) || wanted > limits::TRANSFER_BYTES {
            return Err(StreamError::trap("more was written than check-write allowed"));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let Ok(charge) = Charge::take(&self.file.memory, wanted) else {
            self.state = Writing::Closed;
            return Err(StreamError::LastOperationFailed(
                io::Error::from(io::ErrorKind::OutOfMemory).into(),
            ));
        };
        match self.file.begin_write(self.from, bytes) {
            // Somebody else took the space since the guest asked.
            Ok((_, allowed)) if allowed < wanted => self.state = Writing::Failed(NoSpace.into()),
            Ok((Work::Done(written), _)) => self.state = Writing::done(written),
            Ok((Work::Waits(write), _)) => self.state = Writing::Waiting(write, charge),
            Err(error) => self.state = Writing::Failed(error.into()),
        }
        if let Begin::At(at) = &mut self.from {
            // What was wanted beyond the largest place has failed already, or will.
            *at = at.saturating_add(wanted as u64);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.outcome()
    }

    async fn cancel(&mut self) {
        // What was accepted is written.
        self.wait().await;
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, at)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, at)
}

/// Writes at the end, wherever that is by then.
#[cfg(target_os = "linux")]
fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};
    match pwritev2(file, &[io::IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND) {
        // A file system that does not know this way.
        Err(Errno::NOSYS | Errno::OPNOTSUPP) => append_after_seek(file, bytes),
        written => Ok(written?),
    }
}

#[cfg(not(target_os = "linux"))]
fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    append_after_seek(file, bytes)
}

fn append_after_seek(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    use std::io::{Seek, Write};
    file.seek(io::SeekFrom::End(0))?;
    file.write(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::{iter, thread};

    use futures::FutureExt as _;
    use tempfile::NamedTempFile;

    use super::*;

    fn open(file: File, pod: &Arc<PodFiles>) -> Arc<OpenFile> {
        Arc::new(OpenFile {
            file: Arc::new(file),
            account: None,
            is_apart: false,
            pod: pod.clone(),
            memory: MemoryAccount::new(None, false),
            _place: pod.handle().unwrap(),
        })
    }

    #[tokio::test]
    async fn who_has_no_turn_yet_waits_without_holding_a_thread() {
        let pod = Arc::<PodFiles>::default();
        let at = NamedTempFile::new().unwrap();
        fs::write(&at, "before").unwrap();
        let file = open(OpenOptions::new().read(true).write(true).open(&at).unwrap(), &pod);
        let (mut reader, mut writer) = (Reader::new(file.clone(), 0), Writer::new(file, Begin::At(6)));
        let others: Vec<_> = iter::from_fn(|| pod.turn_now()).collect();
        assert_eq!(others.len(), limits::FILE_OPERATIONS);

        assert_eq!([reader.read(6).unwrap(), reader.read(6).unwrap()], ["", ""]);
        assert_eq!(writer.check_write().unwrap(), limits::TRANSFER_BYTES);
        writer.write(Bytes::from_static(b" and after")).unwrap();
        assert_eq!(writer.check_write().unwrap(), 0);
        assert!(matches!(
            writer.write(Bytes::from_static(b"x")),
            Err(StreamError::Trap(_))
        ));
        assert!(reader.ready().now_or_never().is_none() && writer.ready().now_or_never().is_none());

        drop(others);
        reader.ready().await;
        assert_eq!(reader.read(100).unwrap(), "before");
        writer.cancel().await;
        assert_eq!(fs::read_to_string(&at).unwrap(), "before and after");
        assert_eq!(reader.blocking_read(100).await.unwrap(), " and after");
        assert!(matches!(reader.blocking_read(100).await, Err(StreamError::Closed)));
    }

    #[tokio::test]
    async fn a_file_is_the_work_of_the_guests_thread_and_a_pipe_is_not() {
        let pod = Arc::<PodFiles>::default();
        let mut file = open(tempfile::tempfile().unwrap(), &pod);
        let here = thread::current().id();
        let done = || Ok(thread::current().id());
        assert!(matches!(work(&file, done), Work::Done(Ok(thread)) if thread == here));
        Arc::get_mut(&mut file).unwrap().is_apart = true;
        let Work::Waits(mut waiting) = work(&file, done) else {
            panic!("it was done at once")
        };
        assert_ne!(waited(&mut waiting).await.unwrap(), here);
    }

    #[tokio::test]
    async fn a_failure_is_told_once_and_then_the_end() {
        let pod = Arc::<PodFiles>::default();
        let at = NamedTempFile::new().unwrap();
        let failed = |error| matches!(error, StreamError::LastOperationFailed(_));
        // Opened for the other thing: every read and every write fails.
        let mut reader = Reader::new(open(OpenOptions::new().write(true).open(&at).unwrap(), &pod), 0);
        assert!(failed(reader.blocking_read(9).await.unwrap_err()));
        assert!(matches!(reader.blocking_read(9).await, Err(StreamError::Closed)));
        let mut writer = Writer::new(open(File::open(&at).unwrap(), &pod), Begin::End);
        writer.write(Bytes::from_static(b"x")).unwrap();
        writer.ready().await;
        assert!(failed(writer.flush().unwrap_err()));
        assert!(matches!(writer.check_write(), Err(StreamError::Closed)));
        drop((reader, writer));
        assert_eq!(pod.open(), 0);
    }

    #[test]
    fn what_is_appended_comes_at_the_end_however_that_is_done() {
        let at = NamedTempFile::new().unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&at).unwrap();
        for how in [append, append_after_seek] {
            fs::write(&at, "one").unwrap();
            assert_eq!(how(&file, b"two").unwrap(), 3);
            assert_eq!(fs::read_to_string(&at).unwrap(), "onetwo");
        }
    }
}
