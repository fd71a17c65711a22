//! What claims ask for, and which claims a pod names.

use std::{collections::BTreeMap, sync::Arc};

use coracle_api::quantity::Quantity;
use coracle_controllers::key::Key;
use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{
        AllocationResult, CapacityRequirements, DeviceClass, DeviceSelector, DeviceToleration, ResourceClaim,
    },
};

use super::{
    device::amount,
    selectors::{Compiled, Selectors},
};

/// How many may use a claim at once: Kubernetes' own number.
const CONSUMERS_LIMIT: usize = 256;

/// A claim that a pod names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceClaimName {
    /// Namespace and name.
    pub key: Key,
    /// Whether it was made for this pod alone.
    pub generated: bool,
}

/// The claims to devices that the pod names, as far as those that are made for it are made.
#[must_use]
pub fn claims(pod: &Pod) -> Vec<DeviceClaimName> {
    let Some(named) = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref()) else {
        return Vec::new();
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let of = |claim: &k8s_openapi::api::core::v1::PodResourceClaim| {
        let (name, generated) = match &claim.resource_claim_name {
            Some(name) => (name.clone(), false),
            // A claim that turned out not to be needed has no name.
            None => (made_for(pod, &claim.name)?.clone()?, true),
        };
        Some(DeviceClaimName {
            key: Key::new(namespace, &name),
            generated,
        })
    };
    named.iter().filter_map(of).collect()
}

/// Whether claims of the pod are still to be made.
#[must_use]
pub fn are_awaited(pod: &Pod) -> bool {
    let named = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref());
    let mut generated = named
        .into_iter()
        .flatten()
        .filter(|claim| claim.resource_claim_name.is_none());
    generated.any(|claim| made_for(pod, &claim.name).is_none())
}

/// What the pod's status says of the claim that is made for it.
fn made_for<'p>(pod: &'p Pod, name: &str) -> Option<&'p Option<String>> {
    let statuses = pod.status.as_ref()?.resource_claim_statuses.as_ref()?;
    let found = statuses.iter().find(|status| status.name == name)?;
    Some(&found.resource_claim_name)
}

/// A class of devices.
#[derive(Debug)]
pub struct Class {
    /// The class.
    pub object: Arc<DeviceClass>,
    /// What its devices have in common.
    pub selectors: Vec<Arc<Compiled>>,
}

impl Class {
    /// The class, with its selectors compiled.
    #[must_use]
    pub fn of(object: Arc<DeviceClass>, selectors: &mut Selectors) -> Self {
        Self {
            selectors: compiled(object.spec.selectors.as_ref(), selectors),
            object,
        }
    }
}

fn compiled(all: Option<&Vec<DeviceSelector>>, selectors: &mut Selectors) -> Vec<Arc<Compiled>> {
    let expressions = all.into_iter().flatten().filter_map(|selector| selector.cel.as_ref());
    expressions.map(|cel| selectors.get(&cel.expression)).collect()
}

/// How many devices are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Exactly(usize),
    /// All that there are.
    All,
}

/// One way to serve a request.
#[derive(Debug)]
pub struct Choice {
    /// The request's name, and after a slash that of the choice if there are several.
    pub name: String,
    /// Of which class.
    pub class: String,
    /// What else the devices must be.
    pub selectors: Vec<Arc<Compiled>>,
    /// How many.
    pub count: Count,
    /// Whether devices that others use will do.
    pub admin: bool,
    /// The taints that do not matter.
    pub tolerations: Vec<DeviceToleration>,
    /// How much is wanted of what each device has, by name.
    pub capacity: BTreeMap<String, Quantity>,
}

/// A request.
#[derive(Debug)]
pub struct Request {
    /// Its name.
    pub name: String,
    /// The ways to serve it, the best first.
    pub choices: Vec<Choice>,
    /// Whether the claim lists these ways itself.
    pub prioritised: bool,
}

/// A claim.
#[derive(Debug)]
pub struct Claim {
    /// Namespace and name.
    pub key: Key,
    /// The claim.
    pub object: Arc<ResourceClaim>,
    /// What it asks for.
    pub requests: Vec<Request>,
}

impl Claim {
    /// The claim, with its selectors compiled.
    #[must_use]
    pub fn of(object: Arc<ResourceClaim>, selectors: &mut Selectors) -> Self {
        let requests = object
            .spec
            .devices
            .iter()
            .flat_map(|devices| devices.requests.iter().flatten());
        let requests = requests
            .map(|request| {
                let exactly = request.exactly.iter().map(|one| Choice {
                    name: request.name.clone(),
                    class: one.device_class_name.clone(),
                    selectors: compiled(one.selectors.as_ref(), selectors),
                    count: count(one.allocation_mode.as_deref(), one.count),
                    admin: one.admin_access == Some(true),
                    tolerations: one.tolerations.clone().unwrap_or_default(),
                    capacity: wanted(one.capacity.as_ref()),
                });
                let mut choices: Vec<Choice> = exactly.collect();
                for one in request.first_available.iter().flatten() {
                    choices.push(Choice {
                        name: format!("{}/{}", request.name, one.name),
                        class: one.device_class_name.clone(),
                        selectors: compiled(one.selectors.as_ref(), selectors),
                        count: count(one.allocation_mode.as_deref(), one.count),
                        admin: false,
                        tolerations: one.tolerations.clone().unwrap_or_default(),
                        capacity: wanted(one.capacity.as_ref()),
                    });
                }
                Request {
                    name: request.name.clone(),
                    choices,
                    prioritised: request.exactly.is_none(),
                }
            })
            .collect();
        Self {
            key: Key::of(&object.metadata),
            object,
            requests,
        }
    }

    /// Its uid.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.object.metadata.uid.as_deref().unwrap_or_default()
    }

    /// What it was given, as the server says.
    #[must_use]
    pub fn allocation(&self) -> Option<&AllocationResult> {
        self.object.status.as_ref()?.allocation.as_ref()
    }

    /// The uids of those who may use it.
    pub fn consumers(&self) -> impl Iterator<Item = &str> {
        let status = self.object.status.iter();
        let reserved = status.flat_map(|status| status.reserved_for.iter().flatten());
        reserved.map(|consumer| consumer.uid.as_str())
    }

    /// Whether the pod may use it, or one more may.
    #[must_use]
    pub fn is_open_to(&self, pod: &str) -> bool {
        self.consumers().any(|uid| uid == pod) || self.consumers().count() < CONSUMERS_LIMIT
    }

    /// Whether nobody but the pod may use it.
    #[must_use]
    pub fn is_for_none_but(&self, pod: &str) -> bool {
        self.consumers().all(|uid| uid == pod)
    }
}

fn count(mode: Option<&str>, count: Option<i64>) -> Count {
    match mode {
        Some("All") => Count::All,
        _ => Count::Exactly(usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX)),
    }
}

fn wanted(capacity: Option<&CapacityRequirements>) -> BTreeMap<String, Quantity> {
    let requests = capacity
        .into_iter()
        .flat_map(|capacity| capacity.requests.iter().flatten());
    requests.map(|(name, value)| (name.clone(), amount(value))).collect()
}
