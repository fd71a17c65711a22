//! The body of an answer: bytes that are there, a list that is put together as it is sent, or a stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use coracle_store::Record;
use futures::stream::{BoxStream, Stream, StreamExt};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyStream;

/// How much of a list is copied together before it is handed to the connection. Larger pieces save few calls and cost
/// memory per slow reader.
const LIST_PIECE_BYTES: usize = 64 * 1024;

/// Why a body ended before its time.
pub type BodyError = std::io::Error;

/// The body of every answer of the server.
pub struct ResponseBody(Inner);

enum Inner {
    Full(Option<Bytes>),
    List(ListBody),
    Stream(BoxStream<'static, Result<Bytes, BodyError>>),
}

/// `head`, the stored bytes of the records with commas between, `tail`.
struct ListBody {
    head: Option<Bytes>,
    records: VecDeque<Arc<Record>>,
    first: bool,
    tail: Option<Bytes>,
    left_bytes: u64,
}

impl ResponseBody {
    /// A body of these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Full(Some(bytes.into())))
    }

    /// A body without bytes.
    pub fn empty() -> Self {
        Self(Inner::Full(None))
    }

    /// A body that ends when `stream` does.
    pub fn stream(stream: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(stream)))
    }

    /// The same body, which keeps something until it ends or is given up.
    pub(crate) fn holding(self, kept: impl Send + 'static) -> Self {
        Self::stream(BodyStream::new(self).filter_map(move |frame| {
            let _kept = &kept;
            std::future::ready(match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(error) => Some(Err(error)),
            })
        }))
    }

    /// The stored bytes of `records` between `head` and `tail`, separated by commas.
    pub(crate) fn list(head: Bytes, records: Vec<Arc<Record>>, tail: Bytes) -> Self {
        let bytes: usize = records.iter().map(|record| record.json.len()).sum();
        let left = head.len() + bytes + records.len().saturating_sub(1) + tail.len();
        Self(Inner::List(ListBody {
            head: Some(head),
            records: records.into(),
            first: true,
            tail: Some(tail),
            left_bytes: left as u64,
        }))
    }
}

impl ListBody {
    fn next(&mut self) -> Option<Bytes> {
        let mut piece = BytesMut::with_capacity(LIST_PIECE_BYTES.min(self.left_bytes as usize));
        if let Some(head) = self.head.take() {
            piece.put(head);
        }
        // Up to what the piece has room for, so that it is never copied to grow; one large record is a piece of its own.
        let fits =
            |piece: &BytesMut, record: &Record| piece.is_empty() || piece.len() + record.json.len() < LIST_PIECE_BYTES;
        while let Some(record) = self.records.pop_front_if(|record| fits(&piece, record)) {
            if !std::mem::replace(&mut self.first, false) {
                piece.put_u8(b',');
            }
            piece.put_slice(&record.json);
        }
        if self.records.is_empty()
            && let Some(tail) = self.tail.take()
        {
            piece.put(tail);
        }
        self.left_bytes = self.left_bytes.saturating_sub(piece.len() as u64);
        (!piece.is_empty()).then(|| piece.freeze())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::List(list) => Poll::Ready(list.next().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Stream(stream) => stream
                .as_mut()
                .poll_next(context)
                .map(|next| next.map(|item| item.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Full(bytes) => bytes.is_none(),
            Inner::List(list) => list.left_bytes == 0,
            Inner::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Inner::List(list) => SizeHint::with_exact(list.left_bytes),
            Inner::Stream(_) => SizeHint::default(),
        }
    }
}
