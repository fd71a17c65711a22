//! EndpointSlices: for each service with a selector, the addresses and ports of the pods behind it.
//!
//! Wants to be true: each pod behind the service is in exactly one slice of its address family, with its present
//! conditions; pods with the same ports share slices of at most a hundred. It must never touch a slice that another
//! manager made.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone},
};
use serde_json::json;

use crate::{
    driver::{Controller, Turn},
    key::Key,
    merge,
    plan::{Action, Plan, Target, controller_of},
    resource::{ENDPOINT_SLICES, SERVICES},
    service::{self, Backend, Port},
    store::Change,
    world::{Watch, World},
};

/// The controller. Its keys are services.
pub static CONTROLLER: Controller = Controller {
    name: "endpointslice-controller",
    resource: SERVICES,
    watches: &[
        Watch::Service(itself),
        Watch::Pod(service::of_pod),
        Watch::EndpointSlice(of_slice),
        Watch::Node(of_node),
    ],
    reconcile,
};

/// Endpoints a slice: a change of one pod sends its whole slice to all watchers. The number is Kubernetes' own.
const SLICE_LIMIT: usize = 100;
/// Names the service of a slice.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Names who makes a slice.
pub const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Tells clients that the service has no address of its own.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

fn itself(change: &Change<Service>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|service| Key::of(&service.metadata)));
}

/// Endpoints tell the zone of their node.
fn of_node(change: &Change<Node>, world: &World, keys: &mut Vec<Key>) {
    let zone = |node: &Option<Arc<Node>>| node.as_ref().and_then(|node| service::zone(node).map(str::to_owned));
    if zone(&change.old) != zone(&change.new) {
        keys.extend(world.services.all().iter().map(|service| Key::of(&service.metadata)));
    }
}

fn of_slice(change: &Change<EndpointSlice>, _: &World, keys: &mut Vec<Key>) {
    let Some(meta) = change.latest().map(|slice| &slice.metadata) else {
        return;
    };
    let Some(labels) = meta.labels.as_ref() else { return };
    if labels.get(MANAGER_LABEL).is_some_and(|manager| manager == MANAGER)
        && let Some(name) = labels.get(SERVICE_LABEL)
    {
        keys.push(Key::new(meta.namespace.as_deref().unwrap_or_default(), name));
    }
}

/// Decides what to do about one service.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(service) = world
        .services
        .get(key)
        .filter(|s| s.metadata.deletion_timestamp.is_none())
    else {
        return plan;
    };
    let own = [
        (SERVICE_LABEL.to_owned(), key.name.to_string()),
        (MANAGER_LABEL.to_owned(), MANAGER.to_owned()),
    ];
    let slices = world
        .endpoint_slices
        .labelled(&key.namespace, own.iter().map(|(name, value)| (name, value)));
    let (mut live, _): (Vec<_>, Vec<_>) = slices
        .into_iter()
        .partition(|s| s.metadata.deletion_timestamp.is_none());
    if !service::has_backends(&service) {
        // Without a selector the slices are somebody else's business; those made when there was one go.
        plan.batch(
            live.iter()
                .map(|slice| Action::delete(&ENDPOINT_SLICES, &slice.metadata))
                .collect(),
        );
        return plan;
    }
    for family in families(&service) {
        let (ours, others) = live.into_iter().partition(|slice| slice.address_type == family);
        live = others;
        arrange(&service, family, ours, world, &mut plan);
    }
    plan.batch(
        live.iter()
            .map(|slice| Action::delete(&ENDPOINT_SLICES, &slice.metadata))
            .collect(),
    );
    plan
}

fn families(service: &Service) -> Vec<&str> {
    let listed = service
        .spec
        .as_ref()
        .and_then(|s| s.ip_families.as_deref())
        .unwrap_or_default();
    if listed.is_empty() {
        vec!["IPv4"]
    } else {
        listed.iter().map(String::as_str).collect()
    }
}

/// A slice as it shall be: the one to fill, if there is one, and its endpoints.
struct Draft {
    slice: Option<Arc<EndpointSlice>>,
    endpoints: Vec<Endpoint>,
}

/// Fills the slices of one family so that as few as possible change.
fn arrange(service: &Service, family: &str, slices: Vec<Arc<EndpointSlice>>, world: &World, plan: &mut Plan) {
    let mut by_ports: BTreeMap<Vec<Port>, BTreeMap<String, Backend>> = BTreeMap::new();
    for backend in service::backends(service, family, world) {
        let uid = backend.pod.uid.clone().unwrap_or_default();
        by_ports.entry(backend.ports.clone()).or_default().insert(uid, backend);
    }
    if by_ports.is_empty() {
        // One empty slice says that the service is known and nobody is behind it.
        by_ports.insert(Vec::new(), BTreeMap::new());
    }
    let mut free = slices;
    let mut wanted = Vec::new();
    for (ports, backends) in by_ports {
        let (same, others) = free.into_iter().partition(|slice| ports_of(slice) == ports);
        free = others;
        let drafts = fill(same, backends, Nearness::of(service));
        // Of several slices the empty ones go; a lone one stays.
        let keep_empty = usize::from(drafts.iter().all(|draft| draft.endpoints.is_empty()));
        let (empty, filled): (Vec<_>, Vec<_>) = drafts.into_iter().partition(|draft| draft.endpoints.is_empty());
        free.extend(empty.iter().skip(keep_empty).filter_map(|draft| draft.slice.clone()));
        let kept = filled.into_iter().chain(empty.into_iter().take(keep_empty));
        wanted.extend(kept.map(|draft| (ports.clone(), draft)));
    }
    for (ports, mut draft) in wanted {
        // A slice that nobody needs any more is filled anew before another is made.
        draft.slice = draft.slice.or_else(|| free.pop());
        write(service, family, &ports, draft, plan);
    }
    plan.batch(
        free.iter()
            .map(|slice| Action::delete(&ENDPOINT_SLICES, &slice.metadata))
            .collect(),
    );
}

/// Keeps each pod in the slice where it is, puts new ones where there is room, and empties no more than it must.
fn fill(slices: Vec<Arc<EndpointSlice>>, mut backends: BTreeMap<String, Backend>, near: Nearness) -> Vec<Draft> {
    let endpoint = |backend| endpoint(backend, near);
    let mut drafts = Vec::new();
    for slice in slices {
        let uids = slice
            .endpoints
            .iter()
            .flatten()
            .filter_map(|e| e.target_ref.as_ref()?.uid.clone());
        let endpoints = uids
            .filter_map(|uid| backends.remove(&uid))
            .map(endpoint)
            .take(SLICE_LIMIT)
            .collect();
        drafts.push(Draft {
            slice: Some(slice),
            endpoints,
        });
    }
    let mut rest: Vec<Endpoint> = backends.into_values().map(endpoint).collect();
    for draft in &mut drafts {
        let room = SLICE_LIMIT.saturating_sub(draft.endpoints.len()).min(rest.len());
        draft.endpoints.extend(rest.drain(..room));
    }
    while !rest.is_empty() {
        let room = SLICE_LIMIT.min(rest.len());
        drafts.push(Draft {
            slice: None,
            endpoints: rest.drain(..room).collect(),
        });
    }
    if drafts.is_empty() {
        drafts.push(Draft {
            slice: None,
            endpoints: Vec::new(),
        });
    }
    drafts
}

/// How far clients are led if it can be helped (`trafficDistribution`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nearness {
    Anywhere,
    SameZone,
    SameNode,
}

impl Nearness {
    fn of(service: &Service) -> Self {
        let spec = service.spec.as_ref();
        match spec.and_then(|spec| spec.traffic_distribution.as_deref()) {
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Anywhere,
        }
    }

    /// Whom an endpoint is for above others: only who is ready is for anybody.
    fn hints(self, backend: &Backend) -> Option<EndpointHints> {
        let zones = backend.zone.iter().map(|name| ForZone { name: name.clone() });
        let nodes = backend.node.iter().map(|name| ForNode { name: name.clone() });
        let listed = |wanted: bool| wanted && backend.ready;
        let hints = EndpointHints {
            for_zones: listed(self != Self::Anywhere)
                .then(|| zones.collect())
                .filter(|zones: &Vec<_>| !zones.is_empty()),
            for_nodes: listed(self == Self::SameNode)
                .then(|| nodes.collect())
                .filter(|nodes: &Vec<_>| !nodes.is_empty()),
        };
        (hints != EndpointHints::default()).then_some(hints)
    }
}

fn endpoint(backend: Backend, near: Nearness) -> Endpoint {
    Endpoint {
        hints: near.hints(&backend),
        zone: backend.zone,
        addresses: vec![backend.address],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname,
        node_name: backend.node,
        target_ref: Some(backend.pod),
        ..Endpoint::default()
    }
}

fn write(service: &Service, family: &str, ports: &[Port], draft: Draft, plan: &mut Plan) {
    let labels = labels(service);
    let endpoints = merge::value(&draft.endpoints);
    let written_ports: Vec<EndpointPort> = ports.iter().map(port).collect();
    match draft.slice {
        Some(slice) => {
            let same = slice.endpoints.as_deref().unwrap_or_default() == draft.endpoints && ports_of(&slice) == ports;
            let has = slice.metadata.labels.as_ref();
            if same
                && labels
                    .iter()
                    .all(|(name, value)| has.and_then(|l| l.get(*name)) == Some(value))
            {
                return;
            }
            let patch = json!({"metadata": {
                "uid": slice.metadata.uid, "resourceVersion": slice.metadata.resource_version, "labels": labels,
            }, "endpoints": endpoints, "ports": written_ports});
            plan.change(Action::merge(Target::of(&ENDPOINT_SLICES, &slice.metadata), patch));
        }
        None => {
            let name = service.metadata.name.as_deref().unwrap_or_default();
            let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
            let body = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "generateName": format!("{name}-"),
                    "namespace": namespace,
                    "labels": labels,
                    "ownerReferences": [controller_of(&SERVICES, &service.metadata)],
                },
                "addressType": family,
                "endpoints": endpoints,
                "ports": written_ports,
            });
            plan.change(Action::create(&ENDPOINT_SLICES, namespace, body));
        }
    }
}

fn labels(service: &Service) -> BTreeMap<&str, String> {
    let own = service
        .metadata
        .labels
        .iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.clone()));
    let mut labels: BTreeMap<&str, String> = own.collect();
    labels.insert(SERVICE_LABEL, service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGER_LABEL, MANAGER.to_owned());
    if service::is_headless(service) {
        labels.insert(HEADLESS_LABEL, String::new());
    }
    labels
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(port.protocol.clone()),
        port: Some(port.number),
        app_protocol: port.app_protocol.clone(),
    }
}

fn ports_of(slice: &EndpointSlice) -> Vec<Port> {
    let mut ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .map(|port| Port {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            number: port.port.unwrap_or(0),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    ports.sort();
    ports
}

#[cfg(test)]
mod tests;
