//! A session: one task reads frames and hands bytes to streams, one writes what streams send.
//!
//! Dropping everything that belongs to a session ends it; so does the end of the connection.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use futures::{Sink, SinkExt, Stream, StreamExt, sink};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::frame::{Decoder, Encoder, Frame, data, ping};
use super::headers::Headers;

/// Streams of one session. A port-forward needs two per connection that it carries.
const STREAMS: usize = 2048;
/// Pieces that wait for a stream's reader. Clients send 32 KiB a piece, so half a MiB per stream.
const PIECES: usize = 16;
/// Frames that wait for the writer.
const FRAMES: usize = 64;
/// Streams that wait to be looked at.
const OPENED: usize = 32;

/// A stream that the other side opened.
pub(crate) struct Incoming {
    pub(crate) headers: Headers,
    pub(crate) reader: mpsc::Receiver<Bytes>,
    pub(crate) writer: Writer,
}

impl Incoming {
    /// A header's value; names come in lower case.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }
}

/// What goes out.
enum Out {
    Reply(u32),
    Data(Bytes),
    Ping(u32),
}

/// The sending half of a stream.
#[derive(Clone)]
pub(crate) struct Writer {
    stream: u32,
    out: mpsc::Sender<Out>,
}

impl Writer {
    /// Sends bytes; false when the session is over.
    pub(crate) async fn send(&self, bytes: &[u8]) -> bool {
        self.out.send(Out::Data(data(self.stream, bytes, false))).await.is_ok()
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn finish(&self) {
        // A session that is over needs no farewell.
        let _ = self.out.send(Out::Data(data(self.stream, &[], true))).await;
    }
}

/// Runs a session over a connection, given as pieces that come and a place for pieces that go. The streams that the other
/// side opens come out of the receiver, which ends with the session. `stop` ends it early.
pub(crate) fn session(
    incoming: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    outgoing: impl Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
    stop: CancellationToken,
) -> mpsc::Receiver<Incoming> {
    let (opened, receiver) = mpsc::channel(OPENED);
    let (out, frames) = mpsc::channel(FRAMES);
    let over = stop.child_token();
    let write_over = over.clone();
    tokio::spawn(async move {
        if let Err(error) = write(outgoing, frames, &write_over).await {
            debug!(%error, "SPDY session cannot be written");
        }
        write_over.cancel();
    });
    tokio::spawn(async move {
        let read = read(incoming, opened, out);
        tokio::select! {
            () = over.cancelled() => {}
            result = read => if let Err(error) = result {
                debug!(%error, "SPDY session ended");
            },
        }
        over.cancel();
    });
    receiver
}

/// A session over an upgraded connection itself.
pub(crate) fn session_over(upgraded: Upgraded, stop: CancellationToken) -> mpsc::Receiver<Incoming> {
    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    let outgoing = sink::unfold(writer, |mut writer, bytes: Bytes| async move {
        writer.write_all(&bytes).await?;
        writer.flush().await?;
        Ok::<_, io::Error>(writer)
    });
    session(ReaderStream::new(reader), Box::pin(outgoing), stop)
}

async fn write(
    mut outgoing: impl Sink<Bytes, Error = io::Error> + Unpin,
    mut frames: mpsc::Receiver<Out>,
    over: &CancellationToken,
) -> io::Result<()> {
    let mut encoder = Encoder::new().map_err(io::Error::other)?;
    loop {
        let out = tokio::select! {
            biased;
            out = frames.recv() => out,
            () = over.cancelled() => None,
        };
        let Some(out) = out else { break };
        outgoing.feed(encode(&mut encoder, out)?).await?;
        while let Ok(out) = frames.try_recv() {
            outgoing.feed(encode(&mut encoder, out)?).await?;
        }
        outgoing.flush().await?;
    }
    outgoing.close().await
}

fn encode(encoder: &mut Encoder, out: Out) -> io::Result<Bytes> {
    match out {
        Out::Reply(stream) => encoder.reply(stream).map_err(io::Error::other),
        Out::Data(bytes) => Ok(bytes),
        Out::Ping(id) => Ok(ping(id)),
    }
}

async fn read(
    mut incoming: impl Stream<Item = io::Result<Bytes>> + Unpin,
    opened: mpsc::Sender<Incoming>,
    out: mpsc::Sender<Out>,
) -> io::Result<()> {
    let mut decoder = Decoder::new();
    let mut streams: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    while let Some(bytes) = incoming.next().await {
        decoder.push(&bytes?);
        while let Some(frame) = decoder.next().map_err(io::Error::other)? {
            match frame {
                Frame::Open { stream, headers, fin } => {
                    streams.retain(|_, sender| !sender.is_closed());
                    if streams.len() >= STREAMS {
                        return Err(io::Error::other("too many streams"));
                    }
                    let (sender, reader) = mpsc::channel(PIECES);
                    if !fin {
                        streams.insert(stream, sender);
                    }
                    out.send(Out::Reply(stream)).await.map_err(|_| gone(()))?;
                    let writer = Writer {
                        stream,
                        out: out.clone(),
                    };
                    opened
                        .send(Incoming {
                            headers,
                            reader,
                            writer,
                        })
                        .await
                        .map_err(|_| gone(()))?;
                }
                Frame::Data { stream, bytes, fin } => {
                    if let Some(sender) = streams.get(&stream).filter(|_| !bytes.is_empty()) {
                        // A reader that went away does not want the rest.
                        let _ = sender.send(bytes).await;
                    }
                    if fin {
                        streams.remove(&stream);
                    }
                }
                Frame::Reset { stream } => drop(streams.remove(&stream)),
                Frame::Ping { id } => out.send(Out::Ping(id)).await.map_err(|_| gone(()))?,
                Frame::GoAway | Frame::Other => {}
            }
        }
    }
    Ok(())
}
