//! Tells the pod network about the cluster's services.
//!
//! Watches services and endpoint slices and hands the network a complete snapshot at each change; what arrives together goes out
//! together. Until both lists are known the network is told nothing, and no pod starts: it would miss services in its
//! environment.

use crate::listing::{Key, Listing};
use coracle_net::{Balancer, Endpoint, EndpointPort, Fabric, Protocol, Service, ServicePort, Snapshot, Topology};
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The label that says whose endpoints a slice has.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The class of load balancers that this network is, besides those of no class.
const BALANCER_CLASS: &str = "coracle.dev/host";

/// The cluster's services as they are known.
#[derive(Default)]
struct World {
    services: Listing<Service>,
    /// The service of each slice, with its endpoints.
    slices: Listing<(Key, Vec<Endpoint>)>,
}

/// Watches until the shutdown; `synced` turns true when the network knows all services.
pub async fn run(client: Client, fabric: Fabric, synced: watch::Sender<bool>, shutdown: CancellationToken) {
    let services = watch_all::<core::Service>(&client);
    let slices = watch_all::<EndpointSlice>(&client);
    let (mut services, mut slices) = (pin!(services), pin!(slices));
    let mut world = World::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = services.next() => world.service_event(event),
            Some(event) = slices.next() => world.slice_event(event),
            else => return,
        }
        // What has already arrived belongs into the same snapshot.
        while let Some(Some(event)) = services.next().now_or_never() {
            world.service_event(event);
        }
        while let Some(Some(event)) = slices.next().now_or_never() {
            world.slice_event(event);
        }
        if world.services.is_complete() && world.slices.is_complete() {
            fabric.update(Arc::new(world.snapshot()));
            synced.send_replace(true);
        }
    }
}

/// What a watch brings.
pub(crate) type Event<K> = Result<watcher::Event<K>, watcher::Error>;

/// Watches all objects of a kind, for ever.
pub(crate) fn watch_all<K>(client: &Client) -> impl Stream<Item = Event<K>> + use<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff()
}

impl World {
    fn service_event(&mut self, event: Event<core::Service>) {
        match event {
            Ok(event) => self.services.take(event, |service| Some(service_of(service))),
            Err(error) => tracing::warn!(%error, "services cannot be watched; no pod starts before they are known"),
        }
    }

    fn slice_event(&mut self, event: Event<EndpointSlice>) {
        let made = |slice: &EndpointSlice| {
            let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
            let service = (slice.metadata.namespace.clone().unwrap_or_default(), service.clone());
            Some((service, endpoints_of(slice)))
        };
        match event {
            Ok(event) => self.slices.take(event, made),
            Err(error) => {
                tracing::warn!(%error, "endpoint slices cannot be watched; no pod starts before they are known")
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut services = self.services.all().clone();
        for (service, endpoints) in self.slices.all().values() {
            if let Some(service) = services.get_mut(service) {
                service.endpoints.extend(endpoints.iter().cloned());
            }
        }
        Snapshot {
            services: services.into_values().collect(),
        }
    }
}

fn service_of(service: &core::Service) -> Service {
    let namespace = service.metadata.namespace.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    let Some(spec) = &service.spec else {
        return Service {
            namespace,
            name,
            ..Service::default()
        };
    };
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let cluster_ips = match &spec.cluster_ips {
        Some(ips) => ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
        None => spec.cluster_ip.iter().filter_map(|ip| ip.parse().ok()).collect(),
    };
    let balancers = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let balancer_ips: Vec<IpAddr> = balancers
        .and_then(|balancer| balancer.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|at| at.ip.as_ref()?.parse().ok())
        .collect();
    let ours = spec.type_.as_deref() == Some("LoadBalancer")
        && spec
            .load_balancer_class
            .as_deref()
            .is_none_or(|class| class == BALANCER_CLASS);
    let affinity = spec.session_affinity.as_deref() == Some("ClientIP");
    let timeout = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client| client.timeout_seconds)
        .and_then(|seconds| u32::try_from(seconds).ok());
    Service {
        namespace,
        name,
        cluster_ips,
        external_ips: spec
            .external_ips
            .iter()
            .flatten()
            .filter_map(|ip| ip.parse().ok())
            // An address of the host's loopback is shown to the host; inside it is each pod's own.
            .chain(balancer_ips.iter().copied().filter(|ip| !ip.is_loopback()))
            .collect(),
        headless,
        external_name: spec
            .external_name
            .clone()
            .filter(|_| spec.type_.as_deref() == Some("ExternalName")),
        publish_not_ready: spec.publish_not_ready_addresses == Some(true),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        balancer: ours.then(|| Balancer {
            source_ranges: spec
                .load_balancer_source_ranges
                .iter()
                .flatten()
                .filter_map(|range| range.trim().parse().ok())
                .collect(),
            shown: balancer_ips,
        }),
        // Three hours is the API's default.
        affinity_timeout_seconds: affinity.then(|| timeout.unwrap_or(10_800)),
        ports: spec.ports.iter().flatten().filter_map(service_port).collect(),
        endpoints: Vec::new(),
    }
}

fn service_port(port: &core::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port.protocol.as_deref())?,
        port: u16::try_from(port.port).ok()?,
        node_port: port
            .node_port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0),
        app_protocol: port.app_protocol.clone(),
    })
}

/// SCTP does not exist in this network.
pub(crate) fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some(_) => None,
    }
}

fn topology(endpoint: &k8s_openapi::api::discovery::v1::Endpoint) -> Topology {
    let hints = endpoint.hints.as_ref();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref()).into_iter().flatten();
    let zones = hints.and_then(|hints| hints.for_zones.as_ref()).into_iter().flatten();
    Topology {
        zone: endpoint.zone.clone(),
        for_nodes: nodes.map(|node| node.name.clone()).collect(),
        for_zones: zones.map(|zone| zone.name.clone()).collect(),
    }
}

fn endpoints_of(slice: &EndpointSlice) -> Vec<Endpoint> {
    let ports: Vec<EndpointPort> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone().unwrap_or_default(),
                protocol: protocol(port.protocol.as_deref())?,
                port: u16::try_from(port.port?).ok()?,
            })
        })
        .collect();
    let of = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        Some(Endpoint {
            address: endpoint.addresses.first()?.parse().ok()?,
            ready,
            serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(ready),
            node: endpoint.node_name.clone(),
            topology: topology(endpoint),
            hostname: endpoint.hostname.clone(),
            ports: ports.clone(),
        })
    };
    slice.endpoints.iter().flatten().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(value: serde_json::Value) -> watcher::Event<core::Service> {
        watcher::Event::Apply(serde_json::from_value(value).unwrap())
    }

    fn slice(name: &str, endpoints: serde_json::Value) -> watcher::Event<EndpointSlice> {
        let value = json!({
            "metadata": {"name": name, "namespace": "ns", "labels": {SERVICE_NAME: "web"}},
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080}, {"name": "odd", "port": 1, "protocol": "SCTP"}],
        });
        watcher::Event::Apply(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn slices_join_their_service() {
        let mut world = World::default();
        world.slice_event(Ok(slice("a", json!([{"addresses": ["10.0.0.1"]}]))));
        world.slice_event(Ok(slice(
            "b",
            json!([{"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true}}]),
        )));
        assert!(world.snapshot().services.is_empty());
        world.service_event(Ok(service(json!({
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"type": "NodePort", "clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}
        }))));
        let snapshot = world.snapshot();
        let [web] = snapshot.services.as_slice() else {
            panic!("{snapshot:?}")
        };
        assert_eq!(web.ports[0].node_port, Some(30080));
        assert_eq!(web.cluster_ips, ["10.96.0.7".parse::<std::net::IpAddr>().unwrap()]);
        let mut endpoints: Vec<_> = web
            .endpoints
            .iter()
            .map(|e| (e.address.to_string(), e.ready, e.serving, e.ports.len()))
            .collect();
        endpoints.sort();
        assert_eq!(
            endpoints,
            [("10.0.0.1".into(), true, true, 1), ("10.0.0.2".into(), false, true, 1)]
        );
    }

    #[test]
    fn balancers_of_this_network_and_where_traffic_stays() {
        let of = |class: serde_json::Value| {
            let service = json!({
                "metadata": {"name": "web", "namespace": "ns"},
                "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.7", "externalIPs": ["203.0.113.1"], "loadBalancerClass": class,
                    "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Cluster", "loadBalancerSourceRanges": ["10.0.0.0/8"]},
                "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}, {"ip": "203.0.113.2"}]}}
            });
            service_of(&serde_json::from_value(service).unwrap())
        };
        let own = of(json!(null));
        assert!(own.internal_local && !own.external_local);
        let external: Vec<String> = own.external_ips.iter().map(ToString::to_string).collect();
        assert_eq!(external, ["203.0.113.1", "203.0.113.2"]);
        let balancer = own.balancer.unwrap();
        assert_eq!((balancer.shown.len(), balancer.source_ranges.len()), (2, 1));
        assert!(of(json!(BALANCER_CLASS)).balancer.is_some());
        assert!(of(json!("example.com/other")).balancer.is_none());
    }

    #[test]
    fn headless_and_external_names() {
        let headless = service_of(
            &serde_json::from_value(json!({"metadata": {"name": "h", "namespace": "ns"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}))
                .unwrap(),
        );
        assert!(headless.headless && headless.cluster_ips.is_empty());
        let external = service_of(
            &serde_json::from_value(json!({"metadata": {"name": "e", "namespace": "ns"}, "spec": {"type": "ExternalName", "externalName": "x.y"}}))
                .unwrap(),
        );
        assert_eq!(external.external_name.as_deref(), Some("x.y"));
    }
}
