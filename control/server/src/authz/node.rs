//! What the agent of a node may do: read what concerns its own pods, and nothing that concerns only others.
//!
//! The rights of a node are not bound by a role: they depend on which pods run there. They are decided from the snapshot at
//! hand, so a pod that has just been bound to a node gives its rights with the same revision. A request for a Secret looks
//! at the namespace's pods on the node whose bytes name it at all, and reads only those.

use coracle_api::object;
use coracle_store::{Record, Snapshot};
use memchr::memmem;
use serde_json::Value;

use super::rules::{self, Attributes, Rule};
use crate::document;

/// The namespace of the leases by which nodes say that they are alive.
const LEASES: &str = "kube-node-lease";
const READ: [&str; 3] = ["get", "list", "watch"];

/// The rights of nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// What every node may do, whatever runs on it.
    rules: Vec<Rule>,
}

impl Nodes {
    /// Takes the rules of the role that every node has.
    pub(crate) fn new(role: &Value) -> Self {
        Self {
            rules: rules::rules(role).to_vec(),
        }
    }

    /// Whether the agent of `node` may do it.
    pub(crate) fn allow(&self, snapshot: &Snapshot, node: &str, attributes: &Attributes<'_>) -> bool {
        let reads = READ.contains(&attributes.verb);
        let (namespace, name) = (
            attributes.namespace.unwrap_or_default(),
            attributes.name.unwrap_or_default(),
        );
        match (attributes.group, attributes.resource, attributes.subresource) {
            _ if attributes.path.is_some() => false,
            ("", "configmaps" | "secrets" | "persistentvolumeclaims", None) => {
                reads && !name.is_empty() && refers(snapshot, node, attributes.resource, namespace, name)
            }
            ("resource.k8s.io", "resourceclaims", None) => {
                attributes.verb == "get" && refers(snapshot, node, "resourceclaims", namespace, name)
            }
            ("", "persistentvolumes", None) => {
                attributes.verb == "get"
                    && claim_of(snapshot, name).is_some_and(|(namespace, claim)| {
                        refers(snapshot, node, "persistentvolumeclaims", &namespace, &claim)
                    })
            }
            ("", "serviceaccounts", part) => {
                let wanted = match part {
                    Some("token") => attributes.verb == "create",
                    None => attributes.verb == "get",
                    _ => false,
                };
                wanted && refers(snapshot, node, "serviceaccounts", namespace, name)
            }
            ("", "nodes", _) if reads => name == node,
            ("", "pods", None) if attributes.verb == "get" => snapshot
                .get(&format!("pods/{namespace}/{name}"))
                .is_some_and(|pod| is_on(pod, node)),
            ("", "pods", None) if reads || attributes.verb == "deletecollection" => {
                reads && (attributes.node == Some(node))
            }
            ("coordination.k8s.io", "leases", None) => {
                let own = name == node || (name.is_empty() && attributes.verb == "create");
                namespace == LEASES && own && attributes.verb != "deletecollection"
            }
            _ => self.rules.iter().any(|rule| rule.allows(attributes)),
        }
    }
}

/// Whether a pod has been given to the node.
pub(crate) fn is_on(pod: &Record, node: &str) -> bool {
    let mut fields = pod.header.fields.iter();
    fields.any(|(label, value)| label == "spec.nodeName" && value == node)
}

/// Whether a pod on the node needs the object.
fn refers(snapshot: &Snapshot, node: &str, resource: &str, namespace: &str, name: &str) -> bool {
    if namespace.is_empty() || name.is_empty() {
        return false;
    }
    let quoted = Value::from(name).to_string();
    let finder = memmem::Finder::new(quoted.as_bytes());
    let prefix = format!("pods/{namespace}/");
    let mut pods = snapshot.range(&prefix, None).filter(|pod| is_on(pod, node));
    pods.any(|pod| finder.find(&pod.json).is_some() && document::tree(pod).is_ok_and(|pod| needs(&pod, resource, name)))
}

/// The claim that a volume is bound to.
fn claim_of(snapshot: &Snapshot, volume: &str) -> Option<(String, String)> {
    let volume = document::tree(snapshot.get(&format!("persistentvolumes//{volume}"))?).ok()?;
    let text = |path: &str| object::text(&volume, path).to_owned();
    Some((text("spec.claimRef.namespace"), text("spec.claimRef.name")))
}

/// Whether a pod needs an object of its namespace.
fn needs(pod: &Value, resource: &str, name: &str) -> bool {
    let is = |value: &Value, path: &str| object::text(value, path) == name;
    let volumes = object::list(pod, "spec.volumes").iter();
    let mut sources = volumes.flat_map(|volume| {
        let joined = object::list(volume, "projected.sources").iter();
        std::iter::once(volume).chain(joined)
    });
    match resource {
        "serviceaccounts" => is(pod, "spec.serviceAccountName"),
        "persistentvolumeclaims" => {
            let own = |volume: &Value| {
                let made = format!("{}-{}", object::name(pod), object::text(volume, "name"));
                is(volume, "persistentVolumeClaim.claimName")
                    || (object::get(volume, "ephemeral").is_some() && made == name)
            };
            sources.any(own)
        }
        "resourceclaims" => {
            let told = object::list(pod, "status.resourceClaimStatuses").iter();
            let mut claims = object::list(pod, "spec.resourceClaims").iter().chain(told);
            claims.any(|claim| is(claim, "resourceClaimName"))
        }
        "configmaps" => sources.any(|source| is(source, "configMap.name")) || in_environment(pod, "configMap", name),
        _ => {
            sources.any(|source| {
                is(source, "secret.secretName")
                    || is(source, "secret.name")
                    || is(source, "csi.nodePublishSecretRef.name")
            }) || in_environment(pod, "secret", name)
                || object::list(pod, "spec.imagePullSecrets")
                    .iter()
                    .any(|pull| is(pull, "name"))
        }
    }
}

fn in_environment(pod: &Value, source: &str, name: &str) -> bool {
    let (whole, key) = (format!("{source}Ref.name"), format!("valueFrom.{source}KeyRef.name"));
    let lists = ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"];
    let mut containers = lists.iter().flat_map(|list| object::list(pod, list));
    containers.any(|container| {
        let from = object::list(container, "envFrom").iter();
        let env = object::list(container, "env").iter();
        from.map(|from| object::text(from, &whole)).any(|own| own == name)
            || env.map(|env| object::text(env, &key)).any(|own| own == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_place_that_names_an_object_counts() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "k"}}},
                {"name": "C", "value": "free"},
            ]}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "whole"}}, {"configMapRef": {"name": "all"}}]}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "file"}},
                {"name": "b", "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "joined"}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "d", "ephemeral": {}},
            ],
            "resourceClaims": [{"name": "x", "resourceClaimName": "shared"}, {"name": "y", "resourceClaimTemplateName": "t"}],
        }, "status": {"resourceClaimStatuses": [{"name": "y", "resourceClaimName": "p-y-1"}]}});
        let named = [
            ("secrets", vec!["pull", "key", "whole", "file", "part"]),
            ("configmaps", vec!["map", "all", "joined"]),
            ("persistentvolumeclaims", vec!["claim", "p-d"]),
            ("resourceclaims", vec!["shared", "p-y-1"]),
            ("serviceaccounts", vec!["sa"]),
        ];
        for (resource, names) in &named {
            for (_, others) in &named {
                for name in others {
                    assert_eq!(needs(&pod, resource, name), names.contains(name), "{resource} {name}");
                }
            }
            assert!(!needs(&pod, resource, "free"));
        }
    }
}
