//! How much a container may use, and what to do when that is to change while it runs.
//!
//! Pure. What was allocated to a container is what it runs with; what its specification wants may be more than the node has,
//! and then waits.

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Amounts by resource.
type Amounts = BTreeMap<String, String>;

/// What a container asks for and may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    requests: Amounts,
    limits: Amounts,
}

impl Resources {
    /// Reads a specification.
    pub fn of(container: &Container) -> Self {
        let read = |amounts: Option<&BTreeMap<String, Quantity>>| {
            let amounts = amounts.into_iter().flatten();
            amounts.map(|(name, amount)| (name.clone(), amount.0.clone())).collect()
        };
        let resources = container.resources.as_ref();
        Self {
            requests: read(resources.and_then(|resources| resources.requests.as_ref())),
            limits: read(resources.and_then(|resources| resources.limits.as_ref())),
        }
    }

    /// How much of a resource the container may use.
    pub fn limit(&self, name: &str) -> Option<&str> {
        self.limits.get(name).map(String::as_str)
    }

    /// How much of a resource the container requests.
    pub fn request(&self, name: &str) -> Option<&str> {
        self.requests.get(name).map(String::as_str)
    }

    /// For the status; none where the container asks for nothing.
    pub fn for_status(&self) -> Option<(ResourceRequirements, Option<BTreeMap<String, Quantity>>)> {
        let write = |amounts: &Amounts| {
            let amounts = amounts
                .iter()
                .map(|(name, amount)| (name.clone(), Quantity(amount.clone())));
            Some(amounts.collect::<BTreeMap<_, _>>()).filter(|amounts| !amounts.is_empty())
        };
        (*self != Self::default()).then(|| {
            let resources = ResourceRequirements {
                requests: write(&self.requests),
                limits: write(&self.limits),
                ..ResourceRequirements::default()
            };
            (resources, write(&self.requests))
        })
    }

    /// Whether the change to `other` can only be made by starting the container anew, as its specification says.
    pub fn restarts(&self, other: &Self, container: &Container) -> bool {
        let policies = container.resize_policy.as_deref().unwrap_or_default();
        let mut restarting = policies
            .iter()
            .filter(|policy| policy.restart_policy == "RestartContainer");
        restarting.any(|policy| {
            let name = &policy.resource_name;
            self.requests.get(name) != other.requests.get(name) || self.limits.get(name) != other.limits.get(name)
        })
    }
}

/// Why the containers of a pod do not yet have what their specification wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resize {
    /// The node does not have it now.
    Deferred(String),
    /// The node will never have it.
    Infeasible(String),
    /// It could not be carried out.
    Failed(String),
}

impl Resize {
    /// The condition that tells it: type, reason and message.
    pub fn condition(&self) -> (&'static str, &'static str, &str) {
        match self {
            Self::Deferred(message) => ("PodResizePending", "Deferred", message),
            Self::Infeasible(message) => ("PodResizePending", "Infeasible", message),
            Self::Failed(message) => ("PodResizeInProgress", "Error", message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(limits: serde_json::Value) -> Container {
        serde_json::from_value(json!({"name": "c", "resources": {"limits": limits},
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"},
                             {"resourceName": "cpu", "restartPolicy": "NotRequired"}]}))
        .unwrap()
    }

    #[test]
    fn the_specification_says_which_change_needs_a_restart() {
        let before = container(json!({"cpu": "1", "memory": "1Mi"}));
        let of = |limits| Resources::of(&container(limits));
        let restarts = |limits| Resources::of(&before).restarts(&of(limits), &before);
        assert!(!restarts(json!({"cpu": "2", "memory": "1Mi"})));
        assert!(restarts(json!({"cpu": "1", "memory": "2Mi"})));
        assert_eq!(of(json!({"cpu": "2"})).limit("cpu"), Some("2"));
        assert_eq!(of(json!({})).for_status(), None);
    }
}
