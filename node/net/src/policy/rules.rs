//! What policies mean for one pod. Pure.
//!
//! [`Compiled`] is made once for each change of policies or namespaces, [`PodRules`] once for each pod under it, so that
//! a connection costs no more than the rules of its two pods. Everything is additive: the order of policies means nothing.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{NetworkPolicy, PodFacts, Policies, PolicyPeer, PolicyPort, PortRange};
use crate::address::Cidr;
use crate::labels::{LabelSelector, Labels};
use crate::snapshot::Protocol;

/// One side of traffic: an address, and where that is a pod's who the pod is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) ip: IpAddr,
    pub(crate) pod: Option<(&'a str, &'a PodFacts)>,
}

/// Traffic that somebody begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow<'a> {
    pub(crate) from: End<'a>,
    pub(crate) to: End<'a>,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

/// All policies, by namespace.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    by_namespace: HashMap<String, Vec<Policy>>,
}

#[derive(Debug)]
struct Policy {
    pods: LabelSelector,
    ingress: Option<Vec<Arc<Rule>>>,
    egress: Option<Vec<Arc<Rule>>>,
}

#[derive(Debug)]
struct Rule {
    /// None means everybody.
    peers: Option<Vec<Peer>>,
    /// None means all.
    ports: Option<Vec<PolicyPort>>,
}

#[derive(Debug)]
enum Peer {
    Pods {
        namespaces: Namespaces,
        pods: LabelSelector,
    },
    Block {
        network: Cidr,
        except: Vec<Cidr>,
    },
}

#[derive(Debug)]
enum Namespaces {
    All,
    Named(HashSet<String>),
}

/// The rules of one pod; a direction without rules is open, one with an empty list is shut.
#[derive(Debug, Default)]
pub(crate) struct PodRules {
    ingress: Option<Vec<Arc<Rule>>>,
    egress: Option<Vec<Arc<Rule>>>,
}

impl Compiled {
    pub(crate) fn new(told: &Policies) -> Self {
        let mut by_namespace: HashMap<String, Vec<Policy>> = HashMap::new();
        for policy in &told.policies {
            let compiled = compile(policy, &told.namespaces);
            by_namespace.entry(policy.namespace.clone()).or_default().push(compiled);
        }
        Self { by_namespace }
    }

    /// Whether there is no policy at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_namespace.is_empty()
    }

    /// The rules of a pod.
    pub(crate) fn rules(&self, namespace: &str, pod: &PodFacts) -> PodRules {
        let mut rules = PodRules::default();
        let here = self.by_namespace.get(namespace).into_iter().flatten();
        for policy in here.filter(|policy| policy.pods.matches(&pod.labels)) {
            for (all, more) in [
                (&mut rules.ingress, &policy.ingress),
                (&mut rules.egress, &policy.egress),
            ] {
                if let Some(more) = more {
                    all.get_or_insert_default().extend(more.iter().cloned());
                }
            }
        }
        rules
    }
}

impl PodRules {
    /// Whether the pod takes what comes from the other side.
    pub(crate) fn let_in(&self, flow: &Flow<'_>) -> bool {
        allowed(self.ingress.as_deref(), &flow.from, flow)
    }

    /// Whether the pod may begin this.
    pub(crate) fn let_out(&self, flow: &Flow<'_>) -> bool {
        allowed(self.egress.as_deref(), &flow.to, flow)
    }
}

fn allowed(rules: Option<&[Arc<Rule>]>, other: &End<'_>, flow: &Flow<'_>) -> bool {
    rules.is_none_or(|rules| rules.iter().any(|rule| rule.allows(other, flow)))
}

impl Rule {
    fn allows(&self, other: &End<'_>, flow: &Flow<'_>) -> bool {
        let peers = self.peers.as_deref();
        let ports = self.ports.as_deref();
        peers.is_none_or(|peers| peers.iter().any(|peer| peer.is(other)))
            && ports.is_none_or(|ports| ports.iter().any(|port| includes(port, flow)))
    }
}

impl Peer {
    fn is(&self, end: &End<'_>) -> bool {
        match self {
            Peer::Pods { namespaces, pods } => end.pod.is_some_and(|(namespace, facts)| {
                let there = match namespaces {
                    Namespaces::All => true,
                    Namespaces::Named(names) => names.contains(namespace),
                };
                there && pods.matches(&facts.labels)
            }),
            Peer::Block { network, except } => {
                network.contains(end.ip) && !except.iter().any(|part| part.contains(end.ip))
            }
        }
    }
}

fn includes(port: &PolicyPort, flow: &Flow<'_>) -> bool {
    let number = match &port.ports {
        PortRange::All => true,
        PortRange::Numbers(first, last) => (*first..=*last).contains(&flow.port),
        // A name is always one of the server's, whoever the policy is about.
        PortRange::Named(name) => flow.to.pod.is_some_and(|(_, server)| {
            let mut named = server.ports.iter().filter(|named| named.protocol == flow.protocol);
            named.any(|named| named.port == flow.port && named.name == *name)
        }),
    };
    number && port.protocol == flow.protocol
}

fn compile(policy: &NetworkPolicy, namespaces: &[(String, Labels)]) -> Policy {
    let peer = |peer: &PolicyPeer| match peer {
        PolicyPeer::Block { network, except } => Peer::Block {
            network: *network,
            except: except.clone(),
        },
        PolicyPeer::Pods { namespaces: of, pods } => Peer::Pods {
            namespaces: match of {
                None => Namespaces::Named(HashSet::from([policy.namespace.clone()])),
                Some(selector) if selector.is_everything() => Namespaces::All,
                Some(selector) => {
                    let selected = namespaces.iter().filter(|(_, labels)| selector.matches(labels));
                    Namespaces::Named(selected.map(|(name, _)| name.clone()).collect())
                }
            },
            pods: pods.clone(),
        },
    };
    let rules = |rules: &Option<Vec<super::PolicyRule>>| {
        let rule = |rule: &super::PolicyRule| {
            Arc::new(Rule {
                peers: (!rule.peers.is_empty()).then(|| rule.peers.iter().map(peer).collect()),
                ports: (!rule.ports.is_empty()).then(|| rule.ports.clone()),
            })
        };
        rules.as_ref().map(|rules| rules.iter().map(rule).collect())
    };
    Policy {
        pods: policy.pods.clone(),
        ingress: rules(&policy.ingress),
        egress: rules(&policy.egress),
    }
}

#[cfg(test)]
mod tests;
