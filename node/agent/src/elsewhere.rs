//! Tells the pod network about the nodes of other processes and their pods.
//!
//! A node that can be linked says in an annotation as who it proves itself and where it listens. Pods are watched only once
//! there is such a node: a cluster in one process pays nothing. Where two nodes claim the same addresses the older one has
//! them, so that nobody takes another's by saying so.

use crate::listing::Listing;
use crate::policies;
use crate::proxy::{Event, watch_all};
use coracle_net::{Cidr, Elsewhere, Fabric, HostPort, Protocol, RemoteNode, RemotePod};
use futures::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The annotation that says as who a node proves itself, and where: `NAME@ADDRESS:PORT`.
pub const LINK_ANNOTATION: &str = "coracle.dev/link";

/// A node as it is known here.
#[derive(Debug, Clone)]
struct Known {
    node: RemoteNode,
    name: String,
    since: Timestamp,
}

/// A pod as it is known here.
#[derive(Debug, Clone)]
struct Placed {
    ips: Vec<IpAddr>,
    pod: Arc<RemotePod>,
    node: String,
    since: Timestamp,
    host_ports: Vec<HostPort>,
}

#[derive(Default)]
struct World {
    own: HashSet<String>,
    nodes: Listing<Known>,
    pods: Listing<Placed>,
}

type Pods = Pin<Box<dyn Stream<Item = Event<Pod>> + Send>>;

/// Watches until the shutdown. The nodes in `own` are those of this process.
pub async fn follow(client: Client, fabric: Fabric, own: HashSet<String>, shutdown: CancellationToken) {
    let mut nodes = Box::pin(watch_all::<Node>(&client));
    let mut pods: Option<Pods> = None;
    let mut world = World {
        own,
        ..World::default()
    };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = nodes.next() => world.node_event(event),
            Some(event) = next(&mut pods) => world.pod_event(event),
            else => return,
        }
        // What has already arrived is told together.
        while let Some(Some(event)) = nodes.next().now_or_never() {
            world.node_event(event);
        }
        while let Some(Some(event)) = next(&mut pods).now_or_never() {
            world.pod_event(event);
        }
        if pods.is_none() && !world.nodes.all().is_empty() {
            pods = Some(Box::pin(watch_all::<Pod>(&client)));
        }
        if world.nodes.is_complete() {
            fabric.update_elsewhere(world.told());
        }
    }
}

async fn next(pods: &mut Option<Pods>) -> Option<Event<Pod>> {
    match pods {
        Some(pods) => pods.next().await,
        None => None,
    }
}

impl World {
    fn node_event(&mut self, event: Event<Node>) {
        let own = &self.own;
        match event {
            Ok(event) => self.nodes.take(event, |node| known(node, own)),
            Err(error) => tracing::warn!(%error, "nodes cannot be watched; pods of others may not be found"),
        }
    }

    fn pod_event(&mut self, event: Event<Pod>) {
        let own = &self.own;
        match event {
            Ok(event) => self.pods.take(event, |pod| placed(pod, own)),
            Err(error) => tracing::warn!(%error, "pods of other nodes cannot be watched; policies may not know them"),
        }
    }

    fn told(&self) -> Elsewhere {
        let host_ports = host_ports(&self.nodes.all().values().collect::<Vec<_>>(), self.pods.all().values());
        let placed = self.pods.all().values();
        let pods: HashMap<_, _> = placed
            .flat_map(|placed| placed.ips.iter().map(|ip| (*ip, placed.pod.clone())))
            .collect();
        Elsewhere {
            nodes: apart(self.nodes.all().values()),
            pods,
            host_ports,
        }
    }
}

/// The nodes with the networks that are theirs alone.
fn apart<'a>(known: impl Iterator<Item = &'a Known>) -> Vec<Arc<RemoteNode>> {
    let mut known: Vec<&Known> = known.collect();
    known.sort_by(|a, b| (a.since, &a.name).cmp(&(b.since, &b.name)));
    let mut taken: Vec<Cidr> = Vec::new();
    let mut nodes = Vec::new();
    for known in known {
        let mut node = known.node.clone();
        node.networks.retain(|network| {
            let free = !taken.iter().any(|other| other.overlaps(network));
            if !free {
                tracing::warn!(node = %known.name, %network, "the node claims addresses of an older one");
            }
            free
        });
        taken.extend(&node.networks);
        nodes.push(Arc::new(node));
    }
    nodes
}

/// Where the host ports of pods lead, each at the address of the pod's own node. An address that two nodes claim is that of the
/// older, and of the nodes of its process; of two pods with one port the older has it.
fn host_ports<'a>(
    nodes: &[&Known],
    pods: impl Iterator<Item = &'a Placed>,
) -> HashMap<(SocketAddr, Protocol), SocketAddr> {
    let by_age = |a: &&&Known, b: &&&Known| (a.since, &a.name).cmp(&(b.since, &b.name));
    let owner = |ip: IpAddr| {
        let claim = nodes.iter().filter(|known| known.node.address.ip() == ip);
        claim.min_by(by_age).map(|known| &known.node.name)
    };
    let mut pods: Vec<&Placed> = pods.filter(|placed| !placed.host_ports.is_empty()).collect();
    pods.sort_by_key(|placed| placed.since);
    let mut led = HashMap::new();
    for placed in pods {
        let Some(known) = nodes.iter().find(|known| known.name == placed.node) else {
            continue;
        };
        let (at, to) = (known.node.address.ip(), placed.ips.first());
        let Some(to) = to.filter(|_| !at.is_loopback() && owner(at) == Some(&known.node.name)) else {
            continue;
        };
        for port in placed
            .host_ports
            .iter()
            .filter(|port| port.ip.is_none_or(|ip| ip == at))
        {
            let place = (SocketAddr::new(at, port.port), port.protocol);
            led.entry(place).or_insert(SocketAddr::new(*to, port.target_port));
        }
    }
    led
}

/// What a node says of itself; nothing where it cannot be linked or is of this process.
fn known(node: &Node, own: &HashSet<String>) -> Option<Known> {
    let name = node.metadata.name.clone().filter(|name| !own.contains(name))?;
    let link = node.metadata.annotations.as_ref()?.get(LINK_ANNOTATION)?;
    let (proves, address) = link.split_once('@')?;
    let address: SocketAddr = address.parse().ok()?;
    let spec = node.spec.as_ref()?;
    let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    let mut networks: Vec<Cidr> = Vec::new();
    for network in all.filter_map(|network| network.parse().ok()) {
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    Some(Known {
        node: RemoteNode {
            name: proves.to_owned(),
            address,
            networks,
        },
        name,
        since: node
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0)
            .unwrap_or_default(),
    })
}

/// A pod of another node that has an address of its own.
fn placed(pod: &Pod, own: &HashSet<String>) -> Option<Placed> {
    let spec = pod.spec.as_ref()?;
    let node = spec.node_name.as_ref()?;
    let status = pod.status.as_ref()?;
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if own.contains(node) || over || spec.host_network == Some(true) {
        return None;
    }
    let ips = status.pod_ips.iter().flatten().filter_map(|at| at.ip.parse().ok());
    Some(Placed {
        ips: ips.collect(),
        pod: Arc::new(RemotePod {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            facts: policies::facts(pod),
        }),
        node: node.clone(),
        since: pod
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0)
            .unwrap_or_default(),
        host_ports: crate::host_ports::of(pod),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, at: &str, link: &str, networks: &[&str]) -> Node {
        let object = json!({
            "metadata": {"name": name, "creationTimestamp": at, "annotations": {LINK_ANNOTATION: link}},
            "spec": {"podCIDR": networks[0], "podCIDRs": networks},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_node_says_where_it_is() {
        let own = HashSet::from(["mine".to_owned()]);
        let told = known(
            &node("a", "2026-01-01T00:00:00Z", "a@10.0.0.1:10250", &["10.1.0.0/24"]),
            &own,
        )
        .unwrap();
        assert_eq!((told.node.name.as_str(), told.node.networks.len()), ("a", 1));
        assert_eq!(told.node.address, "10.0.0.1:10250".parse().unwrap());
        for (name, link) in [("mine", "mine@10.0.0.1:1"), ("b", "b"), ("b", "b@host:1"), ("b", "")] {
            assert!(
                known(&node(name, "2026-01-01T00:00:00Z", link, &["10.1.0.0/24"]), &own).is_none(),
                "{link}"
            );
        }
    }

    #[test]
    fn the_older_of_two_nodes_has_the_addresses() {
        let own = HashSet::new();
        let of =
            |name: &str, at: &str, network: &str| known(&node(name, at, "x@10.0.0.1:1", &[network]), &own).unwrap();
        let young = of("a", "2026-01-02T00:00:00Z", "10.0.0.0/8");
        let old = of("b", "2026-01-01T00:00:00Z", "10.1.2.0/24");
        let third = of("c", "2026-01-03T00:00:00Z", "10.1.3.0/24");
        let nodes = apart([&young, &old, &third].into_iter());
        let counts: Vec<usize> = nodes.iter().map(|node| node.networks.len()).collect();
        assert_eq!(counts, [1, 0, 1]);
    }

    #[test]
    fn pods_elsewhere_are_known_by_their_addresses() {
        let pod = |node: &str, phase: &str| {
            let object = json!({
                "metadata": {"name": "p", "namespace": "n", "labels": {"app": "web"}},
                "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80}]}]},
                "status": {"phase": phase, "podIPs": [{"ip": "10.1.0.2"}]},
            });
            serde_json::from_value::<Pod>(object).unwrap()
        };
        let own = HashSet::from(["mine".to_owned()]);
        let there = placed(&pod("other", "Running"), &own).unwrap();
        assert_eq!(there.ips, ["10.1.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!((there.pod.namespace.as_str(), there.pod.facts.ports.len()), ("n", 1));
        assert!(placed(&pod("mine", "Running"), &own).is_none());
        assert!(placed(&pod("other", "Succeeded"), &own).is_none());
    }

    #[test]
    fn host_ports_lead_from_the_address_of_the_pods_own_node() {
        let own = HashSet::new();
        let of = |name: &str, day: u8, link: &str, network: &str| {
            known(
                &node(name, &format!("2026-01-0{day}T00:00:00Z"), link, &[network]),
                &own,
            )
            .unwrap()
        };
        let old = of("a", 1, "a@192.168.7.1:1", "10.1.0.0/24");
        let liar = of("b", 2, "b@192.168.7.1:1", "10.2.0.0/24");
        let same_process = of("c", 3, "a@192.168.7.1:1", "10.3.0.0/24");
        let pod = |node: &str, day: u8, ip: &str, port: serde_json::Value| {
            let object = json!({
                "metadata": {"name": "p", "namespace": "n", "creationTimestamp": format!("2026-01-0{day}T00:00:00Z")},
                "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [port]}]},
                "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
            });
            placed(&serde_json::from_value(object).unwrap(), &own).unwrap()
        };
        let web = |port: u16| json!({"containerPort": 80, "hostPort": port});
        let elsewhere = json!({"containerPort": 80, "hostPort": 4, "hostIP": "127.0.0.1"});
        let pods = [
            pod("a", 2, "10.1.0.3", web(1)),
            pod("a", 1, "10.1.0.2", web(1)),
            pod("b", 1, "10.2.0.2", web(2)),
            pod("c", 1, "10.3.0.2", web(3)),
            pod("a", 1, "10.1.0.4", elsewhere),
            pod("gone", 1, "10.4.0.2", web(5)),
        ];
        let led = host_ports(&[&old, &liar, &same_process], pods.iter());
        let at = |port: u16| {
            let place = (SocketAddr::from(([192, 168, 7, 1], port)), Protocol::Tcp);
            led.get(&place).map(SocketAddr::to_string)
        };
        assert_eq!(at(1).as_deref(), Some("10.1.0.2:80"), "the older pod");
        assert_eq!(at(2), None, "a younger node claims the address");
        assert_eq!(at(3).as_deref(), Some("10.3.0.2:80"));
        assert_eq!((at(4), at(5), led.len()), (None, None, 2));
    }
}
