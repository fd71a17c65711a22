//! A body that goes to several readers. The first of them sets the pace, as if it were alone; the others read from queues
//! with a limit, and one whose queue is full is cut off: it never sees an end of the body, only a failure.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Why a body ends before its end.
pub type Broken = Box<dyn std::error::Error + Send + Sync>;

/// What one queue may hold: what a client of a fast network sends while a reader waits some tens of milliseconds for its
/// turn.
pub const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// What a frame is counted for besides its bytes, so that many small ones have a limit too.
const FRAME_BYTES: usize = 256;

/// A body whose frames go to queues as well.
#[derive(Debug)]
pub struct Tee<B> {
    body: B,
    feeds: Vec<Feed>,
}

/// The end of a queue where frames go in. Dropped before the body's end, it cuts the reader off.
#[derive(Debug)]
struct Feed(Arc<Queue>);

/// The frames that a reader has still to read.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    /// Bytes that this queue and others may hold together.
    room: Arc<Semaphore>,
    cut: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<(Frame<Bytes>, OwnedSemaphorePermit)>,
    bytes: usize,
    end: End,
    reader: Option<Waker>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may come.
    #[default]
    Open,
    /// All is there.
    Whole,
    /// The reader did not keep up.
    Full,
    /// There is no more than this of the body itself.
    Broken,
    /// The reader has gone.
    Gone,
}

/// Why a reader was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its queue was full.
    Full,
    /// The body itself ended early.
    Broken,
}

/// The body that a reader of a queue has.
#[derive(Debug)]
pub struct Queued(Arc<Queue>);

impl<B> Tee<B> {
    /// A body that these queues get too.
    pub fn new(body: B, queues: impl IntoIterator<Item = Arc<Queue>>) -> Self {
        let feeds = queues.into_iter().map(Feed).collect();
        Self { body, feeds }
    }

    fn pass(&mut self, frame: &Frame<Bytes>) {
        if self.feeds.is_empty() {
            return;
        }
        // Bytes of their own: a part of the client's buffer would keep the whole of it.
        let data = frame.data_ref().map(|data| Bytes::copy_from_slice(data));
        let trailers = frame.trailers_ref();
        self.feeds.retain(|feed| match (&data, trailers) {
            (Some(data), _) => feed.0.push(Frame::data(data.clone()), data.len()),
            (_, Some(trailers)) => feed.0.push(Frame::trailers(trailers.clone()), size(trailers)),
            _ => true,
        });
    }

    fn finish(&mut self) {
        for feed in self.feeds.drain(..) {
            feed.0.end(End::Whole);
        }
    }
}

fn size(trailers: &HeaderMap) -> usize {
    let sizes = trailers.iter().map(|(name, value)| name.as_str().len() + value.len());
    sizes.sum()
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tee<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.pass(frame);
                // The reader of this body may not ask for more then.
                if self.body.is_end_stream() {
                    self.finish();
                }
            }
            Some(Err(_)) => self.feeds.clear(),
            None => self.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.end(End::Broken);
    }
}

impl Queue {
    /// An empty queue that takes what it holds from this room.
    pub fn new(room: Arc<Semaphore>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            room,
            cut: Notify::new(),
        })
    }

    /// The body of its frames, for one reader.
    pub fn body(self: &Arc<Self>) -> Queued {
        Queued(self.clone())
    }

    /// Waits until the reader is cut off.
    pub async fn cut(&self) -> Cut {
        loop {
            match self.state.lock().end {
                End::Full => return Cut::Full,
                End::Broken => return Cut::Broken,
                End::Open | End::Whole | End::Gone => {}
            }
            self.cut.notified().await;
        }
    }

    /// Whether more may come.
    pub fn is_open(&self) -> bool {
        self.state.lock().end == End::Open
    }

    /// Takes a frame; false where no more is wanted.
    fn push(&self, frame: Frame<Bytes>, size: usize) -> bool {
        let mut state = self.state.lock();
        if state.end != End::Open {
            return false;
        }
        let cost = size + FRAME_BYTES;
        let place = u32::try_from(cost).ok().filter(|_| state.bytes + cost <= QUEUE_BYTES);
        let place = place.and_then(|cost| self.room.clone().try_acquire_many_owned(cost).ok());
        let Some(place) = place else {
            drop(state);
            self.end(End::Full);
            return false;
        };
        state.bytes += cost;
        state.frames.push_back((frame, place));
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    /// No more frames come; the first reason counts.
    fn end(&self, end: End) {
        let mut state = self.state.lock();
        let goes = end == End::Gone;
        if state.end == End::Open {
            state.end = end;
        } else if !goes {
            return;
        }
        // What a reader who is cut off has not read yet is of no use to it, and its end comes at once.
        let left = match end {
            End::Open | End::Whole => VecDeque::new(),
            End::Full | End::Broken | End::Gone => std::mem::take(&mut state.frames),
        };
        let reader = state.reader.take();
        drop(state);
        drop(left);
        self.cut.notify_one();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Body for Queued {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut state = self.0.state.lock();
        if let Some((frame, place)) = state.frames.pop_front() {
            state.bytes -= place.num_permits();
            return Poll::Ready(Some(Ok(frame)));
        }
        match state.end {
            End::Open => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            End::Whole => Poll::Ready(None),
            End::Full | End::Broken | End::Gone => Poll::Ready(Some(Err("the request was cut off".into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.state.lock();
        state.end == End::Whole && state.frames.is_empty()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.end(End::Gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;

    type Sent = Result<Frame<Bytes>, Infallible>;

    fn data(size: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![7; size]))
    }

    fn tee(
        frames: impl IntoIterator<Item = Frame<Bytes>>,
        queues: &[&Arc<Queue>],
    ) -> Tee<StreamBody<futures::stream::Iter<std::vec::IntoIter<Sent>>>> {
        let frames: Vec<Sent> = frames.into_iter().map(Ok).collect();
        let queues = queues.iter().map(|queue| (*queue).clone());
        Tee::new(StreamBody::new(futures::stream::iter(frames)), queues)
    }

    fn room() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(2 * QUEUE_BYTES))
    }

    #[tokio::test]
    async fn all_readers_get_the_same_with_the_trailers() {
        let room = room();
        let queues = [Queue::new(room.clone()), Queue::new(room.clone())];
        let bodies = [queues[0].body(), queues[1].body()];
        let trailers: HeaderMap = [(http::header::ETAG, "x".parse().unwrap())].into_iter().collect();
        let frames = [data(5), data(0), data(70_000), Frame::trailers(trailers.clone())];
        let own = tee(frames, &[&queues[0], &queues[1]]).collect().await.unwrap();
        assert_eq!(own.trailers(), Some(&trailers));
        let own = own.to_bytes();
        assert_eq!(own.len(), 70_005);
        for body in bodies {
            let read = body.collect().await.unwrap();
            assert_eq!(read.trailers(), Some(&trailers));
            assert_eq!(read.to_bytes(), own);
        }
        assert_eq!(room.available_permits(), 2 * QUEUE_BYTES);
    }

    #[tokio::test]
    async fn a_reader_that_does_not_keep_up_is_cut_off_and_holds_nothing() {
        for size in [0, 1, 1000, 1024 * 1024] {
            let room = room();
            let (slow, quick) = (Queue::new(room.clone()), Queue::new(room.clone()));
            let (slow_body, quick_body) = (slow.body(), quick.body());
            let frames = (0..QUEUE_BYTES / (size + FRAME_BYTES) + 1).map(|_| data(size));
            let quick_reads = quick_body.collect();
            let (own, read) = tokio::join!(
                async {
                    let mut body = tee(frames, &[&slow, &quick]);
                    let mut all = 0;
                    while let Some(frame) = body.frame().await {
                        all += frame.unwrap().into_data().unwrap().len();
                        tokio::task::yield_now().await;
                    }
                    all
                },
                quick_reads
            );
            assert_eq!(read.unwrap().to_bytes().len(), own, "frames of {size}");
            assert_eq!(slow.cut().await, Cut::Full);
            assert_eq!(room.available_permits(), 2 * QUEUE_BYTES);
            slow_body.collect().await.unwrap_err();
        }
    }

    #[tokio::test]
    async fn queues_share_their_room() {
        let room = Arc::new(Semaphore::new(3000));
        let queues = [Queue::new(room.clone()), Queue::new(room.clone())];
        let bodies = queues.each_ref().map(Queue::body);
        tee([data(2000)], &[&queues[0]]).collect().await.unwrap();
        tee([data(2000)], &[&queues[1]]).collect().await.unwrap();
        assert_eq!(queues[1].cut().await, Cut::Full);
        let [first, second] = bodies;
        assert_eq!(first.collect().await.unwrap().to_bytes().len(), 2000);
        second.collect().await.unwrap_err();
        assert_eq!(room.available_permits(), 3000);
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_or_a_reader_that_goes_ends_the_other_side() {
        let room = room();
        let queue = Queue::new(room.clone());
        let body = queue.body();
        let mut dropped = tee([data(10), data(10)], &[&queue]);
        dropped.frame().await.unwrap().unwrap();
        assert!(queue.is_open());
        drop(dropped);
        assert_eq!(queue.cut().await, Cut::Broken);
        body.collect().await.unwrap_err();

        let queue = Queue::new(room.clone());
        let body = queue.body();
        let mut goes_on = tee([data(10), data(10)], &[&queue]);
        goes_on.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(room.available_permits(), 2 * QUEUE_BYTES);
        goes_on.frame().await.unwrap().unwrap();
        assert!(goes_on.feeds.is_empty());
    }
}
