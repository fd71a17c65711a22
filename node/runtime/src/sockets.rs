//! `wasi:sockets` over the pod's network.
//!
//! The interfaces' types and glue are the WASI library's; what is behind them is ours, and no call here can reach a socket of
//! the host. The library's resource types serve only as names in the glue: the table holds our types at the same index, and
//! [`Alias`] says which stands for which.

mod lookup;
mod tcp;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use coracle_net::{MemoryCharge, NetError, PodNet};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::{
    instance_network, ip_name_lookup, tcp as tcp_bindings, tcp_create_socket, udp as udp_bindings, udp_create_socket,
};
use wasmtime_wasi::p2::{Network, SocketError};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

use crate::host::Host;
use crate::memory::MemoryAccount;

/// One guest's view of its pod's network.
pub(crate) struct NetView<'a> {
    pub(crate) pod: &'a Arc<PodNet>,
    pub(crate) account: &'a Arc<MemoryAccount>,
    pub(crate) table: &'a mut ResourceTable,
}

impl NetView<'_> {
    /// What a new socket's buffers are charged to.
    fn account(&self) -> Option<Arc<dyn MemoryCharge>> {
        Some(self.account.clone())
    }
}

struct Net;

impl HasData for Net {
    type Data<'a> = NetView<'a>;
}

/// Links the seven interfaces. `instance-network` does no I/O, so the library's serves.
pub(crate) fn add_to_linker(l: &mut Linker<Host>) -> wasmtime::Result<()> {
    let stable = network::LinkOptions::default();
    network::add_to_linker::<Host, Net>(l, &stable, Host::net)?;
    instance_network::add_to_linker::<Host, WasiSockets>(l, Host::sockets)?;
    tcp_bindings::add_to_linker::<Host, Net>(l, Host::net)?;
    tcp_create_socket::add_to_linker::<Host, Net>(l, Host::net)?;
    udp_bindings::add_to_linker::<Host, Net>(l, Host::net)?;
    udp_create_socket::add_to_linker::<Host, Net>(l, Host::net)?;
    ip_name_lookup::add_to_linker::<Host, Net>(l, Host::net)
}

/// A type of ours that stands in the table where the glue names a type of the library.
trait Alias: Sized + Send + 'static {
    /// The library's type.
    type Name: 'static;

    /// Our entry behind a handle of the glue.
    fn of(handle: &Resource<Self::Name>) -> Resource<Self> {
        Resource::new_borrow(handle.rep())
    }

    /// Our entry behind a handle that the guest gives up.
    fn owned(handle: Resource<Self::Name>) -> Resource<Self> {
        Resource::new_own(handle.rep())
    }

    /// The glue's handle for an entry of ours.
    fn named(entry: Resource<Self>) -> Resource<Self::Name> {
        Resource::new_own(entry.rep())
    }
}

impl network::Host for NetView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<NetError>().copied().map(code))
    }
}

impl network::HostNetwork for NetView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

/// The network's errors in the guest's vocabulary.
fn code(error: NetError) -> ErrorCode {
    match error {
        NetError::AddrInUse => ErrorCode::AddressInUse,
        NetError::AddrNotAvailable => ErrorCode::AddressNotBindable,
        NetError::ConnectionRefused => ErrorCode::ConnectionRefused,
        NetError::ConnectionReset => ErrorCode::ConnectionReset,
        NetError::BrokenPipe | NetError::InvalidState => ErrorCode::InvalidState,
        NetError::HostUnreachable | NetError::NetworkUnreachable | NetError::NetworkDown => {
            ErrorCode::RemoteUnreachable
        }
        NetError::TimedOut => ErrorCode::Timeout,
        NetError::NotSupported => ErrorCode::NotSupported,
        NetError::Denied => ErrorCode::AccessDenied,
        NetError::TooManySockets => ErrorCode::NewSocketLimit,
        NetError::OutOfMemory => ErrorCode::OutOfMemory,
        NetError::MessageTooLong => ErrorCode::DatagramTooLarge,
        NetError::NameNotFound => ErrorCode::NameUnresolvable,
    }
}

/// An error of the network as the glue takes it.
fn refused(error: NetError) -> SocketError {
    code(error).into()
}

/// The address families are strictly apart, and an IPv4 address in IPv6 clothes belongs to neither.
fn belongs(address: SocketAddr, family: IpAddressFamily) -> bool {
    match (address.ip(), family) {
        (IpAddr::V4(ip), IpAddressFamily::Ipv4) => !ip.is_multicast() && !ip.is_broadcast(),
        (IpAddr::V6(ip), IpAddressFamily::Ipv6) => !ip.is_multicast() && ip.to_ipv4_mapped().is_none(),
        _ => false,
    }
}

/// An address that one can send to: a host and a port.
fn reachable(address: SocketAddr, family: IpAddressFamily) -> Result<SocketAddr, ErrorCode> {
    let whole = address.port() != 0 && !address.ip().is_unspecified();
    if whole && belongs(address, family) {
        Ok(address)
    } else {
        Err(ErrorCode::InvalidArgument)
    }
}

/// Socket options that mean something on a wire and nothing in memory: kept, checked and given back, as programs expect.
#[derive(Debug, Clone, Copy)]
struct Options {
    keep_alive: bool,
    keep_alive_idle_nanos: u64,
    keep_alive_interval_nanos: u64,
    keep_alive_count: u32,
    hop_limit: u8,
    receive_buffer_bytes: u64,
    send_buffer_bytes: u64,
}

impl Default for Options {
    /// Linux's values.
    fn default() -> Self {
        Self {
            keep_alive: false,
            keep_alive_idle_nanos: 7_200_000_000_000,
            keep_alive_interval_nanos: 75_000_000_000,
            keep_alive_count: 9,
            hop_limit: 64,
            receive_buffer_bytes: coracle_net::PIPE_CAPACITY as u64,
            send_buffer_bytes: coracle_net::PIPE_CAPACITY as u64,
        }
    }
}

/// Sets an option for which zero is no value.
fn set<T: PartialEq + Default>(option: &mut T, value: T) -> Result<(), SocketError> {
    if value == T::default() {
        return Err(ErrorCode::InvalidArgument.into());
    }
    *option = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_do_not_mix() {
        let v4 = |text: &str| belongs(text.parse().unwrap(), IpAddressFamily::Ipv4);
        let v6 = |text: &str| belongs(text.parse().unwrap(), IpAddressFamily::Ipv6);
        assert!(v4("127.0.0.1:80") && v6("[::1]:80"));
        assert!(!v4("[::1]:80") && !v6("127.0.0.1:80"));
        assert!(!v6("[::ffff:127.0.0.1]:80") && !v4("224.0.0.1:80") && !v4("255.255.255.255:80"));
    }

    #[test]
    fn one_can_only_send_to_somebody() {
        for nobody in ["0.0.0.0:80", "10.0.0.1:0"] {
            assert!(reachable(nobody.parse().unwrap(), IpAddressFamily::Ipv4).is_err());
        }
        assert!(reachable("10.0.0.1:80".parse().unwrap(), IpAddressFamily::Ipv4).is_ok());
    }

    #[test]
    fn every_error_of_the_network_has_a_name_for_guests() {
        for (error, name) in [
            (NetError::AddrInUse, ErrorCode::AddressInUse),
            (NetError::AddrNotAvailable, ErrorCode::AddressNotBindable),
            (NetError::ConnectionRefused, ErrorCode::ConnectionRefused),
            (NetError::ConnectionReset, ErrorCode::ConnectionReset),
            (NetError::BrokenPipe, ErrorCode::InvalidState),
            (NetError::HostUnreachable, ErrorCode::RemoteUnreachable),
            (NetError::NetworkUnreachable, ErrorCode::RemoteUnreachable),
            (NetError::NetworkDown, ErrorCode::RemoteUnreachable),
            (NetError::TimedOut, ErrorCode::Timeout),
            (NetError::NotSupported, ErrorCode::NotSupported),
            (NetError::Denied, ErrorCode::AccessDenied),
            (NetError::TooManySockets, ErrorCode::NewSocketLimit),
            (NetError::OutOfMemory, ErrorCode::OutOfMemory),
            (NetError::MessageTooLong, ErrorCode::DatagramTooLarge),
            (NetError::InvalidState, ErrorCode::InvalidState),
            (NetError::NameNotFound, ErrorCode::NameUnresolvable),
        ] {
            assert_eq!(code(error), name, "{error}");
        }
    }
}
