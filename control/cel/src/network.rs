//! Addresses, networks, URLs, and base64.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::value::Foreign;

/// The bytes of a base64 text.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The base64 text of bytes.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

macro_rules! foreign {
    ($type:ident, $name:literal) => {
        impl Foreign for $type {
            fn kind(&self) -> &'static str {
                $name
            }
            fn same(&self, other: &dyn Foreign) -> bool {
                other.any().downcast_ref::<Self>() == Some(self)
            }
            fn any(&self) -> &dyn Any {
                self
            }
        }
    };
}

/// An address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ip(pub(crate) IpAddr);
foreign!(Ip, "net.IP");

/// A network: an address and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) bits: u8,
}
foreign!(Cidr, "net.CIDR");

/// A URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: String,
}
foreign!(Url, "kubernetes.URL");

/// A version as semver.org has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) numbers: [u64; 3],
    pub(crate) pre: Vec<String>,
}
foreign!(Version, "kubernetes.Semver");

impl Ip {
    /// Reads an address; zones and addresses of one family in the form of the other are none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let address: IpAddr = text.parse().ok()?;
        let mapped = matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
        (!mapped).then_some(Self(address))
    }

    pub(crate) fn is_link_local_unicast(self) -> bool {
        match self.0 {
            IpAddr::V4(four) => four.is_link_local(),
            IpAddr::V6(six) => six.segments()[0] & 0xffc0 == 0xfe80,
        }
    }

    pub(crate) fn is_link_local_multicast(self) -> bool {
        match self.0 {
            IpAddr::V4(four) => matches!(four.octets(), [224, 0, 0, _]),
            IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
        }
    }

    pub(crate) fn is_global_unicast(self) -> bool {
        let broadcast = matches!(self.0, IpAddr::V4(four) if four.is_broadcast());
        !(self.0.is_unspecified()
            || self.0.is_loopback()
            || self.0.is_multicast()
            || self.is_link_local_unicast()
            || broadcast)
    }
}

impl Cidr {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let Ip(address) = Ip::parse(address)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let plain = bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
        let bits: u8 = bits.parse().ok().filter(|bits| plain && *bits <= longest)?;
        Some(Self { address, bits })
    }

    pub(crate) fn masked(self) -> Self {
        let address = match self.address {
            IpAddr::V4(four) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(four) & mask))
            }
            IpAddr::V6(six) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(six) & mask))
            }
        };
        Self {
            address,
            bits: self.bits,
        }
    }

    pub(crate) fn contains(self, other: Cidr) -> bool {
        let same_family = self.address.is_ipv4() == other.address.is_ipv4();
        same_family
            && other.bits >= self.bits
            && Self {
                bits: self.bits,
                ..other
            }
            .masked()
            .address
                == self.masked().address
    }

    pub(crate) fn single(address: IpAddr) -> Self {
        Self {
            address,
            bits: if address.is_ipv4() { 32 } else { 128 },
        }
    }
}

impl Url {
    /// Reads an absolute URL or an absolute path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.split('#').next()?;
        if text.chars().any(|char| char.is_control() || char == ' ') {
            return None;
        }
        let (before, query) = text.split_once('?').unwrap_or((text, ""));
        if before.starts_with('/') && !before.starts_with("//") {
            return Some(Self {
                scheme: String::new(),
                host: String::new(),
                path: before.to_owned(),
                query: query.to_owned(),
            });
        }
        let (scheme, rest) = before.split_once(':')?;
        let good = scheme.starts_with(|char: char| char.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || "+-.".contains(char));
        if !good {
            return None;
        }
        let rest = rest.strip_prefix("//").unwrap_or_default();
        let (host, path) = rest
            .find('/')
            .and_then(|at| rest.split_at_checked(at))
            .unwrap_or((rest, ""));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    fn split(&self) -> (&str, &str) {
        if let Some((inside, rest)) = self.host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return (inside, rest.trim_start_matches(':'));
        }
        self.host.split_once(':').unwrap_or((&self.host, ""))
    }

    pub(crate) fn host_name(&self) -> &str {
        self.split().0
    }

    pub(crate) fn port(&self) -> &str {
        self.split().1
    }

    pub(crate) fn query_pairs(&self) -> Vec<(String, String)> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (decode(key), decode(value)))
            .collect()
    }

    pub(crate) fn escaped_path(&self) -> String {
        self.path.clone()
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = text
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, hex) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Version {
    /// Reads `1.2.3-pre+build`; with `lenient`, also `v1.2`.
    pub(crate) fn parse(text: &str, lenient: bool) -> Option<Self> {
        let text = if lenient {
            text.strip_prefix('v').unwrap_or(text)
        } else {
            text
        };
        let text = text.split('+').next()?;
        let (numbers, pre) = text.split_once('-').map_or((text, Vec::new()), |(numbers, pre)| {
            (numbers, pre.split('.').map(str::to_owned).collect())
        });
        let mut parts = numbers.split('.').map(|part| {
            let plain = !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && (lenient || part == "0" || !part.starts_with('0'));
            if plain { part.parse::<u64>().ok() } else { None }
        });
        let mut next = || parts.next();
        let major = next()??;
        let minor = match next() {
            Some(part) => part?,
            None if lenient => 0,
            None => return None,
        };
        let patch = match next() {
            Some(part) => part?,
            None if lenient => 0,
            None => return None,
        };
        let good = pre.iter().all(|part: &String| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
        (parts.next().is_none() && good).then_some(Self {
            numbers: [major, minor, patch],
            pre,
        })
    }

    pub(crate) fn order(&self, other: &Self) -> std::cmp::Ordering {
        use std::cmp::Ordering;
        let by_number = self.numbers.cmp(&other.numbers);
        let by_pre = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let part = |part: &String| {
                    part.parse::<u64>()
                        .map_or((1, 0, part.clone()), |number| (0, number, String::new()))
                };
                let (one, other): (Vec<_>, Vec<_>) = (
                    self.pre.iter().map(part).collect(),
                    other.pre.iter().map(part).collect(),
                );
                one.cmp(&other)
            }
        };
        by_number.then_with(by_pre)
    }
}
