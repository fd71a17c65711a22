//! Keeps the ServiceCIDRs: each has the finalizer that guards it and says that it is ready; one that is to be deleted is
//! held while services have addresses in it that no other range would hold.
//!
//! No service gets an address of a range once the range is marked: see [`crate::allocate`]. So a look at all services after
//! the mark finds everybody who stands in the way. It writes through the chain like everybody.

use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};

use coracle_api::custom::names;
use coracle_api::prepare::networking::SERVICE_CIDR_FINALIZER as FINALIZER;
use coracle_api::{object, time};
use coracle_store::{Snapshot, Watch};
use http::Method;
use serde_json::{Value, json};

use crate::allocate::ranges::{self, Range};
use crate::core::Core;
use crate::{bootstrap, document, follow, ip_addresses};

const PATH: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const READY: &str = "Kubernetes Service CIDR is ready";
const HELD: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

/// Keeps until the store closes or the server is dropped, which it holds weakly.
pub(crate) async fn keep(core: Weak<Core>) {
    while let Some(watches) = pass(&core).await
        && follow::changed(&core, watches).await
    {}
}

/// The ServiceCIDR that every cluster has.
pub(crate) fn default_object(range: &str) -> Value {
    json!({"metadata": {"name": ranges::DEFAULT}, "spec": {"cidrs": [range]}})
}

/// Looks at all ranges once; the answer tells of changes from before the look on. Services matter only while a range waits
/// for its end.
async fn pass(core: &Weak<Core>) -> Option<Vec<Watch>> {
    let core = core.upgrade()?;
    let all = |snapshot: &Snapshot| -> Vec<Value> {
        let records = snapshot.range(ranges::PREFIX, None);
        records.filter_map(|record| document::tree(record).ok()).collect()
    };
    let (mut snapshot, mut watches) = follow::watched(&core.store, &[ranges::PREFIX]);
    let mut objects = all(&snapshot);
    if objects.iter().any(is_ending) {
        (snapshot, watches) = follow::watched(&core.store, &[ranges::PREFIX, ip_addresses::SERVICES]);
        objects = all(&snapshot);
    }
    let used = match objects.iter().any(is_ending) {
        true => ip_addresses::in_use(&snapshot),
        false => Vec::new(),
    };
    for object in &objects {
        let name = object::name(object);
        let now = time::format_seconds(core.now_micros());
        match decide(object, &objects, &used, &now) {
            Step::Rest => {}
            Step::Write(next) => write(&core, Method::PUT, &format!("{PATH}/{name}"), &next).await,
            Step::Tell(next) => write(&core, Method::PUT, &format!("{PATH}/{name}/status"), &next).await,
        }
    }
    if !objects.iter().any(|object| object::name(object) == ranges::DEFAULT) {
        // The range with the API's own address always exists.
        write(&core, Method::POST, PATH, &default_object(&core.addresses.range())).await;
    }
    Some(watches)
}

fn is_ending(object: &Value) -> bool {
    object::deletion_timestamp(object).is_some()
}

/// What is to be written about a range.
#[derive(Debug, PartialEq)]
enum Step {
    Rest,
    /// Its finalizers.
    Write(Value),
    /// Its status.
    Tell(Value),
}

/// Decides what to do about a range, among all of them, with all addresses that services have.
fn decide(object: &Value, all: &[Value], used: &[Ipv4Addr], now: &str) -> Step {
    let finalizers: Vec<&str> = object::finalizers(object).collect();
    let guarded = finalizers.contains(&FINALIZER);
    let with = |finalizers: &[&str]| {
        let mut next = object.clone();
        object::set_finalizers(&mut next, finalizers);
        Step::Write(next)
    };
    let tell = |ready: bool, reason: &str, message: &str| {
        let mut conditions = object::list(object, "status.conditions").to_vec();
        names::set(&mut conditions, "Ready", ready, reason, message, now);
        if object::list(object, "status.conditions") == conditions {
            return Step::Rest;
        }
        let mut next = object.clone();
        object::set(&mut next, "status.conditions", Value::Array(conditions));
        Step::Tell(next)
    };
    match (is_ending(object), guarded) {
        (true, true) if is_needed(object, all, used) => tell(false, "Terminating", HELD),
        (true, true) => {
            let others: Vec<&str> = finalizers.into_iter().filter(|one| *one != FINALIZER).collect();
            with(&others)
        }
        (true, false) => Step::Rest,
        (false, false) => with(&[finalizers.as_slice(), &[FINALIZER]].concat()),
        (false, true) => tell(true, "", READY),
    }
}

/// Whether a service has an address in the range that is in no range that stays.
fn is_needed(object: &Value, all: &[Value], used: &[Ipv4Addr]) -> bool {
    let own: Vec<Range> = ranges::of(object).collect();
    let kept: Vec<Range> = all
        .iter()
        .filter(|other| !is_ending(other))
        .flat_map(ranges::of)
        .collect();
    let holds = |ranges: &[Range], address: Ipv4Addr| ranges.iter().any(|range| range.holds(address));
    used.iter()
        .any(|address| holds(&own, *address) && !holds(&kept, *address))
}

async fn write(core: &Arc<Core>, method: Method, path: &str, object: &Value) {
    match bootstrap::send(core, method, path, object).await {
        Ok(()) => {}
        // Somebody else wrote; that brings another look.
        Err(error) if matches!(error.code, 404 | 409) => {}
        Err(error) => tracing::warn!(path, %error, "a range of service addresses could not be kept"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(name: &str, cidr: &str) -> Value {
        let mut range = default_object(cidr);
        object::set_name(&mut range, name);
        object::set_finalizers(&mut range, &[FINALIZER]);
        range
    }

    fn ending(mut range: Value) -> Value {
        object::set_deletion_timestamp(&mut range, "t");
        range
    }

    #[test]
    fn a_new_range_is_guarded_and_then_ready() {
        let mut new = range("more", "10.99.0.0/24");
        object::set_finalizers(&mut new, &["x/y"]);
        let Step::Write(guarded) = decide(&new, &[], &[], "t") else {
            panic!()
        };
        assert_eq!(object::finalizers(&guarded).collect::<Vec<_>>(), ["x/y", FINALIZER]);
        let Step::Tell(told) = decide(&guarded, &[], &[], "t") else {
            panic!()
        };
        assert_eq!(told["status"]["conditions"][0]["status"], "True");
        assert_eq!(decide(&told, &[], &[], "later"), Step::Rest);
    }

    #[test]
    fn a_range_goes_when_nobody_needs_it() {
        let used = [Ipv4Addr::new(10, 99, 0, 7)];
        let more = ending(range("more", "10.99.0.0/24"));
        let Step::Tell(told) = decide(&more, std::slice::from_ref(&more), &used, "t") else {
            panic!()
        };
        assert_eq!(told["status"]["conditions"][0]["reason"], "Terminating");
        assert_eq!(decide(&told, std::slice::from_ref(&told), &used, "t"), Step::Rest);
        let released = |all: &[Value], used: &[Ipv4Addr]| match decide(&more, all, used, "t") {
            Step::Write(next) => object::finalizers(&next).next().is_none(),
            _ => false,
        };
        assert!(released(&[], &[Ipv4Addr::new(10, 96, 0, 1)]));
        let wider = range("wider", "10.99.0.0/16");
        assert!(released(std::slice::from_ref(&wider), &used));
        assert!(!released(&[ending(wider)], &used));
    }
}
