//! Keeps an IPAddress for every cluster address of a service, which says whose the address is.
//!
//! Follows the services one change at a time, in the store's order, after a look at all of them. What others do to the
//! objects is repaired: one that is lost or changed while its service has the address comes back, and one that says that a
//! service has an address which it has not goes. It writes through the chain like everybody.

use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};

use coracle_api::object;
use coracle_store::{Event, EventKind, Record, Snapshot, Watch};
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};

use crate::core::Core;
use crate::{allocate, bootstrap, document, follow};

/// What the keys of services begin with.
pub(crate) const SERVICES: &str = "services/";
const ADDRESSES: &str = "ipaddresses.networking.k8s.io/";
const NETWORKING: &str = "/apis/networking.k8s.io/v1";
/// Marks the addresses that the server keeps; others are their makers' own.
const MANAGED: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
const FAMILY: (&str, &str) = ("ipaddress.kubernetes.io/ip-family", "IPv4");

/// Keeps until the store closes or the server is dropped, which it holds weakly.
pub(crate) async fn keep(core: Weak<Core>) {
    loop {
        let Some(watches) = look(&core).await else { return };
        let mut events = futures::stream::select_all(watches);
        loop {
            let Some(closing) = core.upgrade().map(|core| core.closing.clone()) else {
                return;
            };
            let event = tokio::select! {
                () = closing.cancelled() => return,
                event = events.next() => event,
            };
            match (event, core.upgrade()) {
                (Some(Ok(event)), Some(core)) => follow(&core, &event).await,
                // It fell behind: another look at all of them.
                (Some(Err(_)), Some(_)) => break,
                _ => return,
            }
        }
    }
}

/// Looks at all services and addresses; the answer tells of changes from before the look on.
async fn look(core: &Weak<Core>) -> Option<Vec<Watch>> {
    let core = core.upgrade()?;
    let (snapshot, watches) = follow::watched(&core.store, &[SERVICES, ADDRESSES]);
    for record in snapshot.range(SERVICES, None) {
        for address in addresses_of(record) {
            ensure(&core, address, record.key.as_str()).await;
        }
    }
    for record in snapshot.range(ADDRESSES, None) {
        repair(&core, record).await;
    }
    Some(watches)
}

async fn follow(core: &Arc<Core>, event: &Event) {
    let record = &event.record;
    let key = record.key.as_str();
    if key.starts_with(ADDRESSES) {
        for record in event.previous.iter().chain([record]) {
            repair(core, record).await;
        }
        return;
    }
    let had = event
        .previous
        .as_ref()
        .map(|previous| addresses_of(previous))
        .unwrap_or_default();
    let has = match event.kind {
        EventKind::Put => addresses_of(record),
        EventKind::Delete => Vec::new(),
    };
    for address in had.iter().filter(|address| !has.contains(address)) {
        release(core, *address, key).await;
    }
    for address in has.iter().filter(|address| !had.contains(address)) {
        ensure(core, *address, key).await;
    }
}

/// Brings an address's object into line with what services have, given what it says or said.
async fn repair(core: &Arc<Core>, record: &Record) {
    if let (Some(parent), Some(address)) = (parent(record), address(record)) {
        ensure(core, address, &parent).await;
        release(core, address, &parent).await;
    }
}

/// Makes the object of an address, if a service has the address and there is none that says so.
async fn ensure(core: &Arc<Core>, address: Ipv4Addr, owner: &str) {
    let snapshot = core.store.snapshot();
    if !has(&snapshot, owner, address) {
        return;
    }
    if let Some(kept) = snapshot.get(&key(address)) {
        let own = parent(kept).as_deref() == Some(owner);
        match (is_managed(kept), own) {
            (true, true) => return,
            (false, false) => {
                tracing::warn!(%address, service = owner, "another's object stands for the address of a service");
                return;
            }
            // Whose an address is cannot be changed, so the object is made anew.
            _ => remove(core, address).await,
        }
    }
    let (namespace, name) = document::place(owner);
    let labels = json!({MANAGED.0: MANAGED.1, FAMILY.0: FAMILY.1});
    let object = json!({
        "metadata": {"name": address.to_string(), "labels": labels},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    });
    write(core, Method::POST, &format!("{NETWORKING}/ipaddresses"), &object).await;
}

/// Removes the object of an address that its service has no more.
async fn release(core: &Arc<Core>, address: Ipv4Addr, service: &str) {
    let snapshot = core.store.snapshot();
    let own = |kept: &Arc<Record>| is_managed(kept) && parent(kept).as_deref() == Some(service);
    if snapshot.get(&key(address)).is_some_and(own) && !has(&snapshot, service, address) {
        remove(core, address).await;
    }
}

async fn remove(core: &Arc<Core>, address: Ipv4Addr) {
    let path = format!("{NETWORKING}/ipaddresses/{address}");
    write(core, Method::DELETE, &path, &Value::Null).await;
}

async fn write(core: &Arc<Core>, method: Method, path: &str, object: &Value) {
    match bootstrap::send(core, method, path, object).await {
        Ok(()) => {}
        // Another server was faster.
        Err(error) if matches!(error.code, 404 | 409) => {}
        Err(error) => tracing::warn!(path, %error, "an address could not be kept"),
    }
}

fn addresses_of(service: &Record) -> Vec<Ipv4Addr> {
    let mut addresses = document::tree(service)
        .map(|service| allocate::addresses(&service))
        .unwrap_or_default();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn address(record: &Record) -> Option<Ipv4Addr> {
    document::place(record.key.as_str()).1.parse().ok()
}

/// Whether a service has an address.
fn has(snapshot: &Snapshot, service: &str, address: Ipv4Addr) -> bool {
    snapshot
        .get(service)
        .is_some_and(|service| addresses_of(service).contains(&address))
}

fn key(address: Ipv4Addr) -> String {
    format!("{ADDRESSES}/{address}")
}

/// Whether somebody else than a service of this server has claimed an address by an object of their own.
pub(crate) fn is_claimed(snapshot: &Snapshot, address: Ipv4Addr) -> bool {
    snapshot.get(&key(address)).is_some_and(|record| !is_managed(record))
}

/// All addresses that services have.
pub(crate) fn in_use(snapshot: &Snapshot) -> Vec<Ipv4Addr> {
    let services = snapshot.range(SERVICES, None);
    services.flat_map(|service| addresses_of(service)).collect()
}

/// Whether the server keeps the object.
fn is_managed(record: &Record) -> bool {
    let mark = |(key, value): &(String, String)| (key.as_str(), value.as_str()) == MANAGED;
    record.header.labels.iter().any(mark)
}

/// The key of the service to which an address belongs; none where it is something else's.
fn parent(record: &Record) -> Option<String> {
    let address = document::tree(record).ok()?;
    let parent = object::get(&address, "spec.parentRef")?;
    let text = |field: &str| object::text(parent, field);
    let service = text("group").is_empty() && text("resource") == "services";
    service.then(|| format!("{SERVICES}{}/{}", text("namespace"), text("name")))
}
