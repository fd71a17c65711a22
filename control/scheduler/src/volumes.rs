//! What the scheduler knows of claims, volumes and storage classes, and where they let a pod go.
//!
//! A claim that is bound ties the pod to where its volume can be reached. One whose class waits for its first consumer
//! is bound by the choice of the node: to a volume that is there, or to one that is made for that node. A volume that
//! was just promised to a claim counts as taken before the server has said so.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use coracle_api::quantity::Quantity;
use coracle_controllers::{key::Key, placement};
use k8s_openapi::api::{
    core::v1::{Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, TopologySelectorTerm},
    storage::v1::{CSINode, StorageClass},
};

use crate::selection;

/// Set on a claim by who binds it, when both sides are bound.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The class of volumes that nobody makes on demand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// The annotation that named a class before there was a field.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Claims, volumes and classes, as last seen.
#[derive(Clone, Default)]
pub struct Volumes {
    claims: HashMap<Key, Arc<PersistentVolumeClaim>>,
    volumes: HashMap<Arc<str>, Arc<PersistentVolume>>,
    classes: HashMap<Arc<str>, Arc<StorageClass>>,
    /// The volumes that no claim has, by class and then by size.
    open: HashMap<Arc<str>, BTreeSet<(i64, Arc<str>)>>,
    /// How many volumes of a driver a node takes, for the drivers that say so, by node.
    limits: HashMap<Arc<str>, Vec<(String, usize)>>,
    /// Volumes that were chosen for a claim and are not seen bound yet.
    promised: HashMap<Arc<str>, Key>,
}

/// What a pod's claims ask of a node.
#[derive(Clone, Default)]
pub struct Needs {
    /// The volumes of the claims that are bound.
    pub bound: Vec<Arc<PersistentVolume>>,
    /// The claims that the choice of the node binds.
    pub open: Vec<(Arc<PersistentVolumeClaim>, Arc<StorageClass>)>,
    /// Whether a claim is bound to a volume that is not there.
    pub lost: bool,
}

/// How an open claim is served on a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Serving {
    /// By this volume.
    Volume(Key, Arc<PersistentVolume>),
    /// By one that is made there.
    Made(Arc<PersistentVolumeClaim>),
}

/// A claim that a pod names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimName {
    /// Namespace and name.
    pub key: Key,
    /// Whether it is made for this pod alone.
    pub ephemeral: bool,
}

/// The claims that the pod names.
#[must_use]
pub fn claims(pod: &Pod) -> Vec<ClaimName> {
    let meta = &pod.metadata;
    let (namespace, own) = (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            let named = volume.persistent_volume_claim.as_ref();
            let (name, ephemeral) = match (named, &volume.ephemeral) {
                (Some(named), _) => (named.claim_name.clone(), false),
                (None, Some(_)) => (format!("{own}-{}", volume.name), true),
                (None, None) => return None,
            };
            Some(ClaimName {
                key: Key::new(namespace, &name),
                ephemeral,
            })
        })
        .collect()
}

impl Volumes {
    /// Takes in a claim as it is now, or that it is gone.
    pub fn put_claim(&mut self, key: Key, claim: Option<Arc<PersistentVolumeClaim>>) {
        match claim {
            Some(claim) => drop(self.claims.insert(key, claim)),
            None => drop(self.claims.remove(&key)),
        }
    }

    /// Takes in a class as it is now, or that it is gone.
    pub fn put_class(&mut self, name: &str, class: Option<Arc<StorageClass>>) {
        match class {
            Some(class) => drop(self.classes.insert(name.into(), class)),
            None => drop(self.classes.remove(name)),
        }
    }

    /// Takes in what the volume drivers of a node can do, or that this is not known any more.
    pub fn put_drivers(&mut self, node: &str, drivers: Option<&CSINode>) {
        let counts = drivers
            .iter()
            .flat_map(|of_node| &of_node.spec.drivers)
            .filter_map(|driver| {
                let count = driver.allocatable.as_ref()?.count?;
                Some((driver.name.clone(), usize::try_from(count).unwrap_or(0)))
            });
        let counts: Vec<_> = counts.collect();
        if counts.is_empty() {
            self.limits.remove(node);
        } else {
            self.limits.insert(node.into(), counts);
        }
    }

    /// How many volumes of which driver the node takes; a driver that is not named has no limit.
    #[must_use]
    pub fn limits(&self, node: &str) -> &[(String, usize)] {
        self.limits.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether any node has a limit.
    #[must_use]
    pub fn any_limit(&self) -> bool {
        !self.limits.is_empty()
    }

    /// The driver of a claim's volume, or of the one that will be made for it, and what tells the volume apart from
    /// others of the driver; `None` if that is no driver's.
    #[must_use]
    pub fn driver_of(&self, claim: &Key) -> Option<(&str, String)> {
        let object = self.claims.get(claim)?;
        if let Some(volume) = volume_name(object).and_then(|name| self.volumes.get(name)) {
            let source = volume.spec.as_ref()?.csi.as_ref()?;
            return Some((&source.driver, source.volume_handle.clone()));
        }
        let class = self.classes.get(class_of_claim(object)?)?;
        Some((&class.provisioner, format!("{}/{}", claim.namespace, claim.name)))
    }

    /// Takes in a volume as it is now, or that it is gone.
    pub fn put_volume(&mut self, name: &str, volume: Option<Arc<PersistentVolume>>) {
        if let Some(old) = self.volumes.remove(name)
            && let Some(open) = self.open.get_mut(class_of_volume(&old))
        {
            open.remove(&(capacity(&old), name.into()));
        }
        let Some(volume) = volume else {
            self.promised.remove(name);
            return;
        };
        if volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some()) {
            // The promise was kept, or somebody else was faster.
            self.promised.remove(name);
        }
        if is_open(&volume) {
            let of_class = self.open.entry(class_of_volume(&volume).into()).or_default();
            of_class.insert((capacity(&volume), name.into()));
        }
        self.volumes.insert(name.into(), volume);
    }

    /// The claim of that name.
    #[must_use]
    pub fn claim(&self, key: &Key) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.get(key)
    }

    /// What the claims of a pod ask of a node.
    ///
    /// # Errors
    /// Why no node will do, in the words of Kubernetes.
    pub fn needs(&self, pod: &Pod, names: &[ClaimName]) -> Result<Needs, String> {
        let mut needs = Needs::default();
        for name in names {
            let claim = self.usable(pod, name)?;
            if let Some(volume) = bound_to(claim) {
                match self.volumes.get(volume) {
                    Some(volume) => needs.bound.push(volume.clone()),
                    None => needs.lost = true,
                }
                continue;
            }
            let class = class_of_claim(claim).and_then(|name| self.classes.get(name));
            let waits = class.filter(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
            match waits {
                Some(class) if volume_name(claim).is_none() => needs.open.push((claim.clone(), class.clone())),
                _ => return Err("pod has unbound immediate PersistentVolumeClaims".to_owned()),
            }
        }
        Ok(needs)
    }

    fn usable(&self, pod: &Pod, name: &ClaimName) -> Result<&Arc<PersistentVolumeClaim>, String> {
        let named = &name.key.name;
        let Some(claim) = self.claims.get(&name.key) else {
            return Err(if name.ephemeral {
                format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{named}\"")
            } else {
                format!("persistentvolumeclaim \"{named}\" not found")
            });
        };
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("persistentvolumeclaim \"{named}\" is being deleted"));
        }
        if name.ephemeral {
            let owners = claim.metadata.owner_references.iter().flatten();
            if !owners
                .into_iter()
                .any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref())
            {
                return Err(format!(
                    "PVC {}/{named} was not created for pod {}/{} (pod is not owner)",
                    name.key.namespace,
                    name.key.namespace,
                    pod.metadata.name.as_deref().unwrap_or_default()
                ));
            }
        }
        if claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost") {
            let volume = volume_name(claim).unwrap_or_default();
            return Err(format!(
                "persistentvolumeclaim \"{named}\" bound to non-existent persistentvolume \"{volume}\""
            ));
        }
        Ok(claim)
    }

    /// How each open claim would be served on the node; `None` if one cannot be.
    #[must_use]
    pub fn serve(&self, needs: &Needs, node: &Node) -> Option<Vec<Serving>> {
        let mut taken: Vec<Arc<str>> = Vec::new();
        let mut servings = Vec::new();
        for (claim, class) in &needs.open {
            let key = Key::of(&claim.metadata);
            if let Some(volume) = self.fitting(claim, &key, node, &taken) {
                taken.push(volume.metadata.name.as_deref().unwrap_or_default().into());
                servings.push(Serving::Volume(key, volume));
                continue;
            }
            if class.provisioner == NO_PROVISIONER || !may_be_made(class, node) {
                return None;
            }
            servings.push(Serving::Made(claim.clone()));
        }
        Some(servings)
    }

    /// The smallest open volume that serves the claim on the node.
    fn fitting(
        &self,
        claim: &PersistentVolumeClaim,
        key: &Key,
        node: &Node,
        taken: &[Arc<str>],
    ) -> Option<Arc<PersistentVolume>> {
        let of_class = self.open.get(class_of_claim(claim).unwrap_or_default())?;
        let least = (requested(claim), "".into());
        let fits = |volume: &Arc<PersistentVolume>| {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            let promised = self.promised.get(name).is_some_and(|other| other != key);
            !promised && !taken.iter().any(|other| **other == *name) && serves(volume, claim) && reachable(volume, node)
        };
        of_class
            .range(least..)
            .filter_map(|(_, name)| self.volumes.get(name))
            .find(|volume| fits(volume))
            .cloned()
    }

    /// The volumes that `servings` choose are no longer open.
    pub fn promise(&mut self, servings: &[Serving]) {
        for serving in servings {
            if let Serving::Volume(claim, volume) = serving {
                let name = volume.metadata.name.as_deref().unwrap_or_default();
                self.promised.insert(name.into(), claim.clone());
            }
        }
    }

    /// The pod does not go where they were chosen for.
    pub fn take_back(&mut self, servings: &[Serving]) {
        for serving in servings {
            if let Serving::Volume(_, volume) = serving {
                self.promised
                    .remove(volume.metadata.name.as_deref().unwrap_or_default());
            }
        }
    }

    /// Whether all these claims are bound.
    #[must_use]
    pub fn all_bound(&self, names: &[ClaimName]) -> bool {
        names.iter().all(|name| {
            self.claims
                .get(&name.key)
                .is_some_and(|claim| bound_to(claim).is_some())
        })
    }
}

/// The volume that the claim is bound to, on both sides.
fn bound_to(claim: &PersistentVolumeClaim) -> Option<&str> {
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    let annotated = claim
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|a| a.contains_key(BIND_COMPLETED));
    volume_name(claim).filter(|_| annotated || phase == Some("Bound"))
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim
        .spec
        .as_ref()?
        .volume_name
        .as_deref()
        .filter(|name| !name.is_empty())
}

fn class_of_claim(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotated = claim.metadata.annotations.as_ref().and_then(|a| a.get(CLASS));
    annotated
        .or_else(|| claim.spec.as_ref()?.storage_class_name.as_ref())
        .map(String::as_str)
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let annotated = volume.metadata.annotations.as_ref().and_then(|a| a.get(CLASS));
    let named = annotated.or_else(|| volume.spec.as_ref()?.storage_class_name.as_ref());
    named.map(String::as_str).unwrap_or_default()
}

fn is_open(volume: &PersistentVolume) -> bool {
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    volume.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Bound" | "Released" | "Failed"))
}

fn bytes(text: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> i64 {
    let quantity = text.and_then(|text| Quantity::parse(&text.0).ok());
    quantity.map_or(0, |quantity| i64::try_from(quantity.value()).unwrap_or(i64::MAX))
}

fn capacity(volume: &PersistentVolume) -> i64 {
    bytes(volume.spec.as_ref().and_then(|s| s.capacity.as_ref()?.get("storage")))
}

fn requested(claim: &PersistentVolumeClaim) -> i64 {
    let resources = claim.spec.as_ref().and_then(|s| s.resources.as_ref());
    bytes(resources.and_then(|r| r.requests.as_ref()?.get("storage")))
}

/// Whether a volume of the right class and size is what the claim asks for.
fn serves(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(offer), Some(want)) = (&volume.spec, &claim.spec) else {
        return false;
    };
    let modes = offer.access_modes.as_deref().unwrap_or_default();
    let mode = |text: &Option<String>| text.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let labels = volume.metadata.labels.as_ref();
    let picked = want.selector.as_ref().is_none_or(|selector| {
        selection::selector(Some(selector), None, &[], &[])
            .matches(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
    });
    want.access_modes.iter().flatten().all(|mode| modes.contains(mode))
        && mode(&offer.volume_mode) == mode(&want.volume_mode)
        && picked
        && offer
            .claim_ref
            .as_ref()
            .is_none_or(|reference| is_for(reference, claim))
}

/// Whether a volume that names a claim names this one.
fn is_for(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (reference.uid.is_none() || reference.uid == claim.metadata.uid)
}

/// Whether the volume can be reached from the node.
#[must_use]
pub fn reachable(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required.as_ref());
    required.is_none_or(|selector| placement::selected(selector, node))
}

fn may_be_made(class: &StorageClass, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let holds = |term: &TopologySelectorTerm| {
        let all = term.match_label_expressions.iter().flatten();
        all.into_iter().all(|wanted| {
            let label = labels.and_then(|l| l.get(&wanted.key));
            label.is_some_and(|value| wanted.values.contains(value))
        })
    };
    let allowed = class.allowed_topologies.as_deref().unwrap_or_default();
    allowed.is_empty() || allowed.iter().any(holds)
}
