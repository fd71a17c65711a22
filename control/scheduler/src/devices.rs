//! What the scheduler knows of devices and of claims to them, and what it has given to whom.
//!
//! Claims are allocated by the choice of the node: the devices that serve them there are taken from the moment of the
//! decision, before the server has said so. All that is allocated is counted as it comes and goes, so that no question
//! about one pod looks at all claims.
//!
//! This is what Kubernetes 1.36 does by default. What it has as alpha stays out: attributes that are lists, devices that
//! stand for a node's own resources, and claims of pod groups. So does what it has behind kinds that are off by default
//! (device taint rules), and extended resources of pods that are served by a class.

pub mod capacity;
pub mod claim;
pub mod device;
pub mod outcome;
pub mod pools;
pub mod search;
pub mod selectors;
pub mod usage;

use std::{collections::HashMap, sync::Arc};

use coracle_controllers::{key::Key, placement};
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    resource::v1::{AllocationResult, DeviceClass, ResourceClaim, ResourceSlice},
};

use claim::{Claim, Class, DeviceClaimName};
use pools::Pools;
use search::{Effort, Pick, Search};
use selectors::Selectors;
use usage::Usage;

/// Devices, classes and claims, as last seen.
#[derive(Clone, Default)]
pub struct Devices {
    claims: HashMap<Key, Arc<Claim>>,
    classes: HashMap<Arc<str>, Arc<Class>>,
    pools: Pools,
    selectors: Selectors,
    usage: Usage,
    /// What was chosen for claims and is not seen written yet, with their uids.
    pending: HashMap<Key, (Arc<str>, AllocationResult)>,
}

/// What a pod's claims ask of a node.
#[derive(Clone, Default)]
pub struct Needs<'a> {
    /// Those that have been allocated.
    pub allocated: Vec<&'a Claim>,
    /// Those that the choice of the node allocates.
    pub open: Vec<&'a Claim>,
}

/// What binding the pod does to one of its claims.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The claim, as it was when the node was chosen.
    pub claim: Arc<ResourceClaim>,
    /// What it is given; `None` if it has been given something before.
    pub allocation: Option<AllocationResult>,
}

impl Devices {
    /// Takes in a class as it is now, or that it is gone.
    pub fn put_class(&mut self, name: &str, class: Option<Arc<DeviceClass>>) {
        match class {
            Some(class) => {
                let class = Arc::new(Class::of(class, &mut self.selectors));
                self.classes.insert(name.into(), class);
            }
            None => drop(self.classes.remove(name)),
        }
    }

    /// Takes in a slice before and after.
    pub fn put_slice(&mut self, old: Option<&ResourceSlice>, new: Option<&Arc<ResourceSlice>>) {
        self.pools.put(old, new);
    }

    /// Takes in a claim as it is now, or that it is gone. True if devices became free by that.
    pub fn put_claim(&mut self, key: &Key, claim: Option<Arc<ResourceClaim>>) -> bool {
        let before = self.allocation(key).cloned();
        match claim {
            Some(claim) => {
                let claim = Claim::of(claim, &mut self.selectors);
                let kept = |(uid, _): &(Arc<str>, AllocationResult)| **uid == *claim.uid();
                if claim.allocation().is_some() || !self.pending.get(key).is_some_and(kept) {
                    self.pending.remove(key);
                }
                self.claims.insert(key.clone(), Arc::new(claim));
            }
            None => {
                self.claims.remove(key);
                self.pending.remove(key);
            }
        }
        self.recount(key, before)
    }

    /// What the claim was given, or is about to be given.
    fn allocation(&self, key: &Key) -> Option<&AllocationResult> {
        let written = self.claims.get(key).and_then(|claim| claim.allocation());
        written.or_else(|| self.pending.get(key).map(|(_, allocation)| allocation))
    }

    /// Counts the claim anew. True if it had something before and has nothing now.
    fn recount(&mut self, key: &Key, before: Option<AllocationResult>) -> bool {
        let after = self.allocation(key).cloned();
        if before == after {
            return false;
        }
        if let Some(before) = &before {
            self.usage.remove(before);
        }
        if let Some(after) = &after {
            self.usage.add(after);
        }
        before.is_some() && after.is_none()
    }

    /// The claim of that name.
    #[must_use]
    pub fn claim(&self, key: &Key) -> Option<&Arc<ResourceClaim>> {
        self.claims.get(key).map(|claim| &claim.object)
    }

    /// What the claims of a pod ask of a node.
    ///
    /// # Errors
    /// Why no node will do, in the words of Kubernetes.
    pub fn needs(&self, pod: &Pod, names: &[DeviceClaimName]) -> Result<Needs<'_>, String> {
        let mut needs = Needs::default();
        for name in names {
            let claim = self.usable(pod, name)?;
            if claim.allocation().is_some() {
                if !claim.is_open_to(pod.metadata.uid.as_deref().unwrap_or_default()) {
                    return Err("resourceclaim in use".to_owned());
                }
                needs.allocated.push(claim);
                continue;
            }
            if self.pending.contains_key(&name.key) {
                return Err(format!(
                    "resource claim {} is in the process of being allocated",
                    name.key
                ));
            }
            for choice in claim.requests.iter().flat_map(|request| &request.choices) {
                if !self.classes.contains_key(choice.class.as_str()) {
                    return Err(format!(
                        "request {}: device class {} does not exist",
                        choice.name, choice.class
                    ));
                }
            }
            needs.open.push(claim);
        }
        Ok(needs)
    }

    fn usable(&self, pod: &Pod, name: &DeviceClaimName) -> Result<&Claim, String> {
        let Some(claim) = self.claims.get(&name.key) else {
            return Err(format!("ResourceClaim \"{}\": object not found", name.key));
        };
        let meta = &claim.object.metadata;
        if meta.deletion_timestamp.is_some() {
            return Err(format!("resourceclaim \"{}\" is being deleted", name.key.name));
        }
        let mut owners = meta.owner_references.iter().flatten();
        if name.generated && !owners.any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref()) {
            return Err(format!(
                "ResourceClaim {} was not created for Pod {}/{} (Pod is not owner)",
                name.key,
                name.key.namespace,
                pod.metadata.name.as_deref().unwrap_or_default()
            ));
        }
        Ok(claim)
    }

    /// The devices that serve the open claims on the node; `None` if there are not enough.
    ///
    /// # Errors
    /// Why that cannot be said, in the words of Kubernetes.
    pub fn serve<'a>(
        &'a self,
        claims: &'a [&'a Claim],
        node: &Node,
        effort: &'a Effort,
    ) -> Result<Option<Vec<Pick<'a>>>, String> {
        Search::new(self, node, claims, effort).run()
    }

    /// What binding the pod to the node does to its claims. `ids` makes up what tells shares of a device apart.
    #[must_use]
    pub fn grants(
        &self,
        pod: &Pod,
        names: &[DeviceClaimName],
        node: &Node,
        ids: &mut dyn FnMut() -> String,
    ) -> Vec<Grant> {
        let Ok(needs) = self.needs(pod, names) else {
            return Vec::new();
        };
        let allocated = needs.allocated.iter().map(|claim| Grant {
            claim: claim.object.clone(),
            allocation: None,
        });
        let mut grants: Vec<Grant> = allocated.collect();
        let effort = Effort::default();
        let Ok(Some(picks)) = self.serve(&needs.open, node, &effort) else {
            return grants;
        };
        let name = node.metadata.name.as_deref().unwrap_or_default();
        for (at, claim) in needs.open.iter().enumerate() {
            let own: Vec<&Pick<'_>> = picks.iter().filter(|pick| pick.claim == at).collect();
            grants.push(Grant {
                claim: claim.object.clone(),
                allocation: Some(outcome::allocation(self, claim, &own, name, ids)),
            });
        }
        grants
    }

    /// What is granted is taken.
    pub fn promise(&mut self, grants: &[Grant]) {
        for grant in grants {
            let Some(allocation) = &grant.allocation else { continue };
            let key = Key::of(&grant.claim.metadata);
            let uid = grant.claim.metadata.uid.as_deref().unwrap_or_default();
            let before = self.allocation(&key).cloned();
            self.pending.insert(key.clone(), (uid.into(), allocation.clone()));
            self.recount(&key, before);
        }
    }

    /// The pod does not go where this was granted. True if devices became free by that.
    pub fn take_back(&mut self, grants: &[Grant]) -> bool {
        let mut freed = false;
        for grant in grants.iter().filter(|grant| grant.allocation.is_some()) {
            let key = Key::of(&grant.claim.metadata);
            let before = self.allocation(&key).cloned();
            let uid = grant.claim.metadata.uid.as_deref().unwrap_or_default();
            if self.pending.get(&key).is_some_and(|(own, _)| **own == *uid) {
                self.pending.remove(&key);
            }
            freed |= self.recount(&key, before);
        }
        freed
    }

    /// A claim that nobody else uses and that keeps the pod from a node where it was allocated before: to be allocated
    /// anew.
    #[must_use]
    pub fn misplaced(&self, pod: &Pod, names: &[DeviceClaimName], nodes: &[&Node]) -> Option<Arc<ResourceClaim>> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let needs = self.needs(pod, names).ok()?;
        let free = needs.allocated.into_iter().filter(|claim| claim.is_for_none_but(uid));
        let mut elsewhere = free.filter(|claim| nodes.iter().any(|node| !is_available(claim, node)));
        elsewhere.next().map(|claim| claim.object.clone())
    }
}

/// Whether what the claim was given can be used on the node.
#[must_use]
pub fn is_available(claim: &Claim, node: &Node) -> bool {
    let selector = claim
        .allocation()
        .and_then(|allocation| allocation.node_selector.as_ref());
    selector.is_none_or(|selector| placement::selected(selector, node))
}
