//! One connection between two nodes: its streams, its datagrams, and whether the other side still lives.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use coracle_net::{Fabric, NetError, Outgoing};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use tokio_util::sync::CancellationToken;
use yamux::{Config, Connection, Mode};

use crate::carry::carry;
use crate::link::Timing;
use crate::wire::{self, ADDRESSES_BYTES, Datagram};

/// Streams at a time, of both directions together: what two pods may have open, and a few more.
const STREAMS: usize = 2048;
/// Bytes that all streams of a connection may have under way to this node: a window of 256 KiB for each, which is also what a
/// pod's pipe holds. A stream that finds a long way gets a larger one from what others leave.
const WINDOW_BYTES: usize = STREAMS * 256 * 1024;
/// The longest frame. Longer ones save work, shorter ones let streams take turns: 64 KiB are a millisecond at 500 Mbit/s.
const FRAME_BYTES: usize = 64 * 1024;
/// What is gathered before it is encrypted and sent: a frame with its header goes out in one piece.
const WRITE_BYTES: usize = FRAME_BYTES + 4096;
/// What may wait encrypted for the socket: what is gathered goes into it whole, and out with one call of the system.
pub(crate) const ENCRYPTED_BYTES: usize = 2 * WRITE_BYTES;
/// Datagrams that wait for their turn; more are lost.
const DATAGRAMS: usize = 256;
/// Streams that wait to be opened. Each is somebody's connect that waits as well.
const OPENS: usize = 256;

/// How long the end of a connection may take to be known after its streams have ended: a few turns of a busy runtime. A stream
/// that ended alone is tried again after it.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(200);

type Stream = tokio_util::compat::Compat<yamux::Stream>;

/// A connection to another node that stands, or stood.
pub(crate) struct Session {
    opens: mpsc::Sender<oneshot::Sender<yamux::Stream>>,
    datagrams: mpsc::Sender<Datagram>,
    /// Whether this side dialled.
    pub(crate) dialled: bool,
    /// Ends it at once.
    pub(crate) closed: CancellationToken,
    /// Takes no new streams from here, and ends with its last one.
    retired: CancellationToken,
    busy: Arc<Busy>,
}

/// The streams that carry something.
#[derive(Default)]
struct Busy {
    count: AtomicUsize,
    less: Notify,
}

struct Place(Arc<Busy>);

impl Busy {
    fn enter(self: &Arc<Self>) -> Place {
        self.count.fetch_add(1, Ordering::AcqRel);
        Place(self.clone())
    }

    async fn idle(&self) {
        loop {
            let less = self.less.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            less.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.less.notify_waiters();
    }
}

/// Who is at the other end, and what is done with what comes from there.
#[derive(Clone)]
pub(crate) struct Far {
    pub(crate) node: Arc<str>,
    pub(crate) fabric: Fabric,
    pub(crate) timing: Timing,
}

impl Session {
    /// Starts on a connection that is secured; it runs until it is closed, breaks or falls silent.
    pub(crate) fn start<S>(io: S, dialled: bool, far: Far) -> Arc<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (opens, wanted) = mpsc::channel(OPENS);
        let (datagrams, outgoing) = mpsc::channel(DATAGRAMS);
        let session = Arc::new(Self {
            opens,
            datagrams,
            dialled,
            closed: CancellationToken::new(),
            retired: CancellationToken::new(),
            busy: Arc::default(),
        });
        let closed = session.closed.clone();
        tokio::spawn(speak(session.clone(), outgoing, far.timing));
        tokio::spawn(retire(
            session.retired.clone(),
            session.busy.clone(),
            closed.clone(),
            far.timing,
        ));
        let incoming = Incoming {
            far,
            busy: session.busy.clone(),
            closed: closed.clone(),
        };
        tokio::spawn(async move {
            let ended = closed.run_until_cancelled(drive(io, dialled, wanted, &incoming)).await;
            tracing::info!(node = %incoming.far.node, ?ended, "the connection to a node ended");
            closed.cancel();
        });
        session
    }

    /// Whether streams can be opened.
    pub(crate) fn stands(&self) -> bool {
        !self.closed.is_cancelled() && !self.retired.is_cancelled()
    }

    /// Takes no new streams, and ends with the last one.
    pub(crate) fn retire(&self) {
        self.retired.cancel();
    }

    /// Sends a datagram, or loses it.
    pub(crate) fn send(&self, datagram: Datagram) {
        let _ = self.datagrams.try_send(datagram);
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) {
        self.closed.cancelled().await;
    }

    async fn open(&self) -> Option<Stream> {
        let (sender, stream) = oneshot::channel();
        self.opens.send(sender).await.ok()?;
        let stream = self.closed.run_until_cancelled(stream).await?.ok()?;
        Some(stream.compat())
    }

    /// Carries a connection to its end. Gives it back where this ended before the other node has answered.
    pub(crate) async fn carry(&self, mut outgoing: Outgoing) -> Result<(), Outgoing> {
        let place = self.busy.enter();
        let mut head = BytesMut::with_capacity(1 + ADDRESSES_BYTES);
        head.extend_from_slice(&[wire::CONNECTION]);
        wire::write_addresses(&mut head, outgoing.from, outgoing.to);
        let asked = async {
            let mut stream = self.open().await?;
            stream.write_all(&head).await.ok()?;
            let answer = stream.read_u8().await.ok()?;
            Some(wire::read_answer(answer).map(|()| stream))
        };
        // How long to wait is for whoever connects to say: a listener may be slow.
        let asked = tokio::select! {
            asked = asked => asked,
            () = outgoing.abandoned() => Some(Err(NetError::TimedOut)),
        };
        let Some(asked) = asked else {
            // Streams end a moment before it is known that all have.
            let _ = timeout(SETTLE, self.ended()).await;
            return Err(outgoing);
        };
        let (outcome, stream) = match asked {
            Ok(stream) => (Ok(()), Some(stream)),
            Err(error) => (Err(error), None),
        };
        if let (Some(conn), Some(stream)) = (outgoing.answer(outcome), stream) {
            carry(&conn, stream.into_inner()).await;
        }
        drop(place);
        Ok(())
    }
}

/// What is done with streams that the other side opens.
struct Incoming {
    far: Far,
    busy: Arc<Busy>,
    closed: CancellationToken,
}

/// Moves the multiplexer until the connection ends.
async fn drive<S>(
    io: S,
    dialled: bool,
    mut wanted: mpsc::Receiver<oneshot::Sender<yamux::Stream>>,
    incoming: &Incoming,
) -> Result<(), yamux::ConnectionError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut config = Config::default();
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(STREAMS);
    config.set_max_connection_receive_window(Some(WINDOW_BYTES));
    config.set_split_send_size(FRAME_BYTES);
    let mode = if dialled { Mode::Client } else { Mode::Server };
    let io = BufWriter::with_capacity(WRITE_BYTES, io).compat();
    let mut connection = Connection::new(io, config, mode);
    let mut opening: Option<oneshot::Sender<yamux::Stream>> = None;
    std::future::poll_fn(|cx| {
        loop {
            if opening.is_none()
                && let Poll::Ready(Some(next)) = wanted.poll_recv(cx)
            {
                opening = Some(next);
            }
            if let Some(waiting) = opening.take() {
                match connection.poll_new_outbound(cx) {
                    // Who does not wait any more has no use for it.
                    Poll::Ready(Ok(stream)) => {
                        let _ = waiting.send(stream);
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => opening = Some(waiting),
                }
            }
            match connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => incoming.take(stream.compat()),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

impl Incoming {
    fn take(&self, mut stream: Stream) {
        let (far, busy, closed) = (self.far.clone(), self.busy.clone(), self.closed.clone());
        tokio::spawn(async move {
            let work = async {
                match stream.read_u8().await {
                    Ok(wire::CONNECTION) => {
                        let _place = busy.enter();
                        connection(&far, stream).await;
                    }
                    Ok(wire::DATAGRAMS) => {
                        let ended = datagrams(&far, stream).await;
                        tracing::debug!(node = %far.node, ?ended, "the node has fallen silent");
                        closed.cancel();
                    }
                    Ok(other) => tracing::debug!(other, "a stream that is for nothing known"),
                    Err(error) => tracing::debug!(%error, "a stream that says nothing"),
                }
            };
            closed.run_until_cancelled(work).await;
        });
    }
}

/// Takes a connection from the other node.
async fn connection(far: &Far, mut stream: Stream) {
    let mut head = [0; ADDRESSES_BYTES];
    if stream.read_exact(&mut head).await.is_err() {
        return;
    }
    let Ok((from, to)) = wire::read_addresses(head.as_slice()) else {
        return;
    };
    let arrived = far.fabric.arrive(&far.node, from, to).await;
    let (conn, outcome) = match arrived {
        Ok(conn) => (Some(conn), Ok(())),
        Err(error) => (None, Err(error)),
    };
    tracing::trace!(node = %far.node, %from, %to, ?outcome, "a connection from a node");
    if stream.write_u8(wire::answer(&outcome)).await.is_err() {
        return;
    }
    match conn {
        Some(conn) => carry(conn.conn(), stream.into_inner()).await,
        None => drop(stream.shutdown().await),
    }
}

/// Takes datagrams and signs of life, until there have been none for too long.
async fn datagrams(far: &Far, mut stream: Stream) -> io::Result<()> {
    loop {
        let deadline = Instant::now() + far.timing.silence;
        let next = async {
            let length = stream.read_u32().await?;
            let length = wire::datagram_bytes(length).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).await?;
            io::Result::Ok(Bytes::from(bytes))
        };
        let bytes = timeout_at(deadline, next).await??;
        if !bytes.is_empty() {
            let Datagram { from, to, data } = wire::read_datagram(bytes).map_err(io::Error::other)?;
            far.fabric.arrive_datagram(&far.node, from, to, data);
        }
    }
}

/// Sends datagrams, and signs of life where there are none.
async fn speak(session: Arc<Session>, mut outgoing: mpsc::Receiver<Datagram>, timing: Timing) {
    let closed = session.closed.clone();
    let work = async {
        let mut stream = session.open().await?;
        // Only the channel keeps the session from here on.
        drop(session);
        stream.write_u8(wire::DATAGRAMS).await.ok()?;
        let mut buffer = BytesMut::new();
        loop {
            buffer.clear();
            match timeout(timing.heartbeat, outgoing.recv()).await {
                Ok(Some(datagram)) => wire::write_datagram(&mut buffer, Some(&datagram)),
                Ok(None) => return None::<()>,
                Err(_) => wire::write_datagram(&mut buffer, None),
            }
            stream.write_all(&buffer).await.ok()?;
        }
    };
    // Without it the other side would take this one for dead.
    closed.run_until_cancelled(work).await;
    closed.cancel();
}

/// Closes once no more is wanted and nothing is carried.
async fn retire(retired: CancellationToken, busy: Arc<Busy>, closed: CancellationToken, timing: Timing) {
    let idle = async {
        retired.cancelled().await;
        // The other side may have chosen it for a stream before it has seen that there are two.
        tokio::time::sleep(timing.silence).await;
        busy.idle().await;
    };
    closed.run_until_cancelled(idle).await;
    closed.cancel();
}
