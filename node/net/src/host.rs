//! Addresses inside the network that the host itself answers: cluster DNS, and later the API.
//!
//! A guest reaches a handler, never a host socket. Who connects is served on the runtime that registered the handler, not on the
//! guests'. A datagram is answered by whoever sends it, if that needs no waiting: what a flood costs is its sender's time, and the
//! host's own work does not stand behind thousands of questions.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::fabric::Inner;
use crate::{NetError, Protocol, Stream};

/// Connections, or datagrams that wait for something, that one host service works on at a time; more are refused or lost. Twice what a
/// single pod can open, so that one pod cannot shut the others out by accident.
const MAX_ACTIVE: usize = 2048;

type OnStream = Box<dyn Fn(Stream) -> BoxFuture<'static, ()> + Send + Sync>;
type OnDatagram = Box<dyn Fn(Bytes, SocketAddr) -> BoxFuture<'static, Option<Bytes>> + Send + Sync>;

enum Handler {
    Stream(OnStream),
    Datagram(OnDatagram),
}

/// A registered handler.
pub(crate) struct HostEntry {
    handler: Handler,
    runtime: Handle,
    active: Arc<Semaphore>,
    /// Whether it only takes answers to what came from outside, which policies do not hold up.
    flow: bool,
}

impl HostEntry {
    fn new(handler: Handler, flow: bool) -> Result<Arc<Self>, NetError> {
        let runtime = Handle::try_current().map_err(|_| NetError::NotSupported)?;
        Ok(Arc::new(Self {
            handler,
            runtime,
            active: Arc::new(Semaphore::new(MAX_ACTIVE)),
            flow,
        }))
    }

    pub(crate) fn streams<F, Fut>(handler: F) -> Result<Arc<Self>, NetError>
    where
        F: Fn(Stream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::new(
            Handler::Stream(Box::new(move |stream| Box::pin(handler(stream)))),
            false,
        )
    }

    pub(crate) fn datagrams<F, Fut>(handler: F) -> Result<Arc<Self>, NetError>
    where
        F: Fn(Bytes, SocketAddr) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Bytes>> + Send + 'static,
    {
        let handler = Handler::Datagram(Box::new(move |data, from| Box::pin(handler(data, from))));
        Self::new(handler, false)
    }

    /// Takes the answers of a flow from outside, in their order.
    pub(crate) fn answers(take: impl Fn(Bytes, SocketAddr) + Send + Sync + 'static) -> Result<Arc<Self>, NetError> {
        let handler = Handler::Datagram(Box::new(move |data, from| {
            take(data, from);
            Box::pin(std::future::ready(None))
        }));
        Self::new(handler, true)
    }

    pub(crate) fn is_flow(&self) -> bool {
        self.flow
    }

    pub(crate) fn take_stream(&self, stream: Stream) -> Result<(), NetError> {
        let Handler::Stream(handler) = &self.handler else {
            return Err(NetError::ConnectionRefused);
        };
        let permit = self
            .active
            .clone()
            .try_acquire_owned()
            .map_err(|_| NetError::ConnectionRefused)?;
        let work = handler(stream);
        self.runtime.spawn(async move {
            work.await;
            drop(permit);
        });
        Ok(())
    }

    /// Hands a datagram over; `answer` gets what the handler says, here if it says so at once. Lost where too many wait.
    pub(crate) fn take_datagram(&self, data: Bytes, from: SocketAddr, answer: impl FnOnce(Bytes) + Send + 'static) {
        let Handler::Datagram(handler) = &self.handler else {
            return;
        };
        let _runtime = self.runtime.enter();
        let mut work = handler(data, from);
        if let Poll::Ready(reply) = work.poll_unpin(&mut Context::from_waker(Waker::noop())) {
            if let Some(reply) = reply {
                answer(reply);
            }
            return;
        }
        let Ok(permit) = self.active.clone().try_acquire_owned() else {
            return;
        };
        self.runtime.spawn(async move {
            if let Some(reply) = work.await {
                answer(reply);
            }
            drop(permit);
        });
    }
}

/// Keeps a host service registered; dropping it ends the service for new connections.
#[must_use = "the service ends when this is dropped"]
pub struct HostService {
    pub(crate) fabric: Weak<Inner>,
    pub(crate) at: (SocketAddr, Protocol),
}

impl std::fmt::Debug for HostService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HostService").field(&self.at).finish()
    }
}

impl Drop for HostService {
    fn drop(&mut self) {
        if let Some(fabric) = self.fabric.upgrade() {
            fabric.remove_host(self.at);
        }
    }
}
