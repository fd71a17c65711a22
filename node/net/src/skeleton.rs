//! Signatures that are being filled.
#![allow(missing_docs)]
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{io};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use crate::{Fabric, NetError};

pub const PIPE_CAPACITY: usize = 256 * 1024;
pub const PIPE_FLOOR: usize = 4 * 1024;

/// Outcome of a read that does not wait.
#[derive(Debug, PartialEq, Eq)]
pub enum TryRead { Data(Bytes), Empty, End }

/// One end of a connection; all methods take `&self`, so `Arc<Conn>` may be shared by a socket and its two streams. Drop = FIN.
pub struct Conn;
impl Conn {
    pub fn local_addr(&self) -> SocketAddr { unimplemented!() }
    pub fn peer_addr(&self) -> SocketAddr { unimplemented!() }
    pub fn try_read(&self, _max: usize) -> Result<TryRead, NetError> { unimplemented!() }
    /// Takes what fits, returns how much; 0 = full.
    pub fn try_write(&self, _data: Bytes) -> Result<usize, NetError> { unimplemented!() }
    /// Bytes that the next `try_write` takes for sure (for `check-write`).
    pub fn writable_bytes(&self) -> Result<usize, NetError> { unimplemented!() }
    pub fn poll_readable(&self, _cx: &mut Context<'_>) -> Poll<()> { unimplemented!() }
    pub fn poll_writable(&self, _cx: &mut Context<'_>) -> Poll<()> { unimplemented!() }
    pub async fn readable(&self) { unimplemented!() }
    pub async fn writable(&self) { unimplemented!() }
    pub fn shutdown_write(&self) { unimplemented!() }
    pub fn shutdown_read(&self) { unimplemented!() }
    pub fn reset(&self) { unimplemented!() }
}

/// A connection as tokio sees it.
pub struct Stream(Conn);
impl Stream { pub fn conn(&self) -> &Conn { &self.0 } pub fn into_conn(self) -> Conn { self.0 } }
impl From<Conn> for Stream { fn from(c: Conn) -> Self { Self(c) } }
impl AsyncRead for Stream { fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> { unimplemented!() } }
impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> { unimplemented!() }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> { unimplemented!() }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> { unimplemented!() }
}

/// A connect under way; `Send + Unpin + 'static`.
pub struct Connecting;
impl Future for Connecting { type Output = Result<Conn, NetError>; fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> { unimplemented!() } }

/// A bound TCP port; Drop frees it.
pub struct Binding;
impl Binding {
    pub fn local_addr(&self) -> SocketAddr { unimplemented!() }
    pub fn listen(&self, _backlog: usize) -> Result<(), NetError> { unimplemented!() }
    /// None = nothing waits.
    pub fn try_accept(&self) -> Result<Option<Conn>, NetError> { unimplemented!() }
    pub fn poll_acceptable(&self, _cx: &mut Context<'_>) -> Poll<()> { unimplemented!() }
    pub fn poll_accept(&self, _cx: &mut Context<'_>) -> Poll<Result<Conn, NetError>> { unimplemented!() }
    pub async fn accept(&self) -> Result<Conn, NetError> { unimplemented!() }
    /// Connects from the bound address; the connection keeps the port.
    pub fn connect(self, _to: SocketAddr) -> Connecting { unimplemented!() }
}

/// A bound UDP port; Drop frees it.
pub struct UdpBinding;
impl UdpBinding {
    pub fn local_addr(&self) -> SocketAddr { unimplemented!() }
    /// Fixes or clears the only peer (wasi: `stream(remote)`).
    pub fn set_peer(&self, _peer: Option<SocketAddr>) -> Result<(), NetError> { unimplemented!() }
    pub fn peer(&self) -> Option<SocketAddr> { unimplemented!() }
    /// `to` none = the fixed peer. Never waits: a full receiver loses the datagram.
    pub fn send(&self, _data: Bytes, _to: Option<SocketAddr>) -> Result<(), NetError> { unimplemented!() }
    pub fn try_recv(&self) -> Result<Option<(Bytes, SocketAddr)>, NetError> { unimplemented!() }
    pub fn poll_readable(&self, _cx: &mut Context<'_>) -> Poll<()> { unimplemented!() }
    pub async fn recv(&self) -> Result<(Bytes, SocketAddr), NetError> { unimplemented!() }
}

/// Keeps a host service registered.
pub struct HostService;

/// Node port listeners on the host.
pub struct NodePorts;
/// A node port that cannot be served.
#[derive(Debug, Clone)]
pub struct NodePortFailure { pub namespace: String, pub service: String, pub port: u16, pub message: String }
impl NodePorts {
    pub fn new(_fabric: Fabric, _bind_ip: std::net::IpAddr) -> Self { unimplemented!() }
    pub fn on_failure(self, _report: impl Fn(NodePortFailure) + Send + Sync + 'static) -> Self { self }
    pub async fn run(self, _shutdown: CancellationToken) { unimplemented!() }
}

/// The DNS server.
pub struct Dns;
impl Dns {
    /// Sockets already bound; both lists may be empty (then only pods are served).
    pub fn bind(_fabric: Fabric, _udp: Vec<std::net::UdpSocket>, _tcp: Vec<std::net::TcpListener>) -> Self { unimplemented!() }
    pub async fn run(self, _shutdown: CancellationToken) -> Result<(), io::Error> { unimplemented!() }
}
#[allow(dead_code)] fn unused(_: Arc<()>) {}
