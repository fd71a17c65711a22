//! A bound TCP port and, once it listens, its queue of connections that wait for accept.
//!
//! A connection in the backlog is established for the client. Where the backlog is full the connect itself waits, in
//! order, as a client whose SYN was dropped would; nothing is refused that a slow server would still take.
//! No connection is dropped while the queue's lock is held.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::account::{Account, SocketSlot};
use crate::address::mapped;
use crate::connect::Connecting;
use crate::flows::{Direction, Flow};
use crate::pod::{PodNet, Registration};
use crate::stream::{Conn, Link, Side};
use crate::sync::{Mutex, oneshot};
use crate::wakers::Wakers;
use crate::{NetError, Stream};

/// The longest backlog that a listener may ask for: Linux' `somaxconn`.
pub const MAX_BACKLOG: usize = 4096;

/// Connects that wait at one listener with a full backlog. As many as one pod may have sockets: beyond that the server
/// is not slow but stuck, and a refusal tells the client so.
const MAX_WAITING: usize = 1024;

/// The receiving part of a [`Binding`], which the pod's port table shares.
#[derive(Debug)]
pub(crate) struct Listener {
    queue: Mutex<Queue>,
    slot: SocketSlot,
}

#[derive(Debug, Default)]
struct Queue {
    /// None until `listen`.
    backlog: Option<usize>,
    ready: VecDeque<Incoming>,
    waiting: VecDeque<(Incoming, oneshot::Sender<Result<(), NetError>>)>,
    acceptors: Wakers,
    closed: bool,
}

impl Queue {
    /// Lets those who wait into the free places of the backlog, so that nobody waits while there is one.
    fn move_up(&mut self) -> MovedUp {
        let mut moved = MovedUp::default();
        while self.ready.len() < self.backlog.unwrap_or_default() {
            let Some((incoming, admit)) = self.waiting.pop_front() else {
                break;
            };
            if admit.is_closed() {
                moved.gone.push(incoming);
            } else {
                self.ready.push_back(incoming);
                moved.admitted.push(admit);
            }
        }
        moved
    }
}

/// Who has left the waiting connects; to be told after unlocking.
#[derive(Default)]
struct MovedUp {
    admitted: Vec<oneshot::Sender<Result<(), NetError>>>,
    gone: Vec<Incoming>,
}

impl MovedUp {
    fn tell(self) {
        for admit in self.admitted {
            // A client that gave up just now shows as a connection that has already ended.
            let _ = admit.send(Ok(()));
        }
        drop(self.gone);
    }
}

/// A connection that nobody has accepted yet; dropping it breaks it for the client.
#[derive(Debug)]
pub(crate) struct Incoming {
    link: Option<Arc<Link>>,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Incoming {
    pub(crate) fn new(link: Arc<Link>, local: SocketAddr, peer: SocketAddr) -> Self {
        Self {
            link: Some(link),
            local,
            peer,
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.reset();
        }
    }
}

/// What became of a connection that was offered to a listener.
pub(crate) enum Offer {
    /// It is in the backlog.
    Queued,
    /// The backlog is full, or the listener is on another node; the receiver tells what comes of it, or errs when nobody will.
    Wait(oneshot::Receiver<Result<(), NetError>>),
    /// Nobody listens.
    Refused,
}

impl Listener {
    pub(crate) fn new(slot: SocketSlot) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue::default()),
            slot,
        })
    }

    pub(crate) fn account(&self) -> &Account {
        self.slot.account()
    }

    pub(crate) fn offer(&self, incoming: Incoming) -> Offer {
        let mut queue = self.queue.lock();
        let Some(backlog) = queue.backlog.filter(|_| !queue.closed) else {
            drop(queue);
            return Offer::Refused;
        };
        if queue.ready.len() < backlog {
            queue.ready.push_back(incoming);
            let acceptors = queue.acceptors.take();
            drop(queue);
            acceptors.wake();
            return Offer::Queued;
        }
        let mut gone = VecDeque::new();
        if queue.waiting.len() >= MAX_WAITING {
            let (left, waiting) = queue.waiting.drain(..).partition(|(_, admitted)| admitted.is_closed());
            (gone, queue.waiting) = (left, waiting);
        }
        let offer = if queue.waiting.len() >= MAX_WAITING {
            gone.push_back((incoming, oneshot::channel().0));
            Offer::Refused
        } else {
            let (admit, admitted) = oneshot::channel();
            queue.waiting.push_back((incoming, admit));
            Offer::Wait(admitted)
        };
        drop(queue);
        drop(gone);
        offer
    }

    /// Takes the oldest connection and lets waiting ones move up.
    fn take(&self) -> Option<Incoming> {
        let (taken, moved) = {
            let mut queue = self.queue.lock();
            (queue.ready.pop_front(), queue.move_up())
        };
        moved.tell();
        taken
    }

    /// Closes for good: queued connections break, waiting connects are refused, acceptors wake.
    pub(crate) fn close(&self) {
        let (ready, waiting, acceptors) = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            (
                std::mem::take(&mut queue.ready),
                std::mem::take(&mut queue.waiting),
                queue.acceptors.take(),
            )
        };
        drop((ready, waiting));
        acceptors.wake();
    }

    fn poll_acceptable(&self, cx: &Context<'_>) -> Poll<()> {
        let mut queue = self.queue.lock();
        if queue.closed || queue.backlog.is_none() || !queue.ready.is_empty() {
            return Poll::Ready(());
        }
        queue.acceptors.add(cx);
        Poll::Pending
    }
}

/// A TCP port bound in a pod. Dropping it frees the port at once and breaks what was not accepted.
#[derive(Debug)]
pub struct Binding {
    pod: Arc<PodNet>,
    listener: Arc<Listener>,
    local: SocketAddr,
}

impl Binding {
    pub(crate) fn new(pod: Arc<PodNet>, listener: Arc<Listener>, local: SocketAddr) -> Self {
        Self { pod, listener, local }
    }

    /// The bound address with its actual port; the IP stays unspecified where it was bound so.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Starts to listen, with room for `backlog` connections before accept (1 to [`MAX_BACKLOG`]); again changes the room,
    /// and those who waited for some take it first.
    ///
    /// # Errors
    /// [`NetError::NetworkDown`] once the pod has been removed.
    pub fn listen(&self, backlog: usize) -> Result<(), NetError> {
        let moved = {
            let mut queue = self.listener.queue.lock();
            if queue.closed {
                return Err(NetError::NetworkDown);
            }
            queue.backlog = Some(backlog.clamp(1, MAX_BACKLOG));
            queue.move_up()
        };
        moved.tell();
        Ok(())
    }

    /// Takes the oldest connection that waits, if any.
    ///
    /// # Errors
    /// [`NetError::InvalidState`] before `listen`; [`NetError::NetworkDown`] once the pod has been removed;
    /// [`NetError::TooManySockets`] and [`NetError::OutOfMemory`], which leave the connection waiting.
    pub fn try_accept(&self) -> Result<Option<Conn>, NetError> {
        {
            let queue = self.listener.queue.lock();
            if queue.closed {
                return Err(NetError::NetworkDown);
            }
            if queue.backlog.is_none() {
                return Err(NetError::InvalidState);
            }
            if queue.ready.is_empty() {
                return Ok(None);
            }
        }
        let slot = self.listener.slot.sibling()?;
        let Some(mut incoming) = self.listener.take() else {
            return Ok(None);
        };
        let Some(link) = incoming.link.clone() else {
            return Ok(None);
        };
        let flow = Flow {
            direction: Direction::Inbound,
            local: incoming.local,
            peer: incoming.peer,
        };
        let registration = Registration::of_server(&self.pod, slot, link.clone(), flow)?;
        incoming.link = None;
        let show = |addr| if self.local.is_ipv6() { mapped(addr) } else { addr };
        Ok(Some(Conn::new(
            link,
            Side::Server,
            show(incoming.local),
            show(incoming.peer),
            Some(registration),
        )))
    }

    /// Ready when `try_accept` would give a connection or an error; else wakes the task when it does.
    pub fn poll_acceptable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.listener.poll_acceptable(cx)
    }

    /// As [`Binding::try_accept`], waiting for a connection.
    ///
    /// # Errors
    /// As [`Binding::try_accept`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<Conn, NetError>> {
        loop {
            if let Some(outcome) = self.try_accept().transpose() {
                return Poll::Ready(outcome);
            }
            if self.poll_acceptable(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// As [`Binding::try_accept`], waiting for a connection.
    ///
    /// # Errors
    /// As [`Binding::try_accept`].
    pub async fn accept(&self) -> Result<Conn, NetError> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`Binding::accept`], for tokio users.
    ///
    /// # Errors
    /// As [`Binding::try_accept`].
    pub async fn accept_stream(&self) -> Result<Stream, NetError> {
        self.accept().await.map(Stream::from)
    }

    /// Connects from the bound port, which the connection then keeps.
    pub fn connect(self, to: SocketAddr) -> Connecting {
        let pod = self.pod.clone();
        let slot = self.listener.slot.clone();
        pod.connect_from(slot, Some(self), to)
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        self.pod.unbind_tcp(self.local);
        self.listener.close();
    }
}
