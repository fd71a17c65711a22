//! TCP sockets: a state machine per socket, and the two streams of a connection.
//!
//! A connection lives until the socket and both streams are gone. Readiness is exact: a stream that says it is ready then reads
//! or writes at least one byte, or reports its end, because a guest that is woken in vain too often is ended.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use coracle_net::{Binding, Conn, Connecting, NetError, SocketSlot, TryRead};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::tcp::{Host, HostTcpSocket, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::{
    self, DynInputStream, DynOutputStream, DynPollable, InputStream, Network, OutputStream, Pollable, SocketResult,
    StreamError, StreamResult,
};

use super::{Alias, NetView, Options, belongs, reachable, refused, set};
use crate::limits;

/// How many connections wait to be accepted unless the guest says otherwise; what std asks for.
const BACKLOG: usize = 128;

/// One TCP socket of a guest.
pub(super) struct TcpSocket {
    family: IpAddressFamily,
    state: State,
    backlog: usize,
    options: Options,
}

/// Where a socket is in its life. `start-*` calls have an answer at once here, and `finish-*` hands it out.
enum State {
    Fresh(SocketSlot),
    BindStarted(Binding),
    Bound(Binding),
    ListenStarted(Binding),
    Listening(Binding),
    Connecting(Connecting),
    /// The outcome of a connect that a pollable waited for.
    Answered(Result<Conn, NetError>),
    Connected(Arc<Conn>),
    /// A step failed, or is being taken. Nothing can be done with it.
    Closed,
}

impl Alias for TcpSocket {
    type Name = p2::TcpSocket;
}

impl TcpSocket {
    fn new(family: IpAddressFamily, state: State) -> Self {
        Self {
            family,
            state,
            backlog: BACKLOG,
            options: Options::default(),
        }
    }

    /// Refuses a call while another one waits for its second half.
    fn idle(&self) -> Result<(), ErrorCode> {
        match self.state {
            State::BindStarted(_) | State::ListenStarted(_) | State::Connecting(_) | State::Answered(_) => {
                Err(ErrorCode::ConcurrencyConflict)
            }
            _ => Ok(()),
        }
    }

    fn start_connect(&mut self, view: &Arc<coracle_net::PodNet>, to: std::net::SocketAddr) -> Result<(), ErrorCode> {
        self.idle()?;
        let to = reachable(to, self.family)?;
        match mem::replace(&mut self.state, State::Closed) {
            State::Fresh(slot) => self.state = State::Connecting(view.connect_with(slot, to)),
            State::Bound(binding) => self.state = State::Connecting(binding.connect(to)),
            other => {
                self.state = other;
                return Err(ErrorCode::InvalidState);
            }
        }
        Ok(())
    }

    fn finish_connect(&mut self) -> Result<Arc<Conn>, ErrorCode> {
        let answer = match mem::replace(&mut self.state, State::Closed) {
            State::Answered(answer) => answer,
            State::Connecting(mut connecting) => {
                match Pin::new(&mut connecting).poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => {
                        self.state = State::Connecting(connecting);
                        return Err(ErrorCode::WouldBlock);
                    }
                }
            }
            other => {
                self.state = other;
                return Err(ErrorCode::NotInProgress);
            }
        };
        let conn = Arc::new(answer.map_err(super::code)?);
        self.state = State::Connected(conn.clone());
        Ok(conn)
    }

    fn binding(&self) -> Option<&Binding> {
        match &self.state {
            State::Bound(binding) | State::ListenStarted(binding) | State::Listening(binding) => Some(binding),
            _ => None,
        }
    }

    fn conn(&self) -> Result<&Arc<Conn>, ErrorCode> {
        match &self.state {
            State::Connected(conn) => Ok(conn),
            _ => Err(ErrorCode::InvalidState),
        }
    }
}

#[async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        match &mut self.state {
            State::Connecting(connecting) => {
                let answer = connecting.await;
                self.state = State::Answered(answer);
            }
            State::Listening(binding) => poll_fn(|cx| binding.poll_acceptable(cx)).await,
            _ => {}
        }
    }
}

/// The reading half that a guest holds.
struct Input(Arc<Conn>);

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_readable(cx)).await;
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.0.try_read(size.min(limits::TRANSFER_BYTES)) {
            Ok(TryRead::Data(bytes)) => Ok(bytes),
            Ok(TryRead::Empty) => Ok(Bytes::new()),
            Ok(TryRead::End) => Err(StreamError::Closed),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

/// The writing half that a guest holds.
struct Output(Arc<Conn>);

/// A peer that reads no more is the end of the stream; anything else is worth telling.
fn write_error(error: NetError) -> StreamError {
    match error {
        NetError::BrokenPipe => StreamError::Closed,
        error => StreamError::LastOperationFailed(error.into()),
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_writable(cx)).await;
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let length = bytes.len();
        if length == 0 {
            return Ok(());
        }
        // The permit is what the pipe had free, and only the reader changes that, for the better.
        match self.0.try_write(bytes).map_err(write_error)? {
            taken if taken == length => Ok(()),
            _ => Err(StreamError::trap("wrote more than check-write allowed")),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(()) // what is written is with the receiver already
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.0.writable_bytes().map_err(write_error)
    }
}

fn streams(conn: &Arc<Conn>) -> (DynInputStream, DynOutputStream) {
    (Box::new(Input(conn.clone())), Box::new(Output(conn.clone())))
}

impl tcp_create_socket::Host for NetView<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<p2::TcpSocket>> {
        let slot = self.pod.claim(self.account()).map_err(refused)?;
        Ok(TcpSocket::named(
            self.table.push(TcpSocket::new(family, State::Fresh(slot)))?,
        ))
    }
}

impl Host for NetView<'_> {}

impl NetView<'_> {
    fn tcp(&self, socket: &Resource<p2::TcpSocket>) -> SocketResult<&TcpSocket> {
        Ok(self.table.get(&TcpSocket::of(socket))?)
    }

    fn tcp_mut(&mut self, socket: &Resource<p2::TcpSocket>) -> SocketResult<&mut TcpSocket> {
        Ok(self.table.get_mut(&TcpSocket::of(socket))?)
    }
}

impl HostTcpSocket for NetView<'_> {
    async fn start_bind(
        &mut self,
        this: Resource<p2::TcpSocket>,
        _network: Resource<Network>,
        local: IpSocketAddress,
    ) -> SocketResult<()> {
        let pod = self.pod.clone();
        let socket = self.tcp_mut(&this)?;
        socket.idle()?;
        let local = local.into();
        if !belongs(local, socket.family) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let State::Fresh(slot) = &socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        // A slot is cheap to clone, and a socket whose bind failed may try another address.
        let binding = pod.bind_with(slot.clone(), local).map_err(refused)?;
        socket.state = State::BindStarted(binding);
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<()> {
        let socket = self.tcp_mut(&this)?;
        match mem::replace(&mut socket.state, State::Closed) {
            State::BindStarted(binding) => socket.state = State::Bound(binding),
            other => {
                socket.state = other;
                return Err(ErrorCode::NotInProgress.into());
            }
        }
        Ok(())
    }

    fn start_connect(
        &mut self,
        this: Resource<p2::TcpSocket>,
        _network: Resource<Network>,
        remote: IpSocketAddress,
    ) -> SocketResult<()> {
        let pod = self.pod.clone();
        Ok(self.tcp_mut(&this)?.start_connect(&pod, remote.into())?)
    }

    fn finish_connect(
        &mut self,
        this: Resource<p2::TcpSocket>,
    ) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let conn = self.tcp_mut(&this)?.finish_connect()?;
        let (input, output) = streams(&conn);
        let socket = TcpSocket::of(&this);
        Ok((
            self.table.push_child(input, &socket)?,
            self.table.push_child(output, &socket)?,
        ))
    }

    async fn start_listen(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<()> {
        let socket = self.tcp_mut(&this)?;
        socket.idle()?;
        match mem::replace(&mut socket.state, State::Closed) {
            State::Bound(binding) => {
                binding.listen(socket.backlog).map_err(refused)?;
                socket.state = State::ListenStarted(binding);
                Ok(())
            }
            other => {
                socket.state = other;
                Err(ErrorCode::InvalidState.into())
            }
        }
    }

    fn finish_listen(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<()> {
        let socket = self.tcp_mut(&this)?;
        match mem::replace(&mut socket.state, State::Closed) {
            State::ListenStarted(binding) => socket.state = State::Listening(binding),
            other => {
                socket.state = other;
                return Err(ErrorCode::NotInProgress.into());
            }
        }
        Ok(())
    }

    fn accept(
        &mut self,
        this: Resource<p2::TcpSocket>,
    ) -> SocketResult<(
        Resource<p2::TcpSocket>,
        Resource<DynInputStream>,
        Resource<DynOutputStream>,
    )> {
        let listener = self.tcp(&this)?;
        let State::Listening(binding) = &listener.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        let conn = binding.try_accept().map_err(refused)?.ok_or(ErrorCode::WouldBlock)?;
        let (conn, family, options) = (Arc::new(conn), listener.family, listener.options);
        let (input, output) = streams(&conn);
        let mut socket = TcpSocket::new(family, State::Connected(conn));
        socket.options = options;
        let socket = self.table.push(socket)?;
        let input = self.table.push_child(input, &socket)?;
        let output = self.table.push_child(output, &socket)?;
        Ok((TcpSocket::named(socket), input, output))
    }

    fn local_address(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<IpSocketAddress> {
        let socket = self.tcp(&this)?;
        match socket.binding() {
            Some(binding) => Ok(binding.local_addr().into()),
            None => Ok(socket.conn()?.local_addr().into()),
        }
    }

    fn remote_address(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.tcp(&this)?.conn()?.peer_addr().into())
    }

    fn is_listening(&mut self, this: Resource<p2::TcpSocket>) -> wasmtime::Result<bool> {
        Ok(matches!(
            self.table.get(&TcpSocket::of(&this))?.state,
            State::Listening(_)
        ))
    }

    fn address_family(&mut self, this: Resource<p2::TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&TcpSocket::of(&this))?.family)
    }

    fn set_listen_backlog_size(&mut self, this: Resource<p2::TcpSocket>, value: u64) -> SocketResult<()> {
        let socket = self.tcp_mut(&this)?;
        if matches!(
            socket.state,
            State::Connecting(_) | State::Connected(_) | State::Answered(_)
        ) {
            return Err(ErrorCode::InvalidState.into());
        }
        set(&mut socket.backlog, usize::try_from(value).unwrap_or(usize::MAX))?;
        if let State::Listening(binding) = &socket.state {
            binding.listen(socket.backlog).map_err(refused)?;
        }
        Ok(())
    }

    fn keep_alive_enabled(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<bool> {
        Ok(self.tcp(&this)?.options.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<p2::TcpSocket>, value: bool) -> SocketResult<()> {
        self.tcp_mut(&this)?.options.keep_alive = value;
        Ok(())
    }

    fn keep_alive_idle_time(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp(&this)?.options.keep_alive_idle_nanos)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<p2::TcpSocket>, value: u64) -> SocketResult<()> {
        set(&mut self.tcp_mut(&this)?.options.keep_alive_idle_nanos, value)
    }

    fn keep_alive_interval(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp(&this)?.options.keep_alive_interval_nanos)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<p2::TcpSocket>, value: u64) -> SocketResult<()> {
        set(&mut self.tcp_mut(&this)?.options.keep_alive_interval_nanos, value)
    }

    fn keep_alive_count(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<u32> {
        Ok(self.tcp(&this)?.options.keep_alive_count)
    }

    fn set_keep_alive_count(&mut self, this: Resource<p2::TcpSocket>, value: u32) -> SocketResult<()> {
        set(&mut self.tcp_mut(&this)?.options.keep_alive_count, value)
    }

    fn hop_limit(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<u8> {
        Ok(self.tcp(&this)?.options.hop_limit)
    }

    fn set_hop_limit(&mut self, this: Resource<p2::TcpSocket>, value: u8) -> SocketResult<()> {
        set(&mut self.tcp_mut(&this)?.options.hop_limit, value)
    }

    fn receive_buffer_size(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp(&this)?.options.receive_buffer_bytes)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<p2::TcpSocket>, value: u64) -> SocketResult<()> {
        set(&mut self.tcp_mut(&this)?.options.receive_buffer_bytes, value)
    }

    fn send_buffer_size(&mut self, this: Resource<p2::TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp(&this)?.options.send_buffer_bytes)
    }

    fn set_send_buffer_size(&mut self, this: Resource<p2::TcpSocket>, value: u64) -> SocketResult<()> {
        set(&mut self.tcp_mut(&this)?.options.send_buffer_bytes, value)
    }

    fn subscribe(&mut self, this: Resource<p2::TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        p2::subscribe(self.table, TcpSocket::of(&this))
    }

    fn shutdown(&mut self, this: Resource<p2::TcpSocket>, how: ShutdownType) -> SocketResult<()> {
        let conn = self.tcp(&this)?.conn()?;
        if matches!(how, ShutdownType::Send | ShutdownType::Both) {
            conn.shutdown_write();
        }
        if matches!(how, ShutdownType::Receive | ShutdownType::Both) {
            conn.shutdown_read();
        }
        Ok(())
    }

    fn drop(&mut self, this: Resource<p2::TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(TcpSocket::owned(this))?;
        Ok(())
    }
}
