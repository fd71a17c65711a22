//! What agents of nodes may not change although they may write the kind: other nodes, other nodes' pods, and what decides
//! which pods come to them.

use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::Value;

use super::{Request, is};

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
/// Labels of Kubernetes' own name space that a node may give itself.
const OWN_LABELS: [&str; 16] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "topology.k8s.io/region",
    "topology.k8s.io/zone",
];
/// The same for whole families.
const OWN_FAMILIES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Refuses a create or an update.
pub(super) fn validate(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let Some(node) = request.scope.identity.node() else {
        return Ok(());
    };
    let kind = request.scope.kind;
    let refused = if is(kind, "", "Pod") {
        pod(request, node, object)
    } else if is(kind, "", "Node") {
        own_node(request, node, object)
    } else if is(kind, "coordination.k8s.io", "Lease") {
        lease(request, node)
    } else {
        None
    };
    answer(request, refused)
}

/// Refuses a deletion.
pub(super) fn validate_delete(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let Some(node) = request.scope.identity.node() else {
        return Ok(());
    };
    let kind = request.scope.kind;
    let refused = if is(kind, "", "Pod") {
        let own = object::text(object, "spec.nodeName") == node;
        (!own).then(|| format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
    } else if is(kind, "coordination.k8s.io", "Lease") {
        lease(request, node)
    } else {
        None
    };
    answer(request, refused)
}

fn answer(request: &Request<'_>, refused: Option<String>) -> Result<(), ApiError> {
    match refused {
        None => Ok(()),
        Some(words) => Err(request.forbidden(&words)),
    }
}

fn pod(request: &Request<'_>, node: &str, pod: &Value) -> Option<String> {
    let Some(old) = request.old else {
        if object::annotation(pod, MIRROR).is_none() {
            return Some(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        let own = object::text(pod, "spec.nodeName") == node;
        return (!own).then(|| format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    };
    if object::text(old, "spec.nodeName") != node {
        return Some(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    let labels = |pod: &Value| object::get(pod, "metadata.labels").cloned();
    (labels(pod) != labels(old)).then(|| format!("node {node:?} cannot update labels through pod status"))
}

fn own_node(request: &Request<'_>, node: &str, object: &Value) -> Option<String> {
    if request.name != node {
        return Some(format!(
            "node {node:?} is not allowed to modify node {:?}",
            request.name
        ));
    }
    let Some(old) = request.old else {
        let labels = object::labels(object).map(|(key, _)| key);
        let taken: Vec<&str> = labels.filter(|label| !is_own(label)).collect();
        return (!taken.is_empty()).then(|| {
            format!(
                "node {node:?} is not allowed to set the following labels: {}",
                taken.join(", ")
            )
        });
    };
    if object::list(object, "spec.taints") != object::list(old, "spec.taints") {
        return Some(format!("node {node:?} is not allowed to modify taints"));
    }
    if object::owner_references(object) != object::owner_references(old) {
        return Some(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    let keys = object::labels(object).chain(object::labels(old)).map(|(key, _)| key);
    let mut changed: Vec<&str> = keys
        .filter(|key| object::label(object, key) != object::label(old, key) && !is_own(key))
        .collect();
    changed.sort_unstable();
    changed.dedup();
    (!changed.is_empty()).then(|| format!("is not allowed to modify labels: {}", changed.join(", ")))
}

/// Whether a node may choose this label of its own.
fn is_own(label: &str) -> bool {
    let Some((family, _)) = label.split_once('/') else {
        return true;
    };
    let within = |domain: &str| family == domain || family.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    OWN_LABELS.contains(&label) || OWN_FAMILIES.iter().any(|own| within(own))
}

fn lease(request: &Request<'_>, node: &str) -> Option<String> {
    if request.scope.namespace != Some(LEASES) {
        return Some(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    (request.name != node).then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_decide_where_pods_go_are_not_the_nodes_own() {
        for (label, own) in [
            ("disk", true),
            ("coracle.dev/engine", true),
            ("kubernetes.io/hostname", true),
            ("kubelet.kubernetes.io/x", true),
            ("a.node.kubernetes.io/x", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("node-restriction.kubernetes.io/secure", false),
            ("kubernetes.io/secure", false),
            ("notkubernetes.io/x", true),
        ] {
            assert_eq!(is_own(label), own, "{label}");
        }
    }
}
