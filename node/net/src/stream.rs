//! One end of a connection: [`Conn`] without waiting, as a guest's socket needs it, and [`Stream`] as tokio sees it.
//!
//! Dropping an end is its FIN, and it also ends reading: the peer reads what was written, then the end, and its writes
//! fail with a broken pipe. The port is free at once; there is no TIME_WAIT.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::NetError;
use crate::account::Account;
use crate::capture::Taps;
use crate::pipe::{Pipe, TryRead};
use crate::pod::Registration;

/// Both directions of a connection, shared by its two ends and by the registries that can reset it.
#[derive(Debug)]
pub(crate) struct Link {
    to_server: Pipe,
    to_client: Pipe,
    /// Who captures its packets.
    pub(crate) taps: Taps,
}

impl Link {
    /// `client` pays for what the server sends, and the other way round.
    pub(crate) fn new(client: Account, server: Account) -> Arc<Self> {
        Arc::new(Self {
            to_server: Pipe::new(server),
            to_client: Pipe::new(client),
            taps: Taps::default(),
        })
    }

    /// Bytes that the client has sent, and the server.
    pub(crate) fn totals(&self) -> [u64; 2] {
        [self.to_server.total(), self.to_client.total()]
    }

    pub(crate) fn reset(&self) {
        if self.taps.any() {
            self.taps.reset();
        }
        self.to_server.reset();
        self.to_client.reset();
    }
}

/// Which end of a [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// One end of a connection. All methods take `&self`, so that a guest's socket and its two streams may share it.
pub struct Conn {
    link: Arc<Link>,
    side: Side,
    local: SocketAddr,
    peer: SocketAddr,
    /// Keeps the port, the place in the quota and the entry by which the pod's removal finds this end. None on the host.
    _registration: Option<Registration>,
}

impl Conn {
    pub(crate) fn new(
        link: Arc<Link>,
        side: Side,
        local: SocketAddr,
        peer: SocketAddr,
        registration: Option<Registration>,
    ) -> Self {
        Self {
            link,
            side,
            local,
            peer,
            _registration: registration,
        }
    }

    fn incoming(&self) -> &Pipe {
        match self.side {
            Side::Client => &self.link.to_client,
            Side::Server => &self.link.to_server,
        }
    }

    fn outgoing(&self) -> &Pipe {
        match self.side {
            Side::Client => &self.link.to_server,
            Side::Server => &self.link.to_client,
        }
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address that this end connected to or was called from; a service address stays the service's.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Takes up to `max` bytes that have arrived, without copying and without waiting.
    ///
    /// # Errors
    /// [`NetError::ConnectionReset`].
    pub fn try_read(&self, max: usize) -> Result<TryRead, NetError> {
        self.incoming().read(max)
    }

    /// Sends what fits of `data`, from its start, without copying and without waiting; returns how much, zero means full.
    ///
    /// # Errors
    /// [`NetError::BrokenPipe`] after the peer left or after `shutdown_write`, [`NetError::ConnectionReset`].
    pub fn try_write(&self, data: Bytes) -> Result<usize, NetError> {
        if !self.link.taps.any() {
            return self.outgoing().write(data);
        }
        let written = self.outgoing().write(data.clone())?;
        self.link.taps.data(self.side, data.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn write_slices(&self, slices: &[IoSlice<'_>]) -> Result<usize, NetError> {
        let written = self.outgoing().write_slices(slices)?;
        if self.link.taps.any() {
            let mut data: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            data.truncate(written);
            self.link.taps.data(self.side, &data);
        }
        Ok(written)
    }

    fn finish(&self) {
        self.outgoing().finish();
        if self.link.taps.any() {
            self.link.taps.end(self.side);
        }
    }

    /// Bytes that the next `try_write` takes for sure; zero means full.
    ///
    /// # Errors
    /// As [`Conn::try_write`].
    pub fn writable_bytes(&self) -> Result<usize, NetError> {
        self.outgoing().writable()
    }

    /// Ready when a read would give data, the end or an error; else wakes the task when it does.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.incoming().poll_readable(cx)
    }

    /// Ready when a write would take bytes or fail; else wakes the task when it does.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.outgoing().poll_writable(cx)
    }

    /// Waits for [`Conn::poll_readable`].
    pub async fn readable(&self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Waits for [`Conn::poll_writable`].
    pub async fn writable(&self) {
        poll_fn(|cx| self.poll_writable(cx)).await;
    }

    /// Ends sending: the peer reads what is under way and then the end. Reading goes on.
    pub fn shutdown_write(&self) {
        self.finish();
    }

    /// Ends reading: what has arrived is dropped, and the peer's writes fail.
    pub fn shutdown_read(&self) {
        self.incoming().close_read();
    }

    /// Breaks the connection for both ends at once.
    pub fn reset(&self) {
        self.link.reset();
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.finish();
        self.incoming().close_read();
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("local", &self.local)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// A connection as tokio sees it: for probes, port-forward, node ports and HTTP.
#[derive(Debug)]
pub struct Stream(Conn);

impl Stream {
    /// The connection beneath.
    pub fn conn(&self) -> &Conn {
        &self.0
    }

    /// The connection beneath, for use without tokio.
    pub fn into_conn(self) -> Conn {
        self.0
    }
}

impl From<Conn> for Stream {
    fn from(conn: Conn) -> Self {
        Self(conn)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.0.incoming().read_into(&mut *buffer)?.is_some() {
                return Poll::Ready(Ok(()));
            }
            if self.0.poll_readable(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let empty = slices.iter().all(|slice| slice.is_empty());
        loop {
            let written = self.0.write_slices(slices)?;
            if written > 0 || empty {
                return Poll::Ready(Ok(written));
            }
            if self.0.poll_writable(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
