//! EndpointSlices of Endpoints that users write: who reads only slices finds those addresses too.
//!
//! Wants to be true: the Endpoints of a service without a selector are mirrored, ready and unready addresses alike, in a
//! slice for each of its sets of ports and each address family, owned by the Endpoints. It must never mirror what is
//! marked to be left alone, what an election uses as a lock, or Endpoints that a controller fills.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{EndpointAddress, EndpointPort, Endpoints, Service},
    discovery::v1::{self as discovery, Endpoint, EndpointConditions, EndpointSlice},
};
use serde_json::json;

use crate::{
    driver::{Controller, Turn},
    endpointslice::{MANAGER_LABEL, SERVICE_LABEL},
    key::Key,
    merge,
    plan::{Action, Plan, Target, controller_of},
    resource::{ENDPOINT_SLICES, ENDPOINTS},
    service,
    store::Change,
    world::{Watch, World},
};

/// The controller. Its keys are Endpoints, which are named like their services.
pub static CONTROLLER: Controller = Controller {
    name: "endpointslice-mirroring-controller",
    resource: ENDPOINTS,
    watches: &[
        Watch::Endpoints(itself),
        Watch::Service(of_service),
        Watch::EndpointSlice(of_slice),
    ],
    reconcile,
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of a set of ports, as in Kubernetes; more are left out.
const ADDRESS_LIMIT: usize = 1000;

fn itself(change: &Change<Endpoints>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.latest().map(|endpoints| Key::of(&endpoints.metadata)));
}

fn of_service(change: &Change<Service>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.latest().map(|service| Key::of(&service.metadata)));
}

fn of_slice(change: &Change<EndpointSlice>, _: &World, keys: &mut Vec<Key>) {
    let Some(meta) = change.latest().map(|slice| &slice.metadata) else {
        return;
    };
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name));
    if let (Some(MANAGER), Some(service)) = (label(MANAGER_LABEL).map(String::as_str), label(SERVICE_LABEL)) {
        keys.push(Key::new(meta.namespace.as_deref().unwrap_or_default(), service));
    }
}

/// Decides what to do about the Endpoints of one name.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let own = [
        (SERVICE_LABEL.to_owned(), key.name.to_string()),
        (MANAGER_LABEL.to_owned(), MANAGER.to_owned()),
    ];
    let mut present = world
        .endpoint_slices
        .labelled(&key.namespace, own.iter().map(|(name, value)| (name, value)));
    present.retain(|slice| slice.metadata.deletion_timestamp.is_none());
    let endpoints = world.endpoints.get(key).filter(|endpoints| is_mirrored(endpoints));
    let service = world.services.get(key).filter(|service| {
        let ending = service.metadata.deletion_timestamp.is_some();
        let spec = service.spec.as_ref();
        !ending && !service::has_backends(service) && spec.is_none_or(|s| s.type_.as_deref() != Some("ExternalName"))
    });
    if let (Some(endpoints), Some(_)) = (endpoints, service) {
        for draft in drafts(&endpoints) {
            let found = present.iter().position(|slice| draft.is_in(slice));
            let slice = found.map(|index| present.swap_remove(index));
            plan.changes
                .extend(draft.write(&endpoints, slice).map(crate::plan::Step::One));
        }
    }
    let gone = present
        .iter()
        .map(|slice| Action::delete(&ENDPOINT_SLICES, &slice.metadata));
    plan.batch(gone.collect());
    plan
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skipped = meta
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SKIP_LABEL))
        .is_some_and(|skip| skip == "true");
    let lock = meta
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(LEADER));
    meta.deletion_timestamp.is_none() && !skipped && !lock
}

/// A slice as it shall be.
struct Draft {
    family: &'static str,
    ports: Vec<discovery::EndpointPort>,
    endpoints: Vec<Endpoint>,
}

/// One slice for each family and set of ports that has addresses.
fn drafts(endpoints: &Endpoints) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<_> = subset.ports.iter().flatten().map(port).collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|address| (address, false));
        for (address, ready) in ready.chain(unready).take(ADDRESS_LIMIT) {
            let family = match address.ip.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => "IPv4",
                Ok(IpAddr::V6(_)) => "IPv6",
                Err(_) => continue,
            };
            let endpoint = endpoint(address, ready);
            match drafts
                .iter_mut()
                .find(|draft| draft.family == family && draft.ports == ports)
            {
                Some(draft) => draft.endpoints.push(endpoint),
                None => drafts.push(Draft {
                    family,
                    ports: ports.clone(),
                    endpoints: vec![endpoint],
                }),
            }
        }
    }
    drafts
}

fn port(port: &EndpointPort) -> discovery::EndpointPort {
    discovery::EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        port: Some(port.port),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

impl Draft {
    fn is_in(&self, slice: &EndpointSlice) -> bool {
        slice.address_type == self.family && slice.ports.as_deref().unwrap_or_default() == self.ports
    }

    /// The write that makes it so; `slice` is the one that has these ports, if there is one.
    fn write(self, endpoints: &Endpoints, slice: Option<Arc<EndpointSlice>>) -> Option<Action> {
        let meta = &endpoints.metadata;
        let (name, namespace) = (
            meta.name.clone().unwrap_or_default(),
            meta.namespace.clone().unwrap_or_default(),
        );
        let mut labels: BTreeMap<String, String> = meta.labels.clone().unwrap_or_default();
        labels.insert(SERVICE_LABEL.to_owned(), name.clone());
        labels.insert(MANAGER_LABEL.to_owned(), MANAGER.to_owned());
        let Some(slice) = slice else {
            let body = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "generateName": format!("{name}-"), "namespace": namespace, "labels": labels,
                    "ownerReferences": [controller_of(&ENDPOINTS, meta)],
                },
                "addressType": self.family,
                "endpoints": merge::value(&self.endpoints),
                "ports": self.ports,
            });
            return Some(Action::create(&ENDPOINT_SLICES, &namespace, body));
        };
        let same = slice.endpoints.as_deref().unwrap_or_default() == self.endpoints;
        if same && slice.metadata.labels.as_ref() == Some(&labels) {
            return None;
        }
        let patch = json!({"metadata": {
            "uid": slice.metadata.uid, "resourceVersion": slice.metadata.resource_version, "labels": labels,
        }, "endpoints": merge::value(&self.endpoints)});
        Some(Action::merge(Target::of(&ENDPOINT_SLICES, &slice.metadata), patch))
    }
}
