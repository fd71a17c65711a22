//! The ranges from which services get their addresses: what the ServiceCIDRs say, or the first range before there are any.

use std::fmt;
use std::net::Ipv4Addr;

use coracle_api::object;
use coracle_store::{Expect, Key, Snapshot};
use serde_json::Value;

use crate::document;

/// What the keys of ServiceCIDRs begin with.
pub(crate) const PREFIX: &str = "servicecidrs.networking.k8s.io/";
/// The ServiceCIDR that every cluster has.
pub(crate) const DEFAULT: &str = "kubernetes";

/// The object that a range is from, as it must still be for an address to be given out; none for the first range before
/// there is an object.
pub(super) type Source = Option<(Key, Expect)>;

/// A range of IPv4 addresses. The pod network has no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    network: u32,
    /// How many bits all its addresses share.
    bits: u32,
}

impl Range {
    pub(super) fn new(address: Ipv4Addr, bits: u8) -> Self {
        let bits = u32::from(bits.min(32));
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        Self {
            network: u32::from(address) & mask,
            bits,
        }
    }

    /// Reads `10.96.0.0/12`; none for ranges of IPv6.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let bits = bits.parse().ok().filter(|bits| *bits <= 32)?;
        Some(Self::new(address.parse().ok()?, bits))
    }

    /// How many addresses it has; one less than all of IPv4 if it is all of it.
    pub(super) fn size(self) -> u32 {
        1_u32.checked_shl(32 - self.bits).unwrap_or(u32::MAX)
    }

    /// The address so far from the first.
    pub(super) fn address(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.network.saturating_add(offset))
    }

    /// Whether an address is in it.
    pub(crate) fn holds(self, address: Ipv4Addr) -> bool {
        u32::from(address)
            .checked_sub(self.network)
            .is_some_and(|offset| self.bits == 0 || offset < self.size())
    }

    /// Whether a service may have an address: the first names the network, the last is everybody's.
    pub(super) fn gives(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.network);
        self.holds(address) && offset > 0 && offset < self.size() - 1
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", Ipv4Addr::from(self.network), self.bits)
    }
}

/// The IPv4 ranges that a ServiceCIDR names.
pub(crate) fn of(object: &Value) -> impl Iterator<Item = Range> {
    let texts = object::list(object, "spec.cidrs").iter().filter_map(Value::as_str);
    texts.filter_map(Range::parse)
}

/// The ranges from which addresses may be given out now, the default one first, then by name. One that nobody has looked
/// at yet is as good as one that is said to be ready, as in Kubernetes.
pub(super) fn ready(snapshot: &Snapshot, first: Range) -> Vec<(Range, Source)> {
    let mut records: Vec<_> = snapshot.range(PREFIX, None).collect();
    if records.is_empty() {
        return vec![(first, None)];
    }
    records.sort_by_key(|record| document::place(record.key.as_str()).1 != DEFAULT);
    let mut ready = Vec::new();
    for record in records {
        let Ok(object) = document::tree(record) else { continue };
        if is_ready(&object) {
            let source = Some((record.key.clone(), Expect::Revision(record.revision)));
            ready.extend(of(&object).map(|range| (range, source.clone())));
        }
    }
    ready
}

fn is_ready(object: &Value) -> bool {
    let closed =
        |condition: &Value| object::text(condition, "type") == "Ready" && object::text(condition, "status") == "False";
    object::deletion_timestamp(object).is_none() && !object::list(object, "status.conditions").iter().any(closed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_range_gives_all_but_its_ends() {
        let range = Range::parse("10.99.0.0/29").unwrap();
        let gives = |last: u8| range.gives(Ipv4Addr::new(10, 99, 0, last));
        assert_eq!(
            (0..=8).filter(|last| gives(*last)).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5, 6]
        );
        assert!(range.holds(range.address(7)) && !range.holds(range.address(8)));
        assert!(!range.holds(Ipv4Addr::new(10, 98, 255, 255)));
        let one = Range::parse("10.99.0.1/32").unwrap();
        assert!(one.holds(one.address(0)) && !one.gives(one.address(0)));
        let all = Range::parse("0.0.0.0/0").unwrap();
        assert!(all.gives(Ipv4Addr::new(1, 2, 3, 4)) && all.holds(Ipv4Addr::BROADCAST));
        assert_eq!(Range::parse("10.99.3.4/16").unwrap().to_string(), "10.99.0.0/16");
        assert_eq!(Range::parse("fd00::/64"), None);
    }

    #[test]
    fn a_range_on_its_way_out_gives_nothing() {
        assert!(is_ready(&json!({"spec": {}})));
        assert!(is_ready(
            &json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        ));
        assert!(!is_ready(
            &json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
        ));
        assert!(!is_ready(&json!({"metadata": {"deletionTimestamp": "t"}})));
    }
}
