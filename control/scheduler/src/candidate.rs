//! A pod that wants a node, with what the plugins ask of it worked out once.

use std::sync::Arc;

use coracle_controllers::{key::Key, store::controller_uid};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::resources::{self, Resources};

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
            pod,
        }
    }

    /// The pod's spec, which every stored pod has.
    #[must_use]
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }
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
