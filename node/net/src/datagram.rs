//! UDP: a mailbox per bound port. Datagrams keep their borders, may be lost, and never make a sender wait.
//!
//! A service address is translated per flow: a socket that talks to a service keeps its endpoint while that endpoint is
//! one, and answers show the service's address as their source.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::account::SocketSlot;
use crate::address::{canonical, mapped};
use crate::fabric::{Destination, Inner};
use crate::pod::PodNet;
use crate::sync::Mutex;
use crate::wakers::Wakers;
use crate::{NetError, Protocol};

/// The largest payload of a UDP datagram over IPv4.
pub const MAX_DATAGRAM_BYTES: usize = 65_507;

/// Bytes that wait in one mailbox, with [`DATAGRAM_OVERHEAD_BYTES`] for each datagram; more is lost, as in a full socket
/// buffer. Linux' default (212,992) rounded up.
const MAILBOX_BYTES: usize = 256 * 1024;

/// What a waiting datagram costs beside its payload.
const DATAGRAM_OVERHEAD_BYTES: usize = 128;

/// Services that one socket talks to at a time; the oldest flow is forgotten first. A resolver or a metrics client has a
/// handful, and a forgotten flow only chooses its endpoint anew.
const MAX_FLOWS: usize = 64;

/// Addresses that one socket has spoken to and that may answer whatever policies say; the oldest is forgotten first. A pod
/// that asks more at a time hears the forgotten ones again after its next question to them.
const MAX_ASKED: usize = 1024;

/// Where a bound UDP port's datagrams wait.
#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    slot: SocketSlot,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Bytes, SocketAddr)>,
    bytes: usize,
    peer: Option<SocketAddr>,
    /// (service address, endpoint), oldest first.
    flows: VecDeque<(SocketAddr, SocketAddr)>,
    /// Who was spoken to under policies, oldest first: they may answer.
    asked: VecDeque<SocketAddr>,
    readers: Wakers,
    closed: bool,
}

impl State {
    fn flow(&self, service: SocketAddr) -> Option<SocketAddr> {
        self.flows
            .iter()
            .find(|(at, _)| *at == service)
            .map(|(_, endpoint)| *endpoint)
    }

    fn keep_flow(&mut self, service: SocketAddr, endpoint: SocketAddr) {
        self.flows.retain(|(at, _)| *at != service);
        if self.flows.len() == MAX_FLOWS {
            self.flows.pop_front();
        }
        self.flows.push_back((service, endpoint));
    }

    /// The source as the socket knows it: the service through which it talks to this endpoint.
    fn source(&self, from: SocketAddr) -> SocketAddr {
        self.flows
            .iter()
            .rev()
            .find(|(_, endpoint)| *endpoint == from)
            .map_or(from, |(service, _)| *service)
    }
}

fn cost(data: &Bytes) -> usize {
    data.len() + DATAGRAM_OVERHEAD_BYTES
}

impl Mailbox {
    pub(crate) fn new(slot: SocketSlot) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            slot,
        })
    }

    /// Notes that the socket speaks to `at`, which may answer from now on.
    pub(crate) fn ask(&self, at: SocketAddr) {
        let mut state = self.state.lock();
        if !state.asked.contains(&at) {
            if state.asked.len() == MAX_ASKED {
                state.asked.pop_front();
            }
            state.asked.push_back(at);
        }
    }

    /// Whether the socket has spoken to `at`.
    pub(crate) fn has_asked(&self, at: SocketAddr) -> bool {
        self.state.lock().asked.contains(&at)
    }

    /// Puts a datagram in, or loses it.
    pub(crate) fn deliver(&self, data: Bytes, from: SocketAddr) {
        let readers = {
            let mut state = self.state.lock();
            let from = state.source(from);
            let unwanted = state.peer.is_some_and(|peer| peer != from);
            if state.closed || unwanted || state.bytes + cost(&data) > MAILBOX_BYTES {
                return;
            }
            if self
                .slot
                .account()
                .as_ref()
                .is_some_and(|account| !account.charge(cost(&data)))
            {
                return;
            }
            state.bytes += cost(&data);
            state.queue.push_back((data, from));
            state.readers.take()
        };
        readers.wake();
    }

    fn take(&self) -> Result<Option<(Bytes, SocketAddr)>, NetError> {
        let mut state = self.state.lock();
        let Some((data, from)) = state.queue.pop_front() else {
            return if state.closed {
                Err(NetError::NetworkDown)
            } else {
                Ok(None)
            };
        };
        state.bytes -= cost(&data);
        if let Some(account) = self.slot.account() {
            account.release(cost(&data));
        }
        Ok(Some((data, from)))
    }

    pub(crate) fn close(&self) {
        let readers = {
            let mut state = self.state.lock();
            state.closed = true;
            state.readers.take()
        };
        readers.wake();
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if let Some(account) = self.slot.account() {
            account.release(self.state.get_mut().bytes);
        }
    }
}

/// A UDP port bound in a pod. Dropping it frees the port at once.
#[derive(Debug)]
pub struct UdpBinding {
    pod: Arc<PodNet>,
    mailbox: Arc<Mailbox>,
    local: SocketAddr,
}

impl UdpBinding {
    pub(crate) fn new(pod: Arc<PodNet>, mailbox: Arc<Mailbox>, local: SocketAddr) -> Self {
        Self { pod, mailbox, local }
    }

    /// The bound address with its actual port; the IP stays unspecified where it was bound so.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Fixes the only peer, as `connect` does, or none; what has arrived from others is dropped.
    ///
    /// # Errors
    /// [`NetError::NetworkUnreachable`] and its like, where no route leads to the peer.
    pub fn set_peer(&self, peer: Option<SocketAddr>) -> Result<(), NetError> {
        let peer = peer.map(canonical);
        if let Some(peer) = peer {
            let ip = self.pod.source_ip(Some(self.local.ip()), peer.ip());
            self.pod.fabric()?.route(Some(&self.pod), ip, peer, Protocol::Udp)?;
        }
        let mut state = self.mailbox.state.lock();
        state.peer = peer;
        let Some(peer) = peer else { return Ok(()) };
        let kept = std::mem::take(&mut state.queue);
        let (kept, dropped): (VecDeque<_>, VecDeque<_>) = kept.into_iter().partition(|(_, from)| *from == peer);
        let freed: usize = dropped.iter().map(|(data, _)| cost(data)).sum();
        state.bytes -= freed;
        state.queue = kept;
        if let Some(account) = self.mailbox.slot.account() {
            account.release(freed);
        }
        Ok(())
    }

    /// The fixed peer.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.mailbox.state.lock().peer.map(|peer| self.show(peer))
    }

    /// Sends a datagram to `to`, or to the fixed peer. Never waits: where the receiver is full or absent it is lost.
    ///
    /// # Errors
    /// [`NetError::MessageTooLong`]; [`NetError::InvalidState`] without an address; [`NetError::ConnectionRefused`] where
    /// nobody receives and a peer is fixed or the service has no endpoint; [`NetError::Denied`]; the errors of a missing
    /// route.
    pub fn send(&self, data: Bytes, to: Option<SocketAddr>) -> Result<(), NetError> {
        if data.len() > MAX_DATAGRAM_BYTES {
            return Err(NetError::MessageTooLong);
        }
        let fabric = self.pod.fabric()?;
        let (to, fixed, flow) = {
            let state = self.mailbox.state.lock();
            if state.closed {
                return Err(NetError::NetworkDown);
            }
            let to = to.map(canonical).or(state.peer).ok_or(NetError::InvalidState)?;
            (to, state.peer.is_some(), state.flow(to))
        };
        let ip = self.pod.source_ip(Some(self.local.ip()), to.ip());
        let from = SocketAddr::new(ip, self.local.port());
        // A flow keeps its endpoint while that is one of the service's.
        let kept = flow.filter(|endpoint| fabric.serves(to, *endpoint, Protocol::Udp));
        let destination = fabric.route(Some(&self.pod), ip, kept.unwrap_or(to), Protocol::Udp)?;
        if fabric.has_policies() {
            self.permit(&fabric, from, &destination)
                .inspect_err(|error| self.pod.flows.failed(Protocol::Udp, to, *error))?;
        }
        self.pod.sends(from, to, &data);
        match destination {
            Destination::Host(service, _) => {
                let mailbox = Arc::downgrade(&self.mailbox);
                let pod = Arc::downgrade(&self.pod);
                service.take_datagram(data, from, move |answer| {
                    if let Some(mailbox) = mailbox.upgrade() {
                        if let Some(pod) = pod.upgrade() {
                            pod.receives(to, from, &answer);
                        }
                        mailbox.deliver(answer, to);
                    }
                });
                Ok(())
            }
            Destination::Far(node, at) => {
                if at != to && kept.is_none() {
                    self.mailbox.state.lock().keep_flow(to, at);
                }
                fabric.send_away(&node, from, at, data);
                Ok(())
            }
            Destination::Pod(pod, at) => {
                if at != to && kept.is_none() && !to.ip().is_unspecified() {
                    self.mailbox.state.lock().keep_flow(to, at);
                }
                match pod.mailbox(at) {
                    Some(mailbox) => {
                        pod.receives(from, at, &data);
                        mailbox.deliver(data, from);
                    }
                    None if fixed => return Err(NetError::ConnectionRefused),
                    None => {}
                }
                Ok(())
            }
        }
    }

    /// Whether policies let this datagram go: because it answers, or because the pod may begin to talk there.
    fn permit(&self, fabric: &Inner, from: SocketAddr, to: &Destination) -> Result<(), NetError> {
        let (at, answers) = match to {
            Destination::Pod(pod, at) => (at, pod.mailbox(*at).is_some_and(|mailbox| mailbox.has_asked(from))),
            // Who spoke to this socket from there was noted when it did.
            Destination::Far(_, at) => (at, self.mailbox.has_asked(*at)),
            Destination::Host(..) => return fabric.permit(&self.pod, from.ip(), to, Protocol::Udp),
        };
        if answers {
            return Ok(());
        }
        fabric.permit(&self.pod, from.ip(), to, Protocol::Udp)?;
        self.mailbox.ask(*at);
        Ok(())
    }

    /// Takes the oldest datagram that waits, with its source.
    ///
    /// # Errors
    /// [`NetError::NetworkDown`] once the pod has been removed.
    pub fn try_recv(&self) -> Result<Option<(Bytes, SocketAddr)>, NetError> {
        Ok(self.mailbox.take()?.map(|(data, from)| (data, self.show(from))))
    }

    /// Ready when `try_recv` would give a datagram or an error; else wakes the task when it does.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.mailbox.state.lock();
        if state.closed || !state.queue.is_empty() {
            return Poll::Ready(());
        }
        state.readers.add(cx);
        Poll::Pending
    }

    /// As [`UdpBinding::try_recv`], waiting for a datagram.
    ///
    /// # Errors
    /// As [`UdpBinding::try_recv`].
    pub async fn recv(&self) -> Result<(Bytes, SocketAddr), NetError> {
        poll_fn(|cx| {
            loop {
                if let Some(outcome) = self.try_recv().transpose() {
                    return Poll::Ready(outcome);
                }
                if self.poll_readable(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    fn show(&self, addr: SocketAddr) -> SocketAddr {
        if self.local.is_ipv6() { mapped(addr) } else { addr }
    }
}

impl Drop for UdpBinding {
    fn drop(&mut self) {
        self.pod.unbind_udp(self.local);
        self.mailbox.close();
    }
}
