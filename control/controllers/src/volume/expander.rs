//! Grows volumes whose claims ask for more.
//!
//! Wants to be true: a bound claim of a class that may grow has what it asks for: first the volume, then the claim's
//! status. A directory has no size of its own, so growing one is a matter of the books. Nothing ever shrinks, and a
//! volume that somebody else made is left to them.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use super::{
    PROVISIONED_BY, amount, annotation, capacity, claim_of, class, is_for, key_of, provisioner, requested, volume_of,
};
use crate::{
    driver::{Controller, Turn},
    key::Key,
    merge,
    plan::{Action, EventDraft, Note, Plan, Target, reference},
    resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES},
    store::Change,
    world::{Watch, World},
};

/// The controller. Its keys are claims.
pub static CONTROLLER: Controller = Controller {
    name: "volume-expand",
    resource: PERSISTENT_VOLUME_CLAIMS,
    watches: &[Watch::PersistentVolumeClaim(itself), Watch::PersistentVolume(of_volume)],
    reconcile,
};

fn itself(change: &Change<PersistentVolumeClaim>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|claim| Key::of(&claim.metadata)));
}

fn of_volume(change: &Change<PersistentVolume>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().and_then(|volume| claim_of(volume)).map(key_of));
}

/// Decides what to do about one claim.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(claim) = world.persistent_volume_claims.get(key) else {
        return plan;
    };
    let status = claim.status.clone().unwrap_or_default();
    let has = status.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
    let wanted = requested(&claim);
    if status.phase.as_deref() != Some("Bound") || has.is_none() || amount(wanted) <= amount(has) {
        return plan;
    }
    let volume = world.persistent_volumes.get(&Key::cluster(volume_of(&claim)));
    let Some(volume) = volume.filter(|volume| is_for(volume, &claim)) else {
        return plan;
    };
    let about = || reference(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata);
    if class(&claim, world).is_none_or(|class| class.allow_volume_expansion != Some(true)) {
        let text = "the storage class of this claim does not allow volumes to grow".to_owned();
        plan.events
            .push(EventDraft::warning(about(), "VolumeResizeFailed", text));
        return plan;
    }
    let made_by = annotation(&volume.metadata, PROVISIONED_BY);
    if made_by != provisioner::NAME {
        let text = format!("waiting for an external controller to expand this PVC: {made_by}");
        plan.events.push(EventDraft::normal(about(), "ExternalExpanding", text));
        return plan;
    }
    if amount(capacity(&volume)) < amount(wanted) {
        let patch = json!({"metadata": {"uid": volume.metadata.uid}, "spec": {"capacity": {"storage": wanted}}});
        plan.change(Action::merge(Target::of(&PERSISTENT_VOLUMES, &volume.metadata), patch));
    }
    let mut grown = status.clone();
    let held = if amount(capacity(&volume)) < amount(wanted) {
        wanted
    } else {
        capacity(&volume)
    };
    grown
        .capacity
        .get_or_insert_default()
        .extend(held.map(|held| ("storage".to_owned(), held.clone())));
    if let Some(patch) = merge::status(claim.metadata.uid.as_deref(), &status, &grown) {
        let action = Action::status(Target::of(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata), patch);
        plan.change(action.noting(Note {
            about: about(),
            success: Some(("VolumeResizeSuccessful", "Resize volume succeeded".to_owned())),
            failure: None,
        }));
    }
    plan
}
