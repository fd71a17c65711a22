//! What the network is told of network policies, and of the namespaces that they speak of.
//!
//! A [`Policies`] is complete and replaces the one before. What a policy means for one pod is compiled in [`rules`].

pub(crate) mod rules;

use crate::address::Cidr;
use crate::labels::{LabelSelector, Labels};
use crate::snapshot::Protocol;

/// Every network policy of the cluster at one moment, with the labels of the namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    /// The policies, in any order.
    pub policies: Vec<NetworkPolicy>,
    /// Name and labels of every namespace.
    pub namespaces: Vec<(String, Labels)>,
}

/// One policy. A pod that some policy is about, in a direction, may do in that direction only what a policy allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Its namespace; the policy is about pods there.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The pods that it is about.
    pub pods: LabelSelector,
    /// Who may connect to them; none where the policy says nothing of that.
    pub ingress: Option<Vec<PolicyRule>>,
    /// What they may connect to; none where the policy says nothing of that.
    pub egress: Option<Vec<PolicyRule>>,
}

/// What is allowed: traffic with one of the peers at one of the ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// The other side; empty means everybody.
    pub peers: Vec<PolicyPeer>,
    /// The ports of the server; empty means all.
    pub ports: Vec<PolicyPort>,
}

/// The other side of traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyPeer {
    /// Pods.
    Pods {
        /// Of namespaces with these labels; none means the namespace of the policy.
        namespaces: Option<LabelSelector>,
        /// With these labels.
        pods: LabelSelector,
    },
    /// Addresses.
    Block {
        /// All of this network,
        network: Cidr,
        /// without these parts of it.
        except: Vec<Cidr>,
    },
}

/// Ports of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyPort {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Which ports of it.
    pub ports: PortRange,
}

/// Which ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRange {
    /// All.
    All,
    /// From the first to the last, both included.
    Numbers(u16, u16),
    /// What the server's pod calls so.
    Named(String),
}

/// What policies and services look at in a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// The pod's labels.
    pub labels: Labels,
    /// The ports of its containers that have a name.
    pub ports: Vec<NamedPort>,
    /// The node that it runs on.
    pub node: Option<String>,
}

/// A port of a container that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}
