//! Which pods stand behind a service, and on which ports: what EndpointSlices and Endpoints are both made of.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{key::Key, pods, resource::PODS, store::Change, world::World};

/// The label of nodes that names their zone.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// One port, resolved for one pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The service port's name; empty if it has none.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The number in the pod.
    pub number: i32,
    /// The application protocol, if declared.
    pub app_protocol: Option<String>,
}

/// One pod behind a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// The pod's address.
    pub address: String,
    /// Whether clients should be sent to it.
    pub ready: bool,
    /// Whether it answers, also while it ends.
    pub serving: bool,
    /// Whether it is ending.
    pub terminating: bool,
    /// The node it runs on.
    pub node: Option<String>,
    /// The zone of that node.
    pub zone: Option<String>,
    /// Its own DNS name under the service, if it has one.
    pub hostname: Option<String>,
    /// The pod.
    pub pod: ObjectReference,
    /// The service's ports in this pod, sorted.
    pub ports: Vec<Port>,
}

/// Whether the service is one that pods are looked up for.
#[must_use]
pub fn has_backends(service: &Service) -> bool {
    let Some(spec) = service.spec.as_ref() else {
        return false;
    };
    spec.type_.as_deref() != Some("ExternalName") && spec.selector.as_ref().is_some_and(|s| !s.is_empty())
}

/// Whether the service has no address of its own.
#[must_use]
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

/// The pods behind the service that have an address of the family (`IPv4`, `IPv6`), by name.
#[must_use]
pub fn backends(service: &Service, family: &str, world: &World) -> Vec<Backend> {
    let Some(spec) = service.spec.as_ref() else {
        return Vec::new();
    };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let pods = world.pods.labelled(namespace, spec.selector.iter().flatten());
    pods.iter()
        .filter(|pod| !pods::is_finished(pod))
        .filter_map(|pod| backend(service, pod, family, world))
        .collect()
}

/// The zone of a node, which its label tells.
#[must_use]
pub fn zone(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref()?;
    labels
        .get(ZONE_LABEL)
        .map(String::as_str)
        .filter(|zone| !zone.is_empty())
}

fn backend(service: &Service, pod: &Pod, family: &str, world: &World) -> Option<Backend> {
    let spec = service.spec.as_ref()?;
    let address = address(pod, family)?;
    let publish = spec.publish_not_ready_addresses == Some(true);
    let (serving, terminating) = (pods::is_ready(pod), pods::is_terminating(pod));
    let mut ports: Vec<Port> = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| resolve(port, pod))
        .collect();
    ports.sort();
    let pod_spec = pod.spec.as_ref();
    let named = pod_spec.and_then(|s| s.subdomain.as_deref()) == service.metadata.name.as_deref();
    Some(Backend {
        address,
        ready: publish || (serving && !terminating),
        serving: publish || serving,
        terminating,
        node: pods::node(pod).map(str::to_owned),
        zone: pods::node(pod)
            .and_then(|node| world.nodes.get(&Key::new("", node)))
            .and_then(|node| zone(&node).map(str::to_owned)),
        hostname: pod_spec
            .and_then(|s| s.hostname.clone())
            .filter(|name| named && !name.is_empty()),
        pod: ObjectReference {
            kind: Some(PODS.kind.to_string()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        },
        ports,
    })
}

fn address(pod: &Pod, family: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let fits = |ip: &&str| !ip.is_empty() && ip.contains(':') == (family == "IPv6");
    listed.chain(status.pod_ip.as_deref()).find(fits).map(str::to_owned)
}

fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) if name.is_empty() => port.port,
        Some(IntOrString::String(name)) => named_port(pod, name, &protocol)?,
    };
    let name = port.name.clone().unwrap_or_default();
    Some(Port {
        name,
        protocol,
        number,
        app_protocol: port.app_protocol.clone(),
    })
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    let same = |p: &&k8s_openapi::api::core::v1::ContainerPort| {
        p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    ports.into_iter().find(same).map(|p| p.container_port)
}

/// The services that a changed pod stands behind, or stood.
pub fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && !matters(old, new)
    {
        return;
    }
    let Some(namespace) = change.latest().and_then(|pod| pod.metadata.namespace.as_deref()) else {
        return;
    };
    for service in world
        .services
        .in_namespace(namespace)
        .iter()
        .filter(|s| has_backends(s))
    {
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
        let selects = |pod: &Arc<Pod>| {
            let labels = pod.metadata.labels.as_ref();
            selector
                .iter()
                .flat_map(|s| s.iter())
                .all(|(name, value)| labels.and_then(|l| l.get(name)) == Some(value))
        };
        if change.both().any(selects) {
            keys.push(Key::of(&service.metadata));
        }
    }
}

/// Whether the change can be seen behind a service.
fn matters(old: &Pod, new: &Pod) -> bool {
    let view = |pod: &Pod| {
        let ips = pod.status.as_ref().map(|s| (s.pod_ip.clone(), s.pod_ips.clone()));
        let life = (pods::is_ready(pod), pods::is_finished(pod), pods::is_terminating(pod));
        (
            ips,
            life,
            pods::node(pod).map(str::to_owned),
            pod.metadata.labels.clone(),
        )
    };
    view(old) != view(new)
}
