//! Volumes and claims, as the controllers about them share their words.

pub mod binder;
pub mod ephemeral;
pub mod expander;
pub mod protection;
pub mod provisioner;
pub mod reclaimer;

use std::sync::Arc;

use coracle_api::quantity::Quantity;
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::{api::resource::Quantity as Text, apis::meta::v1::ObjectMeta},
};

use crate::{key::Key, world::World};

/// On a claim: it has been bound once, and is never bound anew.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On both: the other side was written here by the binder, not by a user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: the node that the scheduler has chosen for its first pod.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim: who is to make its volume.
pub const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same, under its older name.
pub const OLDER_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// The class of those who were written before there was a field for it.
const OLDER_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// An annotation; empty if it is not there.
#[must_use]
pub fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> &'a str {
    let annotations = meta.annotations.as_ref();
    annotations.and_then(|all| all.get(name)).map_or("", String::as_str)
}

/// Who is to make the volume of a claim; empty for nobody.
#[must_use]
pub fn asked_provisioner(claim: &PersistentVolumeClaim) -> &str {
    let names = [PROVISIONER, OLDER_PROVISIONER].map(|name| annotation(&claim.metadata, name));
    names.into_iter().find(|name| !name.is_empty()).unwrap_or_default()
}

/// The class of a claim; empty for none.
#[must_use]
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let said = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    said.unwrap_or_else(|| annotation(&claim.metadata, OLDER_CLASS))
}

/// The class of a volume; empty for none.
#[must_use]
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let said = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    said.unwrap_or_else(|| annotation(&volume.metadata, OLDER_CLASS))
}

/// The claim's class, if there is such a one.
#[must_use]
pub fn class(claim: &PersistentVolumeClaim, world: &World) -> Option<Arc<StorageClass>> {
    world.storage_classes.get(&Key::cluster(class_of_claim(claim)))
}

/// Whether volumes of the class wait for the first pod that needs them.
#[must_use]
pub fn waits(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// The claim that a volume is for.
#[must_use]
pub fn claim_of(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// The key of a claim that is referred to.
#[must_use]
pub fn key_of(claim: &ObjectReference) -> Key {
    Key::new(
        claim.namespace.as_deref().unwrap_or_default(),
        claim.name.as_deref().unwrap_or_default(),
    )
}

/// Whether the volume is for this claim, and for no earlier one of the same name.
#[must_use]
pub fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_of(volume).is_some_and(|found| {
        let same = found
            .uid
            .as_ref()
            .is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref());
        same && key_of(found) == Key::of(&claim.metadata)
    })
}

/// The volume that a claim names; empty for none.
#[must_use]
pub fn volume_of(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    spec.and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// How much a claim asks for.
#[must_use]
pub fn requested(claim: &PersistentVolumeClaim) -> Option<&Text> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage")
}

/// How much a volume holds.
#[must_use]
pub fn capacity(volume: &PersistentVolume) -> Option<&Text> {
    volume.spec.as_ref()?.capacity.as_ref()?.get("storage")
}

/// An amount that can be compared; what cannot be read is nothing.
#[must_use]
pub fn amount(text: Option<&Text>) -> Quantity {
    text.and_then(|text| Quantity::parse(&text.0).ok())
        .unwrap_or(Quantity::ZERO)
}

/// The names of the claims that a pod uses, those that are made for it included.
pub fn claims_of(pod: &Pod) -> impl Iterator<Item = String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(
        move |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => Some(source.claim_name.clone()),
            (None, Some(_)) => Some(format!("{name}-{}", volume.name)),
            (None, None) => None,
        },
    )
}
