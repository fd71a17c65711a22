//! Pure rules about addresses: networks in prefix notation, which bound address receives what, and which two clash.
//!
//! IPv4-mapped IPv6 addresses are folded into IPv4 at the edge, so that nothing further in ever sees one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// There is no `/`, or what stands before it is no address.
    #[error("{0:?} is not a network in prefix notation such as 10.244.0.0/16")]
    Malformed(String),
    /// The prefix is longer than the address.
    #[error("{0:?}: the prefix is longer than the address")]
    PrefixTooLong(String),
}

/// A network in prefix notation, such as `10.244.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: u128,
    mask: u128,
    prefix: u8,
    v4: bool,
}

impl Cidr {
    /// The network of the first `prefix` bits of `ip`; longer prefixes than the address mean the address alone.
    pub fn new(ip: IpAddr, prefix: u8) -> Self {
        let (bits, width, v4) = match ip {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32u8, true),
            IpAddr::V6(ip) => (u128::from(ip), 128u8, false),
        };
        let prefix = prefix.min(width);
        let mask = u128::MAX.checked_shl(u32::from(width - prefix)).unwrap_or(0);
        Self {
            network: bits & mask,
            mask,
            prefix,
            v4,
        }
    }

    /// The first address after the network's own: where a network is a node's, the one of the node itself.
    pub fn host_ip(&self) -> IpAddr {
        match u32::try_from(self.network) {
            Ok(bits) if self.v4 => IpAddr::V4(Ipv4Addr::from(bits.saturating_add(1))),
            _ => IpAddr::V6(Ipv6Addr::from(self.network.saturating_add(1))),
        }
    }

    /// Whether two networks have an address in common.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        let mask = self.mask & other.mask;
        self.v4 == other.v4 && self.network & mask == other.network & mask
    }

    /// Whether `ip` lies in the network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.v4 && u128::from(u32::from(ip)) & self.mask == self.network,
            IpAddr::V6(ip) => !self.v4 && u128::from(ip) & self.mask == self.network,
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed(text.to_owned());
        let (ip, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let ip: IpAddr = ip.parse().map_err(|_| malformed())?;
        let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
        if prefix > if ip.is_ipv4() { 32 } else { 128 } {
            return Err(CidrError::PrefixTooLong(text.to_owned()));
        }
        Ok(Self::new(ip, prefix))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = match u32::try_from(self.network) {
            Ok(bits) if self.v4 => IpAddr::V4(Ipv4Addr::from(bits)),
            _ => IpAddr::V6(Ipv6Addr::from(self.network)),
        };
        write!(f, "{ip}/{}", self.prefix)
    }
}

/// The address with an IPv4-mapped IPv6 part folded into IPv4.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// The address as a socket of an IPv6 family shows it: IPv4 appears in its mapped form.
pub(crate) fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// Whether a socket bound to `bound` receives what is sent to `to`. `[::]` is dual-stack: programs that listen there
/// expect IPv4 clients as well.
pub(crate) fn receives(bound: IpAddr, to: IpAddr) -> bool {
    match bound {
        IpAddr::V4(ip) if ip.is_unspecified() => to.is_ipv4(),
        IpAddr::V6(ip) if ip.is_unspecified() => true,
        _ => bound == to,
    }
}

/// Whether two sockets cannot be bound to these addresses at the same port: some destination would belong to both.
pub(crate) fn clash(a: IpAddr, b: IpAddr) -> bool {
    receives(a, b) || receives(b, a)
}

/// The loopback address of the family of `like`.
pub(crate) fn loopback(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_contain_their_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.244.0.0/16", "10.244.255.1", "10.245.0.0"),
            ("10.96.0.10/32", "10.96.0.10", "10.96.0.11"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("fd00::/8", "fdff::1", "fe80::1"),
            ("::/0", "::1", "127.0.0.1"),
        ] {
            let cidr: Cidr = network.parse().unwrap();
            assert!(cidr.contains(ip(inside)), "{network} has {inside}");
            assert!(!cidr.contains(ip(outside)), "{network} lacks {outside}");
        }
    }

    #[test]
    fn texts_that_are_no_networks_are_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/x", "x/8", "10.0.0.0/-1"] {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::Malformed(_))), "{text}");
        }
        for text in ["10.0.0.0/33", "::/129"] {
            assert!(
                matches!(text.parse::<Cidr>(), Err(CidrError::PrefixTooLong(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn networks_print_normalised() {
        assert_eq!("10.244.3.4/16".parse::<Cidr>().unwrap().to_string(), "10.244.0.0/16");
        assert_eq!("fd00:1::7/32".parse::<Cidr>().unwrap().to_string(), "fd00:1::/32");
        assert_eq!("::/0".parse::<Cidr>().unwrap().to_string(), "::/0");
    }

    #[test]
    fn wildcards_clash_with_what_they_cover() {
        for (a, b, clashes) in [
            ("0.0.0.0", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "10.244.0.2", false),
            ("::", "0.0.0.0", true),
            ("::", "127.0.0.1", true),
            ("::1", "0.0.0.0", false),
            ("::1", "127.0.0.1", false),
        ] {
            assert_eq!(clash(ip(a), ip(b)), clashes, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn clashing_is_symmetric(a: IpAddr, b: IpAddr) {
            prop_assert_eq!(clash(a, b), clash(b, a));
            prop_assert!(clash(a, a));
        }

        #[test]
        fn mapping_and_folding_are_inverse(addr: SocketAddr) {
            let addr = canonical(addr);
            prop_assert_eq!(canonical(mapped(addr)), SocketAddr::new(addr.ip(), addr.port()));
        }

        #[test]
        fn a_network_contains_the_address_it_was_made_of(ip: IpAddr, prefix in 0u8..=128) {
            prop_assert!(Cidr::new(ip, prefix).contains(ip));
        }
    }
}
