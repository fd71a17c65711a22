//! One connection on one stream: bytes both ways, with what a TCP connection tells its ends.
//!
//! The end of one direction is a piece of its own; so is "no more, please", which the other side's pod sees as a broken pipe.
//! A stream that ends without them is a broken connection, and the pod's end is reset. A pod that does not read fills its pipe,
//! then the stream's window, and then its peer waits: nothing is kept in between.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use coracle_net::{Conn, NetError, TryRead};
use futures::{AsyncWrite, Stream};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::wire::{PIECE_BYTES, Piece, Pieces, write_piece};

/// A stream of which each direction is used by a future of its own, both in one task: the lock is never waited for.
struct Shared(Mutex<yamux::Stream>);

impl Shared {
    fn poll<T>(&self, poll: impl FnOnce(Pin<&mut yamux::Stream>) -> Poll<T>) -> Poll<T> {
        poll(Pin::new(&mut *self.0.lock()))
    }

    async fn write(&self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.poll(|stream| stream.poll_write(cx, bytes))).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// What has come, as the multiplexer has it; none where the stream has ended.
    async fn read(&self) -> std::io::Result<Option<Bytes>> {
        let next = |cx: &mut Context<'_>| self.poll(|stream| stream.poll_next(cx));
        Ok(poll_fn(next).await.transpose()?.map(Bytes::from_owner))
    }

    async fn close(&self) -> std::io::Result<()> {
        poll_fn(|cx| self.poll(|stream| stream.poll_close(cx))).await
    }
}

/// Carries until both directions have ended.
pub(crate) async fn carry(conn: &Conn, stream: yamux::Stream) {
    let mut unfinished = Unfinished(Some(conn));
    let stream = Shared(Mutex::new(stream));
    let unwanted = Notify::new();
    // Whoever breaks first ends both: what remains of a broken connection is of no use.
    let both = tokio::try_join!(send(conn, &stream, &unwanted), take(conn, &stream, &unwanted));
    if both.is_ok() {
        unfinished.0 = None;
        // The other side has all; how the stream itself ends tells it nothing more.
        drop(stream.close().await);
    }
}

/// A connection that breaks unless it ends in order, also where whoever carries it is dropped.
struct Unfinished<'c>(Option<&'c Conn>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(conn) = self.0 {
            conn.reset();
        }
    }
}

/// The connection cannot go on.
struct Broken;

impl<E: std::error::Error> From<E> for Broken {
    fn from(error: E) -> Self {
        tracing::trace!(%error, "a connection between nodes broke");
        Self
    }
}

/// Sends what the pod sends, and that it takes no more once `unwanted` says so.
async fn send(conn: &Conn, stream: &Shared, unwanted: &Notify) -> Result<(), Broken> {
    let mut head = BytesMut::new();
    let mut ended = false;
    let mut told = false;
    while !(ended && told) {
        let piece = match ended {
            true => {
                // Either the pod takes no more or the peer has no more: both are told here.
                unwanted.notified().await;
                told = true;
                Piece::Stop
            }
            false => match conn.try_read(PIECE_BYTES)? {
                TryRead::Data(bytes) => Piece::Data(bytes),
                TryRead::End => {
                    ended = true;
                    Piece::End
                }
                TryRead::Empty => {
                    tokio::select! {
                        () = conn.readable() => continue,
                        () = unwanted.notified(), if !told => {
                            told = true;
                            Piece::Stop
                        }
                    }
                }
            },
        };
        head.clear();
        let rest = write_piece(&mut head, piece);
        stream.write(&head).await?;
        stream.write(&rest).await?;
    }
    Ok(())
}

/// Gives the pod what the other side sends. Ends when that has sent all, and notes then, or before, that no more is taken.
async fn take(conn: &Conn, stream: &Shared, unwanted: &Notify) -> Result<(), Broken> {
    let mut pieces = Pieces::default();
    let (mut ended, mut stopped, mut gone) = (false, false, false);
    while !(ended && stopped) {
        match pieces.next()? {
            // Once the pod has closed its end, what still comes is for nobody.
            Some(Piece::Data(_)) if gone => {}
            Some(Piece::Data(bytes)) => {
                if give(conn, bytes).await.is_err() {
                    gone = true;
                    unwanted.notify_one();
                }
            }
            Some(Piece::End) => {
                ended = true;
                conn.shutdown_write();
                if !gone {
                    unwanted.notify_one();
                }
            }
            Some(Piece::Stop) => {
                stopped = true;
                conn.shutdown_read();
            }
            None => pieces.add(stream.read().await?.ok_or(Broken)?),
        }
    }
    Ok(())
}

async fn give(conn: &Conn, mut bytes: Bytes) -> Result<(), NetError> {
    while !bytes.is_empty() {
        let taken = conn.try_write(bytes.clone())?;
        let _ = bytes.split_to(taken);
        if taken == 0 {
            conn.writable().await;
        }
    }
    Ok(())
}
