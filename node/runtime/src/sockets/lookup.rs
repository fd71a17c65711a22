//! Names to addresses, as the pod's resolv.conf would have it.
//!
//! The cluster's names are known in the process, so an answer is there at once and nobody waits for one.

use std::net::IpAddr;
use std::vec;

use async_trait::async_trait;
use coracle_net::NetError;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, Host, HostResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress};
use wasmtime_wasi::p2::{self, DynPollable, Network, Pollable, SocketResult};

use super::{Alias, NetView, refused};

/// What a lookup has found.
pub(super) struct Lookup(Result<vec::IntoIter<IpAddr>, NetError>);

impl Alias for Lookup {
    type Name = ip_name_lookup::ResolveAddressStream;
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {}
}

impl Host for NetView<'_> {
    fn resolve_addresses(
        &mut self,
        _network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ip_name_lookup::ResolveAddressStream>> {
        let found = self.pod.resolve(&name).map(Vec::into_iter);
        Ok(Lookup::named(self.table.push(Lookup(found))?))
    }
}

impl HostResolveAddressStream for NetView<'_> {
    fn resolve_next_address(
        &mut self,
        this: Resource<ip_name_lookup::ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        match &mut self.table.get_mut(&Lookup::of(&this))?.0 {
            Ok(addresses) => Ok(addresses.next().map(IpAddress::from)),
            // A resolver that cannot reach its server gives up for now; the name may exist.
            Err(NetError::Denied) => Err(ErrorCode::TemporaryResolverFailure.into()),
            Err(error) => Err(refused(*error)),
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
