//! Addresses and node ports of services.
//!
//! What is taken is known from the store; a set in memory mirrors it so that two services never get the same. A service
//! reserves before it is committed, and the reservation is given back when the commit does not happen.
//!
//! Addresses come from the ranges that are ready, see [`ranges`]: the first of them that has a free one gives it.

pub(crate) mod ranges;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use coracle_api::field_error::FieldError;
use coracle_api::object;
use coracle_store::{Expect, Key, Snapshot};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{Config, ip_addresses};
use ranges::{Range, Source};

/// The first addresses and node ports are given out last, so that those who ask for certain ones find them free
/// (`kubernetes` .1, DNS .10): a sixteenth of the network but no more than this, a thirty-second of the ports. Kubernetes'
/// own bands.
const STATIC_ADDRESSES: u32 = 256;
/// The most node ports that are given out last.
const STATIC_PORTS: u32 = 128;
/// A band of fewer than this is none.
const LEAST_BAND: u32 = 16;
/// Where dynamic addresses begin: after the one that names the network and the one that the API has.
const FIRST: u32 = 2;
/// How far dynamic addresses reach into a large network. More services than this would be far beyond one process.
const DYNAMIC_ADDRESSES: u32 = 65_536;

/// The pools.
#[derive(Clone)]
pub(crate) struct Addresses {
    /// The range that every cluster has, before there is an object that says so.
    first: Range,
    ports: RangeInclusive<u16>,
    taken: Arc<Mutex<Taken>>,
}

/// Who has what; an owner is a service's key in the store.
#[derive(Default)]
struct Taken {
    addresses: HashMap<Ipv4Addr, String>,
    ports: HashMap<u16, String>,
}

/// Addresses and ports that were taken for a write that is not committed yet. Dropped without [`Reservation::keep`], they
/// are free again.
#[must_use]
pub(crate) struct Reservation {
    taken: Arc<Mutex<Taken>>,
    added_addresses: Vec<Ipv4Addr>,
    added_ports: Vec<u16>,
    kept: bool,
    owner: String,
    wanted: Option<(Vec<Ipv4Addr>, Vec<u16>)>,
    source: Source,
}

impl Reservation {
    /// What must still hold when the service is committed: the range of a new address is as it was. So nobody gets an
    /// address of a range that is on its way out.
    pub(crate) fn needs(&self) -> Option<(Key, Expect)> {
        self.source.clone()
    }

    /// The write was committed: what the service no longer names becomes free.
    pub(crate) fn keep(mut self) {
        self.kept = true;
        if let Some((addresses, ports)) = &self.wanted {
            let mut taken = self.taken.lock();
            taken
                .addresses
                .retain(|address, owner| *owner != self.owner || addresses.contains(address));
            taken
                .ports
                .retain(|port, owner| *owner != self.owner || ports.contains(port));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut taken = self.taken.lock();
        for address in &self.added_addresses {
            taken.addresses.remove(address);
        }
        for port in &self.added_ports {
            taken.ports.remove(port);
        }
    }
}

impl Addresses {
    /// Pools in which everything that the store's services name is taken.
    pub(crate) fn new(config: &Config, snapshot: &Snapshot) -> Self {
        let pools = Self {
            first: Range::new(config.service_cidr, config.service_cidr_prefix.clamp(12, 30)),
            ports: config.node_ports.clone(),
            taken: Arc::default(),
        };
        {
            let mut taken = pools.taken.lock();
            for record in snapshot.range(ip_addresses::SERVICES, None) {
                let Ok(service) = crate::document::parse(&record.json) else {
                    continue;
                };
                let owner = record.key.as_str();
                taken.addresses.extend(
                    addresses(&service)
                        .into_iter()
                        .map(|address| (address, owner.to_owned())),
                );
                taken
                    .ports
                    .extend(ports(&service).into_iter().map(|port| (port, owner.to_owned())));
            }
        }
        pools
    }

    /// The address of the `kubernetes` service: the first of the network.
    pub(crate) fn first(&self) -> Ipv4Addr {
        self.first.address(1)
    }

    /// The network in its usual form: `10.96.0.0/12`.
    pub(crate) fn range(&self) -> String {
        self.first.to_string()
    }

    /// A deleted service's addresses and ports become free.
    pub(crate) fn release(&self, owner: &str) {
        let mut taken = self.taken.lock();
        taken.addresses.retain(|_, other| other != owner);
        taken.ports.retain(|_, other| other != owner);
    }

    /// Fills in the addresses and ports that a service needs, and takes those that it asks for.
    pub(crate) fn assign(
        &self,
        owner: &str,
        service: &mut Value,
        old: Option<&Value>,
        snapshot: &Snapshot,
    ) -> Result<Reservation, Vec<FieldError>> {
        if let Some(old) = old {
            carry(service, old);
        }
        let mut reservation = Reservation {
            taken: self.taken.clone(),
            added_addresses: Vec::new(),
            added_ports: Vec::new(),
            kept: false,
            owner: owner.to_owned(),
            wanted: None,
            source: None,
        };
        let mut faults = Vec::new();
        self.assign_address(&mut reservation, service, snapshot, &mut faults);
        self.assign_ports(&mut reservation, service, &mut faults);
        reservation.wanted = Some((addresses(service), ports(service)));
        if faults.is_empty() {
            Ok(reservation)
        } else {
            Err(faults)
        }
    }

    fn assign_address(
        &self,
        reservation: &mut Reservation,
        service: &mut Value,
        snapshot: &Snapshot,
        faults: &mut Vec<FieldError>,
    ) {
        if object::text(service, "spec.type") == "ExternalName" {
            for field in [
                "spec.clusterIP",
                "spec.clusterIPs",
                "spec.ipFamilies",
                "spec.ipFamilyPolicy",
            ] {
                object::remove(service, field);
            }
            return;
        }
        let asked = match object::text(service, "spec.clusterIP") {
            "" => object::list(service, "spec.clusterIPs")
                .first()
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            own => own.to_owned(),
        };
        let given = match asked.as_str() {
            "None" => "None".to_owned(),
            "" => match self.free_address(reservation, snapshot) {
                Some(address) => address.to_string(),
                None => {
                    faults.push(FieldError::invalid(
                        "spec.clusterIPs",
                        json!([]),
                        "failed to allocate a serviceIP: range is full",
                    ));
                    return;
                }
            },
            own => match self.take_address(reservation, own, snapshot) {
                Ok(()) => own.to_owned(),
                Err(detail) => {
                    faults.push(FieldError::invalid("spec.clusterIPs", json!([own]), detail));
                    return;
                }
            },
        };
        object::set(service, "spec.clusterIP", json!(given));
        object::set(service, "spec.clusterIPs", json!([given]));
        if object::list(service, "spec.ipFamilies").is_empty() {
            object::set(service, "spec.ipFamilies", json!(["IPv4"]));
        }
        if object::text(service, "spec.ipFamilyPolicy").is_empty() {
            object::set(service, "spec.ipFamilyPolicy", json!("SingleStack"));
        }
    }

    /// A free address of the first range that has one.
    fn free_address(&self, reservation: &mut Reservation, snapshot: &Snapshot) -> Option<Ipv4Addr> {
        let mut taken = reservation.taken.lock();
        let is_free = |address: &Ipv4Addr| {
            !taken.addresses.contains_key(address) && !ip_addresses::is_claimed(snapshot, *address)
        };
        let (range, address) = ranges::ready(snapshot, self.first)
            .into_iter()
            .find_map(|range| Some((range.clone(), free(range.0, &reservation.owner, is_free)?)))?;
        taken.addresses.insert(address, reservation.owner.clone());
        reservation.added_addresses.push(address);
        reservation.source = range.1;
        Some(address)
    }

    fn take_address(&self, reservation: &mut Reservation, text: &str, snapshot: &Snapshot) -> Result<(), String> {
        let failed = |why: &str| format!("failed to allocate IP {text}: {why}");
        let address: Ipv4Addr = text.parse().map_err(|_| failed("must be a valid IPv4 address"))?;
        let mut taken = reservation.taken.lock();
        let owner = taken.addresses.get(&address);
        // What a service has, it keeps, whatever becomes of the range.
        if owner.is_some_and(|owner| *owner == reservation.owner) {
            return Ok(());
        }
        let ranges = ranges::ready(snapshot, self.first);
        let Some((_, source)) = ranges.iter().find(|(range, _)| range.gives(address)) else {
            let all: Vec<String> = ranges.iter().map(|(range, _)| range.to_string()).collect();
            let all = all.join(", ");
            return Err(failed(&format!(
                "the provided network does not match the current range {all}"
            )));
        };
        if owner.is_some() || ip_addresses::is_claimed(snapshot, address) {
            return Err(failed("provided IP is already allocated"));
        }
        taken.addresses.insert(address, reservation.owner.clone());
        reservation.added_addresses.push(address);
        reservation.source = source.clone();
        Ok(())
    }

    fn assign_ports(&self, reservation: &mut Reservation, service: &mut Value, faults: &mut Vec<FieldError>) {
        let kind = object::text(service, "spec.type").to_owned();
        let wants = kind == "NodePort"
            || (kind == "LoadBalancer"
                && object::get(service, "spec.allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)));
        let Some(list) = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut) else {
            return;
        };
        // A port of several protocols may use one node port for all of them.
        let mut by_port: HashMap<i64, u16> = HashMap::new();
        let asked = |port: &Value| object::integer(port, "nodePort").unwrap_or_default();
        // Those that are asked for come first, so that none is given to another port of the same service by chance.
        let (named, unnamed): (Vec<_>, Vec<_>) = list.iter_mut().enumerate().partition(|(_, port)| asked(port) != 0);
        for (index, port) in named.into_iter().chain(unnamed) {
            let number = object::integer(port, "port").unwrap_or_default();
            let asked = asked(port);
            if asked == 0 && !wants {
                continue;
            }
            let given = if asked != 0 {
                self.take_port(reservation, asked)
            } else if let Some(shared) = by_port.get(&number) {
                Ok(*shared)
            } else {
                self.free_port(reservation)
                    .ok_or_else(|| "failed to allocate a nodePort: range is full".to_owned())
            };
            match given {
                Ok(given) => {
                    by_port.insert(number, given);
                    object::set(port, "nodePort", json!(given));
                }
                Err(detail) => {
                    faults.push(FieldError::invalid(
                        format!("spec.ports[{index}].nodePort"),
                        asked,
                        detail,
                    ));
                }
            }
        }
    }

    fn take_port(&self, reservation: &mut Reservation, asked: i64) -> Result<u16, String> {
        let port = u16::try_from(asked)
            .ok()
            .filter(|port| self.ports.contains(port))
            .ok_or_else(|| {
                let (first, last) = (self.ports.start(), self.ports.end());
                format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")
            })?;
        let mut taken = reservation.taken.lock();
        match taken.ports.get(&port) {
            Some(owner) if *owner == reservation.owner => Ok(port),
            Some(_) => Err("provided port is already allocated".to_owned()),
            None => {
                taken.ports.insert(port, reservation.owner.clone());
                reservation.added_ports.push(port);
                Ok(port)
            }
        }
    }

    fn free_port(&self, reservation: &mut Reservation) -> Option<u16> {
        let count = self.ports.end().checked_sub(*self.ports.start())?.checked_add(1)?;
        let mut taken = reservation.taken.lock();
        let band = band(u32::from(count) / 32, STATIC_PORTS);
        // By chance: the ports are those of the machine, and other clusters on it have services of the same names.
        let port = sought(u32::from(count), band, |upper| rand::random_range(0..upper))
            .filter_map(|offset| u16::try_from(u32::from(*self.ports.start()) + offset).ok())
            .find(|port| !taken.ports.contains_key(port))?;
        taken.ports.insert(port, reservation.owner.clone());
        reservation.added_ports.push(port);
        Some(port)
    }
}

/// A free address of a range, sought from a place that the service's name decides: the same services get the same addresses.
fn free(range: Range, owner: &str, is_free: impl Fn(&Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let size = range.size();
    // The last is everybody's.
    let count = size.min(DYNAMIC_ADDRESSES).checked_sub(FIRST + 1)?;
    let band = band(size / 16, STATIC_ADDRESSES);
    sought(count, band.saturating_sub(FIRST), |upper| {
        place(owner, u64::from(upper))
    })
    .map(|offset| range.address(FIRST + offset))
    .find(is_free)
}

/// How many of the first are given out last.
fn band(part: u32, most: u32) -> u32 {
    if part < LEAST_BAND { 0 } else { part.min(most) }
}

/// All offsets below `count` in the order in which they are tried: those above the band from a place that `start` chooses among
/// so many, then the band.
fn sought(count: u32, band: u32, start: impl FnOnce(u32) -> u32) -> impl Iterator<Item = u32> {
    let upper = count.saturating_sub(band);
    let start = if upper == 0 { 0 } else { start(upper) };
    let above = (0..upper).map(move |step| band + (start + step) % upper);
    above.chain(0..band.min(count))
}

fn place(owner: &str, count: u64) -> u32 {
    let mut hasher = DefaultHasher::new();
    owner.hash(&mut hasher);
    u32::try_from(hasher.finish() % count.max(1)).unwrap_or_default()
}

/// The addresses that a service has.
pub(crate) fn addresses(service: &Value) -> Vec<Ipv4Addr> {
    let texts = object::list(service, "spec.clusterIPs")
        .iter()
        .filter_map(Value::as_str);
    texts
        .chain([object::text(service, "spec.clusterIP")])
        .filter_map(|text| text.parse().ok())
        .collect()
}

fn ports(service: &Value) -> Vec<u16> {
    object::list(service, "spec.ports")
        .iter()
        .filter_map(|port| u16::try_from(object::integer(port, "nodePort")?).ok())
        .filter(|port| *port > 0)
        .collect()
}

/// What an update leaves out and the service already has stays; node ports go when the type no longer has any.
fn carry(service: &mut Value, old: &Value) {
    let kind = object::text(service, "spec.type").to_owned();
    let had = object::text(old, "spec.clusterIP").to_owned();
    if kind != "ExternalName" && object::text(service, "spec.clusterIP").is_empty() && !had.is_empty() {
        object::set(service, "spec.clusterIP", json!(had));
        if object::list(service, "spec.clusterIPs").is_empty() {
            object::set(service, "spec.clusterIPs", json!(object::list(old, "spec.clusterIPs")));
        }
    }
    let keeps = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    let had_ports = matches!(object::text(old, "spec.type"), "NodePort" | "LoadBalancer");
    let old_ports = object::list(old, "spec.ports");
    let Some(list) = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut) else {
        return;
    };
    for port in list {
        let same = old_ports.iter().find(|other| {
            object::integer(other, "port") == object::integer(port, "port")
                && object::text(other, "protocol") == object::text(port, "protocol")
        });
        let before = same
            .and_then(|other| object::integer(other, "nodePort"))
            .unwrap_or_default();
        let asked = object::integer(port, "nodePort").unwrap_or_default();
        if keeps && asked == 0 && before != 0 {
            object::set(port, "nodePort", json!(before));
        } else if !keeps && had_ports && asked != 0 && asked == before {
            object::remove(port, "nodePort");
        }
    }
}

#[cfg(test)]
mod tests;
