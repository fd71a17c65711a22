//! The phases of volumes, and what becomes of one whose claim is gone.
//!
//! Wants to be true: a volume's phase says whether it is free, taken, or left behind; one that was left behind goes if
//! its policy says so and it was made by the cluster's own provisioner. It must never let go of a volume whose claim is
//! still there: that is looked up live.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;

use super::{BOUND_BY_CONTROLLER, PROVISIONED_BY, annotation, claim_of, key_of, provisioner, volume_of};
use crate::{
    driver::{Controller, Turn},
    key::Key,
    merge,
    plan::{Action, EventDraft, Guard, Plan, Target, reference},
    resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES},
    store::Change,
    world::{Watch, World},
};

/// The controller. Its keys are volumes.
pub static CONTROLLER: Controller = Controller {
    name: "persistentvolume-reclaimer",
    resource: PERSISTENT_VOLUMES,
    watches: &[Watch::PersistentVolume(itself), Watch::PersistentVolumeClaim(of_claim)],
    reconcile,
};

fn itself(change: &Change<PersistentVolume>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|volume| Key::of(&volume.metadata)));
}

fn of_claim(change: &Change<PersistentVolumeClaim>, world: &World, keys: &mut Vec<Key>) {
    let named = change
        .both()
        .map(|claim| volume_of(claim))
        .filter(|name| !name.is_empty());
    keys.extend(named.map(Key::cluster));
    // A claim that went before it named its volume.
    if let (Some(gone), None) = (&change.old, &change.new) {
        let key = Key::of(&gone.metadata);
        let volumes = world.persistent_volumes.all().into_iter();
        let left = volumes.filter(|volume| claim_of(volume).is_some_and(|claim| key_of(claim) == key));
        keys.extend(left.map(|volume| Key::of(&volume.metadata)));
    }
}

/// Decides what to do about one volume.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let volume = world.persistent_volumes.get(key);
    let Some(volume) = volume.filter(|volume| volume.metadata.deletion_timestamp.is_none()) else {
        return plan;
    };
    let Some(reserved) = claim_of(&volume) else {
        set_phase(&volume, "Available", turn.now, &mut plan);
        return plan;
    };
    let Some(uid) = reserved.uid.as_deref().filter(|uid| !uid.is_empty()) else {
        // A user keeps it for a claim that is not bound yet.
        set_phase(&volume, "Available", turn.now, &mut plan);
        return plan;
    };
    let claim = world.persistent_volume_claims.get(&key_of(reserved));
    match claim.filter(|claim| claim.metadata.uid.as_deref() == Some(uid)) {
        Some(claim) if volume_of(&claim) == &*key.name => set_phase(&volume, "Bound", turn.now, &mut plan),
        // The claim is about to be told.
        Some(claim) if volume_of(&claim).is_empty() => {}
        Some(_) if annotation(&volume.metadata, PROVISIONED_BY).is_empty() => unbind(&volume, &mut plan),
        Some(_) => release(&volume, turn.now, &mut plan),
        None => {
            let target = Target {
                resource: PERSISTENT_VOLUME_CLAIMS,
                key: key_of(reserved),
            };
            release(&volume, turn.now, &mut plan);
            if !plan.is_settled() {
                plan.guards.push(Guard::Absent(target, uid.to_owned()));
            }
        }
    }
    plan
}

fn phase(volume: &PersistentVolume) -> &str {
    let status = volume.status.as_ref();
    status.and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn set_phase(volume: &PersistentVolume, wanted: &str, now: Timestamp, plan: &mut Plan) {
    if phase(volume) == wanted {
        return;
    }
    let old = volume.status.clone().unwrap_or_default();
    let mut status = old.clone();
    status.phase = Some(wanted.to_owned());
    status.message = None;
    status.reason = None;
    status.last_phase_transition_time = Some(Time(now));
    if let Some(patch) = merge::status(volume.metadata.uid.as_deref(), &old, &status) {
        plan.change(Action::status(Target::of(&PERSISTENT_VOLUMES, &volume.metadata), patch));
    }
}

/// The claim has another volume: this one is free again, if it was the binder who promised it.
fn unbind(volume: &PersistentVolume, plan: &mut Plan) {
    if annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_empty() {
        return;
    }
    let patch = json!({
        "metadata": {"uid": volume.metadata.uid, "resourceVersion": volume.metadata.resource_version,
            "annotations": {BOUND_BY_CONTROLLER: null}},
        "spec": {"claimRef": null},
    });
    plan.change(Action::merge(Target::of(&PERSISTENT_VOLUMES, &volume.metadata), patch));
}

fn release(volume: &PersistentVolume, now: Timestamp, plan: &mut Plan) {
    let policy = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let made_by = annotation(&volume.metadata, PROVISIONED_BY);
    match (policy, phase(volume)) {
        (_, "Failed") => {}
        (Some("Delete"), _) if made_by == provisioner::NAME => {
            set_phase(volume, "Released", now, plan);
            plan.change(Action::delete(&PERSISTENT_VOLUMES, &volume.metadata));
        }
        // Whoever made it deletes it.
        (Some("Delete"), _) if !made_by.is_empty() => set_phase(volume, "Released", now, plan),
        (Some(policy @ ("Delete" | "Recycle")), _) => {
            set_phase(volume, "Failed", now, plan);
            let about = reference(&PERSISTENT_VOLUMES, &volume.metadata);
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            let text = format!("nobody in this cluster can apply the reclaim policy {policy} to volume {name:?}");
            plan.events.push(EventDraft::warning(about, "VolumeFailedDelete", text));
        }
        _ => set_phase(volume, "Released", now, plan),
    }
}
