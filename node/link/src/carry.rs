//! One connection on one stream: bytes both ways, with what a TCP connection tells its ends.
//!
//! The end of one direction is a piece of its own; so is "no more, please", which the other side's pod sees as a broken pipe.
//! A stream that ends without them is a broken connection, and the pod's end is reset. A pod that does not read fills its pipe,
//! then the stream's window, and then its peer waits: nothing is kept in between.

use bytes::BytesMut;
use coracle_net::{Conn, TryRead};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;

use crate::wire::{LENGTH_BYTES, PIECE_BYTES, Piece, read_piece, write_piece};

/// Carries until both directions have ended.
pub(crate) async fn carry<S>(conn: &Conn, stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut unfinished = Unfinished(Some(conn));
    let (reader, mut writer) = tokio::io::split(stream);
    let unwanted = Notify::new();
    // Whoever breaks first ends both: what remains of a broken connection is of no use.
    let both = tokio::try_join!(send(conn, &mut writer, &unwanted), take(conn, reader, &unwanted));
    if both.is_ok() {
        unfinished.0 = None;
        // The other side has all; how the stream itself ends tells it nothing more.
        drop(writer.shutdown().await);
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
async fn send<S>(conn: &Conn, writer: &mut WriteHalf<S>, unwanted: &Notify) -> Result<(), Broken>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut buffer = BytesMut::with_capacity(LENGTH_BYTES + PIECE_BYTES);
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
        buffer.clear();
        write_piece(&mut buffer, &piece);
        writer.write_all(&buffer).await?;
    }
    Ok(())
}

/// Gives the pod what the other side sends. Ends when that has sent all, and notes then, or before, that no more is taken.
async fn take<S>(conn: &Conn, mut reader: ReadHalf<S>, unwanted: &Notify) -> Result<(), Broken>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut came = BytesMut::new();
    let (mut left, mut ended, mut stopped, mut gone) = (0, false, false, false);
    while !(ended && stopped) {
        match read_piece(&mut came, &mut left)? {
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
            None => {
                came.reserve(LENGTH_BYTES + PIECE_BYTES);
                if reader.read_buf(&mut came).await? == 0 {
                    return Err(Broken);
                }
            }
        }
    }
    Ok(())
}

async fn give(conn: &Conn, mut bytes: bytes::Bytes) -> Result<(), coracle_net::NetError> {
    while !bytes.is_empty() {
        let taken = conn.try_write(bytes.clone())?;
        let _ = bytes.split_to(taken);
        if taken == 0 {
            conn.writable().await;
        }
    }
    Ok(())
}
