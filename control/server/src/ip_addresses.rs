//! Keeps an IPAddress for every cluster address of a service, which says whose the address is, and the default ServiceCIDR
//! ready.
//!
//! Follows the services one change at a time, in the store's order, after a look at all of them; an address that is lost
//! while its service has it comes back. It writes through the chain like everybody.

use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};

use coracle_api::custom::names;
use coracle_api::{object, time};
use coracle_store::{Event, EventKind, Record, Watch};
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};

use crate::core::Core;
use crate::{allocate, bootstrap, document, follow};

const SERVICES: &str = "services/";
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
    make_ready(&core).await;
    for record in snapshot.range(SERVICES, None) {
        for address in addresses_of(record) {
            ensure(&core, address, record.key.as_str()).await;
        }
    }
    for record in snapshot.range(ADDRESSES, None) {
        if let (Some(owner), Some(address)) = (owner(record), address(record)) {
            release(&core, address, &owner).await;
        }
    }
    Some(watches)
}

async fn follow(core: &Arc<Core>, event: &Event) {
    let record = &event.record;
    let key = record.key.as_str();
    if key.starts_with(ADDRESSES) {
        let lost = event.previous.as_ref().filter(|_| event.kind == EventKind::Delete);
        if let Some((owner, address)) = lost.and_then(|lost| Some((owner(lost)?, address(lost)?))) {
            ensure(core, address, &owner).await;
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

/// Makes the object of an address, if a service has the address and there is none.
async fn ensure(core: &Arc<Core>, address: Ipv4Addr, owner: &str) {
    let snapshot = core.store.snapshot();
    let there = snapshot.get(&format!("{ADDRESSES}/{address}")).is_some();
    let wanted = snapshot
        .get(owner)
        .is_some_and(|service| addresses_of(service).contains(&address));
    if there || !wanted {
        return;
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
    let kept = snapshot.get(&format!("{ADDRESSES}/{address}"));
    let own = kept.is_some_and(|kept| owner(kept).as_deref() == Some(service));
    let used = snapshot
        .get(service)
        .is_some_and(|service| addresses_of(service).contains(&address));
    if own && !used {
        write(
            core,
            Method::DELETE,
            &format!("{NETWORKING}/ipaddresses/{address}"),
            &Value::Null,
        )
        .await;
    }
}

/// The default range is ready from the start: what it says is what the server was started with.
async fn make_ready(core: &Arc<Core>) {
    let path = format!("{NETWORKING}/servicecidrs/kubernetes");
    let Some(record) = core
        .store
        .snapshot()
        .get("servicecidrs.networking.k8s.io//kubernetes")
        .cloned()
    else {
        return;
    };
    let Ok(mut range) = document::tree(&record) else { return };
    let mut conditions = object::list(&range, "status.conditions").to_vec();
    let now = time::format_seconds(core.now_micros());
    names::set(
        &mut conditions,
        "Ready",
        true,
        "",
        "Kubernetes Service CIDR is ready",
        &now,
    );
    if object::list(&range, "status.conditions") != conditions {
        object::set(&mut range, "status.conditions", Value::Array(conditions));
        write(core, Method::PUT, &format!("{path}/status"), &range).await;
    }
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

/// The key of the service to which an address belongs, if the server keeps it.
fn owner(record: &Record) -> Option<String> {
    let mark = |(key, value): &(String, String)| (key.as_str(), value.as_str()) == MANAGED;
    if !record.header.labels.iter().any(mark) {
        return None;
    }
    let address = document::tree(record).ok()?;
    let parent = object::get(&address, "spec.parentRef")?;
    Some(format!(
        "{SERVICES}{}/{}",
        object::text(parent, "namespace"),
        object::text(parent, "name")
    ))
}
