//! Addresses for pods, from the node's part of the pod network.
//!
//! Addresses go round, so that one that was just freed is not given to somebody else while connections to its last owner are
//! still being noticed as broken. The first two addresses and the last one are never given out: the network, the host side, and
//! the broadcast address.

use parking_lot::Mutex;
use std::net::{IpAddr, Ipv4Addr};

/// A text that is no IPv4 network with room for pods.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 network like 10.244.0.0/16 with room for pods")]
pub struct AddressError(String);

/// The addresses of a network.
#[derive(Debug)]
pub struct AddressPool {
    first: u32,
    count: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    taken: Vec<u64>,
    next: u32,
    free: u32,
}

impl AddressPool {
    /// All addresses of a network in prefix notation.
    ///
    /// # Errors
    /// When the text is no such network.
    pub fn new(cidr: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(cidr.to_owned());
        let (address, length) = cidr.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let length: u32 = length.parse().map_err(|_| wrong())?;
        if !(8..=29).contains(&length) {
            return Err(wrong());
        }
        let size = 1u32 << (32 - length);
        let first = (u32::from(address) & !(size - 1)) + 2;
        let count = size - 3;
        let words = usize::try_from(count.div_ceil(64)).map_err(|_| wrong())?;
        Ok(Self {
            first,
            count,
            state: Mutex::new(State {
                taken: vec![0; words],
                next: 0,
                free: count,
            }),
        })
    }

    /// How many pods the network has room for.
    pub fn size(&self) -> u32 {
        self.count
    }

    /// A free address; `wanted` if that is one.
    pub fn take(&self, wanted: Option<IpAddr>) -> Option<IpAddr> {
        let mut state = self.state.lock();
        if let Some(offset) = wanted.and_then(|wanted| self.offset(wanted))
            && state.mark(offset)
        {
            return Some(self.address(offset));
        }
        if state.free == 0 {
            return None;
        }
        let start = state.next;
        let offset = (start..self.count).chain(0..start).find(|offset| state.mark(*offset))?;
        state.next = (offset + 1) % self.count;
        Some(self.address(offset))
    }

    /// Makes an address free again.
    pub fn give_back(&self, address: IpAddr) {
        if let Some(offset) = self.offset(address) {
            self.state.lock().clear(offset);
        }
    }

    fn offset(&self, address: IpAddr) -> Option<u32> {
        let IpAddr::V4(address) = address else { return None };
        u32::from(address)
            .checked_sub(self.first)
            .filter(|offset| *offset < self.count)
    }

    fn address(&self, offset: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self.first + offset))
    }
}

impl State {
    /// Takes an address; false when it is taken already.
    fn mark(&mut self, offset: u32) -> bool {
        let Some((word, bit)) = self.word(offset) else {
            return false;
        };
        let free = *word & bit == 0;
        *word |= bit;
        self.free -= u32::from(free);
        free
    }

    fn clear(&mut self, offset: u32) {
        let Some((word, bit)) = self.word(offset) else { return };
        let taken = *word & bit != 0;
        *word &= !bit;
        self.free += u32::from(taken);
    }

    fn word(&mut self, offset: u32) -> Option<(&mut u64, u64)> {
        let index = usize::try_from(offset / 64).ok()?;
        Some((self.taken.get_mut(index)?, 1 << (offset % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_address_once_and_none_of_the_reserved() {
        let pool = AddressPool::new("10.244.3.0/24").unwrap();
        let all: HashSet<IpAddr> = std::iter::from_fn(|| pool.take(None)).collect();
        assert_eq!((all.len(), pool.size()), (253, 253));
        for reserved in [0, 1, 255] {
            assert!(!all.contains(&IpAddr::from([10, 244, 3, reserved])));
        }
    }

    #[test]
    fn a_freed_address_comes_back_last() {
        let pool = AddressPool::new("10.0.0.0/29").unwrap();
        let first = pool.take(None).unwrap();
        pool.give_back(first);
        assert_ne!(pool.take(None), Some(first));
        assert_eq!(pool.take(Some(first)), Some(first));
        assert_ne!(pool.take(Some(first)), Some(first));
        assert!(pool.take(Some("192.168.0.1".parse().unwrap())).is_some());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/31", "fd00::/64", "a/8"] {
            assert!(AddressPool::new(text).is_err(), "{text}");
        }
    }
}
