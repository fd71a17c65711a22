//! Tells the pod network about network policies, and about the labels of the namespaces that they speak of.
//!
//! As with services, the network is told nothing and no pod starts before both lists are known: a pod that starts sooner
//! would be open for a moment. What policies see of a pod itself its own task tells, before its first container starts.

use crate::listing::{Key, Listing};
use crate::proxy::{Event, watch_all};
use crate::spec;
use coracle_net::{
    Cidr, Fabric, LabelRequirement, LabelSelector, LabelValue, Labels, NamedPort, NetworkPolicy, PodFacts, Policies,
    PolicyPeer, PolicyPort, PolicyRule, PortRange,
};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Client;
use std::pin::pin;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Policies and namespaces as they are known.
#[derive(Default)]
struct World {
    policies: Listing<NetworkPolicy>,
    namespaces: Listing<Labels>,
}

/// Watches until the shutdown; `synced` turns true when the network knows all policies.
pub async fn run(client: Client, fabric: Fabric, synced: watch::Sender<bool>, shutdown: CancellationToken) {
    let policies = watch_all::<networking::NetworkPolicy>(&client);
    let namespaces = watch_all::<Namespace>(&client);
    let (mut policies, mut namespaces) = (pin!(policies), pin!(namespaces));
    let mut world = World::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = policies.next() => world.policy_event(event),
            Some(event) = namespaces.next() => world.namespace_event(event),
            else => return,
        }
        // What has already arrived is told together.
        while let Some(Some(event)) = policies.next().now_or_never() {
            world.policy_event(event);
        }
        while let Some(Some(event)) = namespaces.next().now_or_never() {
            world.namespace_event(event);
        }
        if world.policies.is_complete() && world.namespaces.is_complete() {
            fabric.update_policies(&world.told());
            synced.send_replace(true);
        }
    }
}

impl World {
    fn policy_event(&mut self, event: Event<networking::NetworkPolicy>) {
        match event {
            Ok(event) => self.policies.take(event, |policy| Some(policy_of(policy))),
            Err(error) => {
                tracing::warn!(%error, "network policies cannot be watched; no pod starts before they are known")
            }
        }
    }

    fn namespace_event(&mut self, event: Event<Namespace>) {
        let labels = |namespace: &Namespace| Some(namespace.metadata.labels.clone().unwrap_or_default());
        match event {
            Ok(event) => self.namespaces.take(event, labels),
            Err(error) => tracing::warn!(%error, "namespaces cannot be watched; no pod starts before they are known"),
        }
    }

    fn told(&self) -> Policies {
        let policies: Vec<NetworkPolicy> = self.policies.all().values().cloned().collect();
        let named = |((_, name), labels): (&Key, &Labels)| (name.clone(), labels.clone());
        Policies {
            // Without a policy nobody asks for namespaces.
            namespaces: match policies.is_empty() {
                true => Vec::new(),
                false => self.namespaces.all().iter().map(named).collect(),
            },
            policies,
        }
    }
}

/// What policies and services see of a pod.
pub fn facts(pod: &Pod) -> PodFacts {
    let ports = spec::containers(pod).flat_map(|container| container.ports.iter().flatten());
    let named = ports.filter_map(|port| {
        Some(NamedPort {
            name: port.name.clone()?,
            protocol: crate::proxy::protocol(port.protocol.as_deref())?,
            port: u16::try_from(port.container_port).ok()?,
        })
    });
    PodFacts {
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        ports: named.collect(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
    }
}

fn policy_of(policy: &networking::NetworkPolicy) -> NetworkPolicy {
    let spec = policy.spec.clone().unwrap_or_default();
    let types = spec.policy_types.unwrap_or_default();
    let egress = spec.egress.unwrap_or_default();
    // As the API defaults it: always about what comes in, and about what goes out where there is a rule for that.
    let about = |direction: &str, default: bool| match types.is_empty() {
        true => default,
        false => types.iter().any(|named| named == direction),
    };
    let (comes, goes) = (about("Ingress", true), about("Egress", !egress.is_empty()));
    let ingress = spec.ingress.into_iter().flatten();
    NetworkPolicy {
        namespace: policy.metadata.namespace.clone().unwrap_or_default(),
        name: policy.metadata.name.clone().unwrap_or_default(),
        pods: spec.pod_selector.as_ref().map(selector).unwrap_or_default(),
        ingress: comes.then(|| {
            ingress
                .filter_map(|rule| rule_of(rule.from.unwrap_or_default(), rule.ports.unwrap_or_default()))
                .collect()
        }),
        egress: goes.then(|| {
            egress
                .into_iter()
                .filter_map(|rule| rule_of(rule.to.unwrap_or_default(), rule.ports.unwrap_or_default()))
                .collect()
        }),
    }
}

/// A rule; none where it speaks only of what this network does not have, such as SCTP. An empty list means everything, so
/// that it must not become empty on the way.
fn rule_of(peers: Vec<networking::NetworkPolicyPeer>, ports: Vec<networking::NetworkPolicyPort>) -> Option<PolicyRule> {
    let rule = PolicyRule {
        peers: peers.iter().filter_map(peer_of).collect(),
        ports: ports.iter().filter_map(port_of).collect(),
    };
    let whole = rule.peers.is_empty() == peers.is_empty() && rule.ports.is_empty() == ports.is_empty();
    whole.then_some(rule)
}

fn peer_of(peer: &networking::NetworkPolicyPeer) -> Option<PolicyPeer> {
    if let Some(block) = &peer.ip_block {
        // A part that cannot be read must not open what it was to shut.
        let except: Result<Vec<Cidr>, _> = block.except.iter().flatten().map(|part| part.parse()).collect();
        return Some(PolicyPeer::Block {
            network: block.cidr.parse().ok()?,
            except: except.ok()?,
        });
    }
    Some(PolicyPeer::Pods {
        namespaces: peer.namespace_selector.as_ref().map(selector),
        pods: peer.pod_selector.as_ref().map(selector).unwrap_or_default(),
    })
}

fn port_of(port: &networking::NetworkPolicyPort) -> Option<PolicyPort> {
    let ports = match &port.port {
        None => PortRange::All,
        Some(IntOrString::String(name)) => PortRange::Named(name.clone()),
        Some(IntOrString::Int(first)) => {
            let last = port.end_port.unwrap_or(*first);
            PortRange::Numbers(u16::try_from(*first).ok()?, u16::try_from(last).ok()?)
        }
    };
    Some(PolicyPort {
        protocol: crate::proxy::protocol(port.protocol.as_deref())?,
        ports,
    })
}

fn selector(selector: &meta::LabelSelector) -> LabelSelector {
    let mut all = LabelSelector::default();
    for (key, value) in selector.match_labels.iter().flatten() {
        all = all.with(key, value);
    }
    for expression in selector.match_expressions.iter().flatten() {
        let values = expression.values.clone().unwrap_or_default();
        all.requirements.push(LabelRequirement {
            key: expression.key.clone(),
            value: match expression.operator.as_str() {
                "NotIn" => LabelValue::NotIn(values),
                "Exists" => LabelValue::Exists,
                "DoesNotExist" => LabelValue::Absent,
                // The API admits no further operator; one of none of its values selects nothing.
                "In" => LabelValue::In(values),
                _ => LabelValue::In(Vec::new()),
            },
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(spec: serde_json::Value) -> NetworkPolicy {
        let policy = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec});
        policy_of(&serde_json::from_value(policy).unwrap())
    }

    #[test]
    fn a_policy_is_about_what_it_says_or_has_rules_for() {
        let about = |spec| {
            let policy = policy(spec);
            (
                policy.ingress.map(|rules| rules.len()),
                policy.egress.map(|rules| rules.len()),
            )
        };
        assert_eq!(about(json!({"podSelector": {}})), (Some(0), None));
        assert_eq!(about(json!({"podSelector": {}, "egress": [{}]})), (Some(0), Some(1)));
        assert_eq!(
            about(json!({"podSelector": {}, "policyTypes": ["Egress"]})),
            (None, Some(0))
        );
        assert_eq!(
            about(json!({"policyTypes": ["Egress"], "ingress": [{}]})),
            (None, Some(0))
        );
        assert_eq!(
            about(json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{}]})),
            (Some(1), Some(0))
        );
    }

    #[test]
    fn what_this_network_lacks_never_opens_a_rule() {
        let rules = |ingress| policy(json!({"ingress": ingress})).ingress.unwrap();
        assert!(rules(json!([{"ports": [{"protocol": "SCTP", "port": 7}]}])).is_empty());
        assert!(rules(json!([{"from": [{"ipBlock": {"cidr": "nonsense"}}]}])).is_empty());
        assert!(rules(json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["x"]}}]}])).is_empty());
        let mixed = rules(
            json!([{"ports": [{"protocol": "SCTP", "port": 7}, {"port": 80, "endPort": 90}, {"port": "web", "protocol": "UDP"}, {"protocol": "TCP"}]}]),
        );
        let ports: Vec<_> = mixed[0].ports.iter().map(|port| port.ports.clone()).collect();
        assert_eq!(
            ports,
            [
                PortRange::Numbers(80, 90),
                PortRange::Named("web".into()),
                PortRange::All
            ]
        );
    }

    #[test]
    fn peers_and_selectors_arrive_as_they_were_written() {
        let from = json!([{"from": [
            {"podSelector": {"matchLabels": {"app": "a"}}},
            {"namespaceSelector": {"matchExpressions": [
                {"key": "k", "operator": "NotIn", "values": ["x"]}, {"key": "e", "operator": "Exists"},
                {"key": "d", "operator": "DoesNotExist"}]}},
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
        ]}]);
        let rules = policy(json!({"ingress": from})).ingress.unwrap();
        let requirement = |key: &str, value| LabelRequirement { key: key.into(), value };
        let namespaces = LabelSelector {
            requirements: vec![
                requirement("k", LabelValue::NotIn(vec!["x".into()])),
                requirement("e", LabelValue::Exists),
                requirement("d", LabelValue::Absent),
            ],
        };
        assert_eq!(
            rules[0].peers,
            [
                PolicyPeer::Pods {
                    namespaces: None,
                    pods: LabelSelector::default().with("app", "a")
                },
                PolicyPeer::Pods {
                    namespaces: Some(namespaces),
                    pods: LabelSelector::default()
                },
                PolicyPeer::Block {
                    network: "10.0.0.0/8".parse().unwrap(),
                    except: vec!["10.1.0.0/16".parse().unwrap()]
                },
            ]
        );
    }

    #[test]
    fn named_ports_are_those_of_all_containers() {
        let pod = json!({"metadata": {"labels": {"app": "web"}}, "spec": {
            "initContainers": [{"name": "proxy", "restartPolicy": "Always", "ports": [{"name": "admin", "containerPort": 9}]}],
            "containers": [{"name": "main", "ports": [
                {"name": "http", "containerPort": 80}, {"containerPort": 81}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]}});
        let facts = facts(&serde_json::from_value(pod).unwrap());
        let mut names: Vec<_> = facts.ports.iter().map(|port| (port.name.as_str(), port.port)).collect();
        names.sort_unstable();
        assert_eq!(names, [("admin", 9), ("dns", 53), ("http", 80)]);
        assert_eq!(facts.labels["app"], "web");
    }
}
