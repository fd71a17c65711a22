//! Addresses of pretending pods: each node has a network of 256 out of 100.64.0.0/10, which no real pod uses.

use std::net::Ipv4Addr;

/// 100.64.0.0, the first of the networks.
const FIRST: u32 = 0x6440_0000;

/// The network of a node, counted from 0.
pub fn network(node: u16) -> String {
    format!("{}/24", Ipv4Addr::from(FIRST + (u32::from(node) << 8)))
}

/// The addresses of one node that are in use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    used: [u64; 4],
}

impl Addresses {
    /// A free address of the node; `None` if all are in use.
    pub fn take(&mut self, node: u16) -> Option<Ipv4Addr> {
        let free = (1..=254_u8).find(|last| !self.is_used(*last))?;
        self.mark(free, true);
        Some(Ipv4Addr::from(FIRST + (u32::from(node) << 8) + u32::from(free)))
    }

    /// The address is in use, or not any more.
    pub fn mark(&mut self, last: u8, used: bool) {
        if let Some(word) = self.used.get_mut(usize::from(last / 64)) {
            let bit = 1 << (last % 64);
            *word = if used { *word | bit } else { *word & !bit };
        }
    }

    fn is_used(&self, last: u8) -> bool {
        self.used
            .get(usize::from(last / 64))
            .is_some_and(|word| word & (1 << (last % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_given_once() {
        let mut addresses = Addresses::default();
        let all: Vec<Ipv4Addr> = std::iter::from_fn(|| addresses.take(258)).collect();
        assert_eq!((all.len(), all[0]), (254, Ipv4Addr::new(100, 65, 2, 1)));
        addresses.mark(77, false);
        assert_eq!(addresses.take(258), Some(Ipv4Addr::new(100, 65, 2, 77)));
        assert_eq!(network(258), "100.65.2.0/24");
    }
}
