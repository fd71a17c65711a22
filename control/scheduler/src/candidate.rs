//! A pod that wants a node, with what the plugins ask of it worked out once.

use std::sync::Arc;

use coracle_controllers::{key::Key, pods, store::controller_uid};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeSelectorTerm, Pod, PodSpec, Toleration};

use crate::{
    affinity::{self, Term},
    devices::claim::{self, DeviceClaimName},
    resources::{self, Resources},
    spread::{self, Constraint},
    volumes::{self, ClaimName},
};

/// A port on the node itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The address; `0.0.0.0` for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The number.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be had at once.
    #[must_use]
    pub fn clashes(&self, other: &Self) -> bool {
        let any = |port: &Self| port.ip == "0.0.0.0";
        self.port == other.port && self.protocol == other.protocol && (self.ip == other.ip || any(self) || any(other))
    }
}

/// A pod as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its namespace and name.
    pub key: Key,
    /// Its uid.
    pub uid: Arc<str>,
    /// Its priority; higher goes first.
    pub priority: i32,
    /// When it was made; of equal priority the older goes first.
    pub created: Timestamp,
    /// What it needs reserved.
    pub requested: Resources,
    /// What it is taken to need when nodes are compared.
    pub presumed: Resources,
    /// The ports that it wants of the node.
    pub host_ports: Vec<HostPort>,
    /// The uid of its controller; empty if it has none.
    pub controller: Arc<str>,
    /// What it wants of the pods around it.
    pub terms: Vec<Arc<Term>>,
    /// How it asks to be spread.
    pub spread: Vec<Constraint>,
    /// The claims that it names.
    pub claims: Vec<ClaimName>,
    /// The claims to devices that it names.
    pub devices: Vec<DeviceClaimName>,
    /// The only nodes that can take it, where it names them.
    pub named_nodes: Option<Vec<String>>,
}

impl Candidate {
    /// Works out what plugins ask.
    #[must_use]
    pub fn of(pod: Arc<Pod>) -> Self {
        let meta = &pod.metadata;
        Self {
            key: Key::of(meta),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            priority: pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0),
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            requested: resources::requested(&pod),
            presumed: resources::presumed(&pod),
            host_ports: host_ports(&pod),
            controller: controller_uid(meta).into(),
            terms: affinity::terms(&pod),
            spread: spread::constraints(&pod),
            claims: volumes::claims(&pod),
            devices: claim::claims(&pod),
            named_nodes: named_nodes(&pod),
            pod,
        }
    }

    /// Whether a newer version of the pod is the same in all that counts here.
    #[must_use]
    pub fn is_still(&self, newer: &Pod) -> bool {
        let (old, new) = (&self.pod.metadata, &newer.metadata);
        old.labels == new.labels
            && old.deletion_timestamp.is_some() == new.deletion_timestamp.is_some()
            && *controller_uid(new) == *self.controller
            && self.pod.spec == newer.spec
            // Only who names claims to devices has some made, of which the status tells.
            && (newer.spec.as_ref().is_none_or(|spec| spec.resource_claims.is_none())
                || claim::claims(newer) == self.devices)
    }

    /// The pod's spec, which every stored pod has.
    #[must_use]
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// Whether it is on its way out.
    #[must_use]
    pub fn is_terminating(&self) -> bool {
        pods::is_terminating(&self.pod)
    }

    /// What it tolerates.
    #[must_use]
    pub fn tolerations(&self) -> &[Toleration] {
        self.spec()
            .and_then(|spec| spec.tolerations.as_deref())
            .unwrap_or_default()
    }

    /// The node that preemption made room on for it.
    #[must_use]
    pub fn nominated(&self) -> Option<&str> {
        let status = self.pod.status.as_ref()?;
        status.nominated_node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// When it started, for telling older from newer.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        let started = self.pod.status.as_ref().and_then(|s| s.start_time.as_ref());
        started.map_or(self.created, |time| time.0)
    }
}

/// The nodes that the pod's required affinity names, if each of its terms names some. Daemon pods do.
fn named_nodes(pod: &Pod) -> Option<Vec<String>> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let names = |term: &NodeSelectorTerm| {
        let fields = term.match_fields.as_deref().unwrap_or_default();
        let named = fields.iter().find(|f| f.key == "metadata.name" && f.operator == "In")?;
        named.values.clone()
    };
    let mut all = Vec::new();
    for term in &required.node_selector_terms {
        all.extend(names(term)?);
    }
    all.sort_unstable();
    all.dedup();
    (!all.is_empty()).then_some(all)
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = pod.spec.as_ref() else {
        return Vec::new();
    };
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
    ports
        .filter_map(|port| {
            Some(HostPort {
                ip: port
                    .host_ip
                    .clone()
                    .filter(|ip| !ip.is_empty())
                    .unwrap_or_else(|| "0.0.0.0".to_owned()),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port: port.host_port.filter(|port| *port > 0)?,
            })
        })
        .collect()
}
