//! UDP sockets and their two datagram streams.
//!
//! Sending never waits: a full receiver loses the datagram, as a wire would.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;

use async_trait::async_trait;
use coracle_net::{SocketSlot, UdpBinding};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::udp::{
    self, Host, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    OutgoingDatagram,
};
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket;
use wasmtime_wasi::p2::{self, DynPollable, Network, Pollable, SocketError, SocketResult};

use super::{Alias, NetView, Options, belongs, reachable, refused, set};
use crate::limits;

/// One UDP socket of a guest.
pub(super) struct UdpSocket {
    family: IpAddressFamily,
    state: State,
    options: Options,
}

enum State {
    Fresh(SocketSlot),
    BindStarted(UdpBinding),
    Bound(Arc<UdpBinding>),
    /// Only while a step is being taken.
    Closed,
}

impl Alias for UdpSocket {
    type Name = p2::UdpSocket;
}

impl UdpSocket {
    fn bound(&self) -> Result<&Arc<UdpBinding>, ErrorCode> {
        match &self.state {
            State::Bound(binding) => Ok(binding),
            _ => Err(ErrorCode::InvalidState),
        }
    }
}

#[async_trait]
impl Pollable for UdpSocket {
    async fn ready(&mut self) {
        // Nothing that a socket itself does takes time; its streams wait.
    }
}

/// The receiving half that a guest holds.
pub(super) struct Incoming(Arc<UdpBinding>);

impl Alias for Incoming {
    type Name = udp::IncomingDatagramStream;
}

#[async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_readable(cx)).await;
    }
}

/// The sending half that a guest holds.
pub(super) struct Outgoing {
    binding: Arc<UdpBinding>,
    family: IpAddressFamily,
    /// Datagrams that the guest may send before it asks again.
    permit: usize,
}

impl Alias for Outgoing {
    type Name = udp::OutgoingDatagramStream;
}

#[async_trait]
impl Pollable for Outgoing {
    async fn ready(&mut self) {
        // Sending never waits.
    }
}

impl Outgoing {
    fn send(&self, datagram: OutgoingDatagram) -> Result<(), ErrorCode> {
        let to = datagram
            .remote_address
            .map(|to| reachable(to.into(), self.family))
            .transpose()?;
        self.binding.send(datagram.data.into(), to).map_err(super::code)
    }
}

impl udp_create_socket::Host for NetView<'_> {
    async fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<p2::UdpSocket>> {
        let slot = self.pod.claim(self.account()).map_err(refused)?;
        let socket = UdpSocket {
            family,
            state: State::Fresh(slot),
            options: Options::default(),
        };
        Ok(UdpSocket::named(self.table.push(socket)?))
    }
}

impl Host for NetView<'_> {}

impl NetView<'_> {
    fn udp(&self, socket: &Resource<p2::UdpSocket>) -> SocketResult<&UdpSocket> {
        Ok(self.table.get(&UdpSocket::of(socket))?)
    }

    fn udp_mut(&mut self, socket: &Resource<p2::UdpSocket>) -> SocketResult<&mut UdpSocket> {
        Ok(self.table.get_mut(&UdpSocket::of(socket))?)
    }
}

impl HostUdpSocket for NetView<'_> {
    async fn start_bind(
        &mut self,
        this: Resource<p2::UdpSocket>,
        _network: Resource<Network>,
        local: IpSocketAddress,
    ) -> SocketResult<()> {
        let pod = self.pod.clone();
        let socket = self.udp_mut(&this)?;
        let local = local.into();
        if !belongs(local, socket.family) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        match &socket.state {
            State::Fresh(slot) => {
                let binding = pod.bind_udp_with(slot.clone(), local).map_err(refused)?;
                socket.state = State::BindStarted(binding);
                Ok(())
            }
            State::BindStarted(_) => Err(ErrorCode::ConcurrencyConflict.into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn finish_bind(&mut self, this: Resource<p2::UdpSocket>) -> SocketResult<()> {
        let socket = self.udp_mut(&this)?;
        match mem::replace(&mut socket.state, State::Closed) {
            State::BindStarted(binding) => socket.state = State::Bound(Arc::new(binding)),
            other => {
                socket.state = other;
                return Err(ErrorCode::NotInProgress.into());
            }
        }
        Ok(())
    }

    async fn stream(
        &mut self,
        this: Resource<p2::UdpSocket>,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<(
        Resource<udp::IncomingDatagramStream>,
        Resource<udp::OutgoingDatagramStream>,
    )> {
        let parent = UdpSocket::of(&this);
        if self
            .table
            .iter_children(&parent)?
            .any(|child| child.is::<Incoming>() || child.is::<Outgoing>())
        {
            return Err(SocketError::trap(wasmtime::Error::msg(
                "the socket's earlier streams are still held",
            )));
        }
        let socket = self.udp(&this)?;
        let (binding, family) = (socket.bound()?.clone(), socket.family);
        let remote = remote.map(|to| reachable(to.into(), family)).transpose()?;
        binding.set_peer(remote).map_err(refused)?;
        let incoming = self.table.push_child(Incoming(binding.clone()), &parent)?;
        let outgoing = self.table.push_child(
            Outgoing {
                binding,
                family,
                permit: 0,
            },
            &parent,
        )?;
        Ok((Incoming::named(incoming), Outgoing::named(outgoing)))
    }

    fn local_address(&mut self, this: Resource<p2::UdpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.udp(&this)?.bound()?.local_addr().into())
    }

    fn remote_address(&mut self, this: Resource<p2::UdpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.udp(&this)?.bound()?.peer().ok_or(ErrorCode::InvalidState)?.into())
    }

    fn address_family(&mut self, this: Resource<p2::UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&UdpSocket::of(&this))?.family)
    }

    fn unicast_hop_limit(&mut self, this: Resource<p2::UdpSocket>) -> SocketResult<u8> {
        Ok(self.udp(&this)?.options.hop_limit)
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<p2::UdpSocket>, value: u8) -> SocketResult<()> {
        set(&mut self.udp_mut(&this)?.options.hop_limit, value)
    }

    fn receive_buffer_size(&mut self, this: Resource<p2::UdpSocket>) -> SocketResult<u64> {
        Ok(self.udp(&this)?.options.receive_buffer_bytes)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<p2::UdpSocket>, value: u64) -> SocketResult<()> {
        set(&mut self.udp_mut(&this)?.options.receive_buffer_bytes, value)
    }

    fn send_buffer_size(&mut self, this: Resource<p2::UdpSocket>) -> SocketResult<u64> {
        Ok(self.udp(&this)?.options.send_buffer_bytes)
    }

    fn set_send_buffer_size(&mut self, this: Resource<p2::UdpSocket>, value: u64) -> SocketResult<()> {
        set(&mut self.udp_mut(&this)?.options.send_buffer_bytes, value)
    }

    fn subscribe(&mut self, this: Resource<p2::UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        p2::subscribe(self.table, UdpSocket::of(&this))
    }

    fn drop(&mut self, this: Resource<p2::UdpSocket>) -> wasmtime::Result<()> {
        self.table.delete(UdpSocket::owned(this))?;
        Ok(())
    }
}

impl HostIncomingDatagramStream for NetView<'_> {
    fn receive(
        &mut self,
        this: Resource<udp::IncomingDatagramStream>,
        max_results: u64,
    ) -> SocketResult<Vec<IncomingDatagram>> {
        let binding = &self.table.get(&Incoming::of(&this))?.0;
        let most = usize::try_from(max_results)
            .unwrap_or(usize::MAX)
            .min(limits::DATAGRAMS);
        let mut datagrams = Vec::new();
        while datagrams.len() < most {
            match binding.try_recv() {
                Ok(Some((data, from))) => {
                    datagrams.push(IncomingDatagram {
                        data: data.into(),
                        remote_address: from.into(),
                    });
                }
                Ok(None) => break,
                // What has arrived is handed out first; the error comes again.
                Err(_) if !datagrams.is_empty() => break,
                Err(error) => return Err(refused(error)),
            }
        }
        Ok(datagrams)
    }

    fn subscribe(&mut self, this: Resource<udp::IncomingDatagramStream>) -> wasmtime::Result<Resource<DynPollable>> {
        p2::subscribe(self.table, Incoming::of(&this))
    }

    fn drop(&mut self, this: Resource<udp::IncomingDatagramStream>) -> wasmtime::Result<()> {
        self.table.delete(Incoming::owned(this))?;
        Ok(())
    }
}

impl HostOutgoingDatagramStream for NetView<'_> {
    fn check_send(&mut self, this: Resource<udp::OutgoingDatagramStream>) -> SocketResult<u64> {
        self.table.get_mut(&Outgoing::of(&this))?.permit = limits::DATAGRAMS;
        Ok(limits::DATAGRAMS as u64)
    }

    fn send(
        &mut self,
        this: Resource<udp::OutgoingDatagramStream>,
        datagrams: Vec<OutgoingDatagram>,
    ) -> SocketResult<u64> {
        let stream = self.table.get_mut(&Outgoing::of(&this))?;
        if datagrams.len() > mem::take(&mut stream.permit) && !datagrams.is_empty() {
            return Err(SocketError::trap(wasmtime::Error::msg(
                "sent more than check-send allowed",
            )));
        }
        let mut sent = 0;
        for datagram in datagrams {
            match stream.send(datagram) {
                Ok(()) => sent += 1,
                // The interface: once something was sent, there is no error.
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sent)
    }

    fn subscribe(&mut self, this: Resource<udp::OutgoingDatagramStream>) -> wasmtime::Result<Resource<DynPollable>> {
        p2::subscribe(self.table, Outgoing::of(&this))
    }

    async fn drop(&mut self, this: Resource<udp::OutgoingDatagramStream>) -> wasmtime::Result<()> {
        self.table.delete(Outgoing::owned(this))?;
        Ok(())
    }
}
