//! Names to addresses, as the pod's resolv.conf would have it.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::vec;

use async_trait::async_trait;
use coracle_net::NetError;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, Host, HostResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress};
use wasmtime_wasi::p2::{self, DynPollable, Network, Pollable, SocketResult};

use super::{Alias, NetView, refused};

/// A lookup under way, or its addresses.
pub(super) enum Lookup {
    Asking(Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, NetError>> + Send>>),
    Answered(Result<vec::IntoIter<IpAddr>, NetError>),
}

impl Alias for Lookup {
    type Name = ip_name_lookup::ResolveAddressStream;
}

impl Lookup {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&mut Result<vec::IntoIter<IpAddr>, NetError>> {
        if let Self::Asking(asking) = self {
            let answer = std::task::ready!(asking.as_mut().poll(cx));
            *self = Self::Answered(answer.map(Vec::into_iter));
        }
        match self {
            Self::Answered(answer) => Poll::Ready(answer),
            Self::Asking(_) => Poll::Pending,
        }
    }
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx).map(drop)).await;
    }
}

impl Host for NetView<'_> {
    fn resolve_addresses(
        &mut self,
        _network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ip_name_lookup::ResolveAddressStream>> {
        let asking = self.pod.resolve(&name);
        Ok(Lookup::named(self.table.push(Lookup::Asking(Box::pin(asking)))?))
    }
}

impl HostResolveAddressStream for NetView<'_> {
    fn resolve_next_address(
        &mut self,
        this: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        let lookup = self.table.get_mut(&Lookup::of(&this))?;
        match lookup.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(addresses)) => Ok(addresses.next().map(IpAddress::from)),
            // A resolver that cannot reach its server gives up for now; the name may exist.
            Poll::Ready(Err(NetError::Denied)) => Err(ErrorCode::TemporaryResolverFailure.into()),
            Poll::Ready(Err(error)) => Err(refused(*error)),
            Poll::Pending => Err(ErrorCode::WouldBlock.into()),
        }
    }

    fn subscribe(
        &mut self,
        this: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        p2::subscribe(self.table, Lookup::of(&this))
    }

    fn drop(&mut self, this: Resource<ip_name_lookup::ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(Lookup::owned(this))?;
        Ok(())
    }
}
