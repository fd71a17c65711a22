//! Pod networks of nodes: a node that comes without one gets a piece of the cluster's.
//!
//! Wants to be true: each node has a pod network that overlaps with no other node's. It must never change one that a
//! node has, and does nothing where nobody said from where to take them.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::{
    driver::{Controller, Turn},
    key::Key,
    plan::{Action, EventDraft, Plan, Target, reference},
    resource::NODES,
    store::Change,
    world::{Watch, World},
};

/// The controller. Its only key stands for all nodes: who is given what depends on who has what.
pub static CONTROLLER: Controller = Controller {
    name: "cidr-allocator",
    resource: NODES,
    watches: &[Watch::Node(of_node)],
    reconcile,
};

/// A part of the address space, to be cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub base: Ipv4Addr,
    /// How many leading bits are its own.
    pub prefix: u8,
    /// How many leading bits are those of one node.
    pub node_prefix: u8,
}

/// The most pieces that a network is cut into: as many as there are nodes of /24 in a /8, and still a short list.
const PIECES_LIMIT: u32 = 1 << 16;

impl Network {
    fn piece_size(self) -> u32 {
        1_u32
            .checked_shl(32_u32.saturating_sub(self.node_prefix.into()))
            .unwrap_or(u32::MAX)
    }

    /// Which pieces are free, where these ranges of addresses are taken.
    fn free(self, taken: impl Iterator<Item = (u32, u32)>) -> Vec<u32> {
        let bits = u32::from(self.node_prefix.saturating_sub(self.prefix));
        let pieces = 1_u32.checked_shl(bits).unwrap_or(PIECES_LIMIT).min(PIECES_LIMIT);
        let mut free = vec![true; usize::try_from(pieces).unwrap_or(0)];
        let (base, size) = (u32::from(self.base), self.piece_size());
        for (first, last) in taken.filter(|(_, last)| *last >= base) {
            let from = usize::try_from(first.saturating_sub(base) / size).unwrap_or(usize::MAX);
            let to = usize::try_from((last - base) / size).unwrap_or(usize::MAX);
            let hit = free
                .iter_mut()
                .skip(from)
                .take(to.saturating_sub(from).saturating_add(1));
            hit.for_each(|free| *free = false);
        }
        let numbered = (0..pieces).zip(free);
        numbered
            .filter_map(|(number, free)| free.then_some(base.saturating_add(number.saturating_mul(size))))
            .collect()
    }
}

fn of_node(change: &Change<Node>, _: &World, keys: &mut Vec<Key>) {
    let without = change.new.as_ref().is_some_and(|node| networks(node).next().is_none());
    if without || change.new.is_none() {
        keys.push(Key::cluster("nodes"));
    }
}

fn networks(node: &Node) -> impl Iterator<Item = &str> {
    let spec = node.spec.iter();
    spec.flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr))
        .map(String::as_str)
}

/// The first and the last address of a network of version 4.
fn range(text: &str) -> Option<(u32, u32)> {
    let (base, prefix) = text.split_once('/')?;
    let (base, prefix): (Ipv4Addr, u32) = (base.parse().ok()?, prefix.parse().ok()?);
    let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix)?).unwrap_or(0);
    let first = u32::from(base) & mask;
    Some((first, first | !mask))
}

/// Decides for all nodes.
pub fn reconcile(_: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(network) = world.facts.node_networks else {
        return plan;
    };
    let mut nodes = world.nodes.all();
    nodes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let taken = nodes.iter().flat_map(|node| networks(node)).filter_map(range);
    let mut free = network.free(taken).into_iter();
    let mut writes = Vec::new();
    for node in nodes.iter().filter(|node| networks(node).next().is_none()) {
        let Some(first) = free.next() else {
            let about = reference(&NODES, &node.metadata);
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let text = format!("Node {name} status is now: CIDRNotAvailable");
            plan.events.push(EventDraft::warning(about, "CIDRNotAvailable", text));
            continue;
        };
        let cidr = format!("{}/{}", Ipv4Addr::from(first), network.node_prefix);
        // A network that the node has brought along meanwhile stays.
        let patch = json!({"metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}});
        writes.push(Action::merge(Target::of(&NODES, &node.metadata), patch));
    }
    plan.batch(writes);
    plan
}
