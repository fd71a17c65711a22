//! Rules of the ranges that services get their addresses from, and of the addresses.

use super::{immutable, names};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;
use std::net::IpAddr;

/// Most ranges of one object: one of each family.
pub const RANGES_LIMIT: usize = 2;

const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Reads `10.0.0.0/8`: the address and how many of its bits are fixed.
pub(super) fn read_cidr(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits: u32 = bits.parse().ok().filter(|_| bits.bytes().all(|b| b.is_ascii_digit()))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((address, bits))
}

/// A text must be a range of addresses.
pub(super) fn cidr(text: &str, path: Path<'_>, faults: &mut Vec<FieldError>) -> Option<(IpAddr, u32)> {
    let read = read_cidr(text);
    if read.is_none() {
        faults.push(FieldError::invalid(path, text, CIDR));
    }
    read
}

/// An address as a number, its width in bits.
fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

/// Whether a range holds an address.
pub(super) fn holds((base, bits): (IpAddr, u32), address: IpAddr) -> bool {
    let ((base, width), (address, other)) = (number(base), number(address));
    let shift = width.saturating_sub(bits);
    width == other && base.checked_shr(shift).unwrap_or(0) == address.checked_shr(shift).unwrap_or(0)
}

/// Checks a range of service addresses.
pub fn service_cidr(range: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let list = path.child("cidrs");
    let ranges = object::list(range, "spec.cidrs");
    if ranges.is_empty() {
        faults.push(FieldError::required(list, "at least one CIDR required"));
    } else if ranges.len() > RANGES_LIMIT {
        let words = "may only hold up to 2 values";
        faults.push(FieldError::invalid(path, Value::from(ranges), words));
    }
    let mut families = Vec::new();
    for (index, text) in ranges.iter().filter_map(Value::as_str).enumerate() {
        let here = list.index(index);
        let Some((address, bits)) = cidr(text, here, faults) else {
            continue;
        };
        let (value, width) = number(address);
        let hosts = width.saturating_sub(bits);
        let below = 1u128.checked_shl(hosts).map_or(u128::MAX, |size| size - 1);
        if value & below != 0 {
            let words = "must not have bits set beyond the prefix length";
            faults.push(FieldError::invalid(here, text, words));
        }
        families.push(address.is_ipv4());
    }
    if let [one, other] = families.as_slice()
        && one == other
    {
        let words = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        faults.push(FieldError::invalid(list, Value::from(ranges), words));
    }
}

/// A range may only become of two families.
pub fn service_cidr_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let list = path.child("cidrs");
    let [after, before] = [new, old].map(|range| object::list(range, "spec.cidrs"));
    let grows = before.len() == 1 && after.len() == 2 && after.first() == before.first();
    if after != before && !grows {
        faults.push(FieldError::invalid(list, Value::from(after), "field is immutable"));
    }
}

/// Checks an address.
pub fn ip_address(address: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let here = path.child("parentRef");
    let Some(parent) = object::get(address, "spec.parentRef") else {
        faults.push(FieldError::required(here, ""));
        return;
    };
    for field in ["resource", "name"] {
        let text = object::text(parent, field);
        if text.is_empty() {
            faults.push(FieldError::required(here.child(field), ""));
        }
        for fault in names::path_segment(text) {
            faults.push(FieldError::invalid(here.child(field), text, fault));
        }
    }
}

/// Who has an address never changes.
pub fn ip_address_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    immutable(new.get("spec"), old.get("spec"), Path::root("spec"), faults);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges_are_ranges() {
        let paths = |cidrs: Value| {
            let mut faults = Vec::new();
            service_cidr(&json!({"spec": {"cidrs": cidrs}}), &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        assert!(paths(json!(["10.96.0.0/16", "2001:db8::/64"])).is_empty());
        assert_eq!(paths(json!([])), ["spec.cidrs"]);
        assert_eq!(paths(json!(["10.96.0.1/16"])), ["spec.cidrs[0]"]);
        assert_eq!(paths(json!(["10.96.0.0/33"])), ["spec.cidrs[0]"]);
        assert_eq!(paths(json!(["10.96.0.0/16", "10.97.0.0/16"])), ["spec.cidrs"]);
        let range = read_cidr("10.96.0.0/16").unwrap();
        assert!(holds(range, "10.96.9.9".parse().unwrap()) && !holds(range, "10.97.0.1".parse().unwrap()));
        assert!(holds(read_cidr("0.0.0.0/0").unwrap(), "1.2.3.4".parse().unwrap()));
    }
}
