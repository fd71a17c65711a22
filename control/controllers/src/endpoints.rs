//! Endpoints: the older form of EndpointSlices, for clients that still read it.
//!
//! Wants to be true: the Endpoints object of a service with a selector lists the addresses behind it, ready and not,
//! grouped by ports. It must never touch the Endpoints of a service without a selector.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use serde_json::{Value, json};

use crate::{
    driver::{Controller, Turn},
    endpointslice::HEADLESS_LABEL,
    key::Key,
    merge,
    plan::{Action, Plan, Target},
    resource::{ENDPOINTS, SERVICES},
    service::{self, Backend, Port},
    store::Change,
    world::{Watch, World},
};

/// The controller. Its keys are services.
pub static CONTROLLER: Controller = Controller {
    name: "endpoint-controller",
    resource: SERVICES,
    watches: &[
        Watch::Service(itself),
        Watch::Pod(service::of_pod),
        Watch::Endpoints(of_endpoints),
    ],
    reconcile,
};

/// Addresses an object: it is sent whole to all its watchers. The number and the annotation are Kubernetes' own.
const ADDRESS_LIMIT: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGER_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

fn itself(change: &Change<Service>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.latest().map(|service| Key::of(&service.metadata)));
}

fn of_endpoints(change: &Change<Endpoints>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.latest().map(|endpoints| Key::of(&endpoints.metadata)));
}

/// Decides what to do about one service.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let existing = world.endpoints.get(key);
    let service = world
        .services
        .get(key)
        .filter(|s| s.metadata.deletion_timestamp.is_none());
    let Some(service) = service.filter(|s| service::has_backends(s)) else {
        let ours = |e: &Endpoints| {
            e.metadata
                .labels
                .as_ref()
                .is_some_and(|l| l.contains_key(MANAGER_LABEL))
        };
        if let Some(endpoints) = existing.filter(|e| ours(e)) {
            plan.change(Action::delete(&ENDPOINTS, &endpoints.metadata));
        }
        return plan;
    };
    let family = service
        .spec
        .as_ref()
        .and_then(|s| s.ip_families.as_ref()?.first())
        .map_or("IPv4", String::as_str);
    let mut backends = service::backends(&service, family, world);
    backends.retain(|b| b.ready || !b.terminating);
    let over = backends.len() > ADDRESS_LIMIT;
    if over {
        backends.sort_by_key(|b| !b.ready);
        backends.truncate(ADDRESS_LIMIT);
    }
    let subsets = subsets(backends);
    let labels = labels(&service);
    match existing {
        None => {
            let mut metadata = json!({"name": &*key.name, "namespace": &*key.namespace, "labels": labels});
            if let (true, Value::Object(fields)) = (over, &mut metadata) {
                fields.insert("annotations".to_owned(), json!({OVER_CAPACITY: "truncated"}));
            }
            let body = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets});
            plan.change(Action::create(&ENDPOINTS, &key.namespace, body));
        }
        Some(found) => {
            let same = found.subsets.as_deref().unwrap_or_default() == subsets;
            let has = found.metadata.labels.as_ref();
            let labelled = labels
                .iter()
                .all(|(name, value)| has.and_then(|l| l.get(*name)) == Some(value));
            let marked = found
                .metadata
                .annotations
                .as_ref()
                .is_some_and(|a| a.contains_key(OVER_CAPACITY));
            if same && labelled && marked == over {
                return plan;
            }
            let mark = if over { Value::from("truncated") } else { Value::Null };
            let patch = json!({"metadata": {
                "uid": found.metadata.uid, "resourceVersion": found.metadata.resource_version,
                "labels": labels, "annotations": {OVER_CAPACITY: mark},
            }, "subsets": merge::value(&subsets)});
            plan.change(Action::merge(Target::of(&ENDPOINTS, &found.metadata), patch));
        }
    }
    plan
}

fn labels(service: &Service) -> BTreeMap<&str, String> {
    let own = service
        .metadata
        .labels
        .iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.clone()));
    let mut labels: BTreeMap<&str, String> = own.collect();
    labels.insert(MANAGER_LABEL, MANAGER.to_owned());
    if service::is_headless(service) {
        labels.insert(HEADLESS_LABEL, String::new());
    }
    labels
}

/// Groups by ports; addresses are in order, so that equal worlds give equal objects.
fn subsets(backends: Vec<Backend>) -> Vec<EndpointSubset> {
    let mut by_ports: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for backend in backends {
        let (ready, not_ready) = by_ports.entry(backend.ports).or_default();
        let address = EndpointAddress {
            ip: backend.address,
            hostname: backend.hostname,
            node_name: backend.node,
            target_ref: Some(backend.pod),
        };
        if backend.ready {
            ready.push(address)
        } else {
            not_ready.push(address)
        }
    }
    let subset = |(ports, (mut ready, mut not_ready)): (Vec<Port>, (Vec<_>, Vec<_>))| {
        ready.sort_by(|a: &EndpointAddress, b| a.ip.cmp(&b.ip));
        not_ready.sort_by(|a: &EndpointAddress, b| a.ip.cmp(&b.ip));
        let some = |addresses: Vec<EndpointAddress>| (!addresses.is_empty()).then_some(addresses);
        let ports: Vec<EndpointPort> = ports.into_iter().map(port).collect();
        EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(not_ready),
            ports: (!ports.is_empty()).then_some(ports),
        }
    };
    by_ports.into_iter().map(subset).collect()
}

fn port(port: Port) -> EndpointPort {
    EndpointPort {
        name: (!port.name.is_empty()).then_some(port.name),
        port: port.number,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    }
}
