//! NodeDeclaredFeatures: a pod that makes use of something that not every node can do goes to a node that says it can.
//!
//! What a pod needs is read from its spec, as Kubernetes 1.36 does it; what a node can do is in its
//! `status.declaredFeatures`. Features that only matter when a running pod is changed keep no pod from any node.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{Asked, Plugin, Refusal, Round};
use crate::happening::{Happening, Happenings};

/// The plugin.
pub static PLUGIN: Plugin = Plugin {
    name: "NodeDeclaredFeatures",
    attend: None,
    filter: Some(filter),
    score: None,
    helped_by: Happenings::of(&[Happening::NodeAdded, Happening::NodeFeatures]),
};

/// Whether a pod needs a feature.
type Needs = fn(&PodSpec) -> bool;

/// Features, and who needs them.
static FEATURES: &[(&str, Needs)] = &[
    ("RestartAllContainersOnContainerExits", restarts_all),
    ("UserNamespacesHostNetworkSupport", maps_users_on_host_network),
];

/// A container's end may start all containers of the pod again.
fn restarts_all(spec: &PodSpec) -> bool {
    let rules = |container: &Container| {
        let mut rules = container.restart_policy_rules.iter().flatten();
        rules.any(|rule| rule.action == "RestartAllContainers")
    };
    spec.containers.iter().any(rules) || spec.init_containers.iter().flatten().any(rules)
}

fn maps_users_on_host_network(spec: &PodSpec) -> bool {
    spec.host_network == Some(true) && spec.host_users == Some(false)
}

fn filter(round: Round<'_>) -> Asked<'_> {
    let Some(spec) = round.pod.spec() else {
        return Asked::Nothing;
    };
    let all = FEATURES.iter();
    let needed: Vec<&str> = all.filter(|(_, needs)| needs(spec)).map(|(name, _)| *name).collect();
    if needed.is_empty() {
        return Asked::Nothing;
    }
    Asked::Each(Box::new(move |view| {
        let status = view.node.status.as_ref();
        let declared = status
            .and_then(|status| status.declared_features.as_deref())
            .unwrap_or_default();
        match needed
            .iter()
            .all(|feature| declared.iter().any(|known| known == feature))
        {
            true => Ok(()),
            false => Err(Refusal::for_good("node(s) didn't match Pod's required features")),
        }
    }))
}
