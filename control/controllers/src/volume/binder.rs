//! Binds claims to volumes.
//!
//! Wants to be true: each claim that can be satisfied names a volume that names the claim. The volume is written first,
//! under the condition that nobody has written to it meanwhile, so two claims never get the same one; then the claim.
//! A claim whose class waits for its first pod is left alone until the scheduler has chosen a node. A claim that was
//! bound once is never bound to another volume: without its volume it is lost, and that is told.

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::core::Selector;
use serde_json::{Value, json};

use super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, OLDER_PROVISIONER, PROVISIONER, SELECTED_NODE, amount, annotation, capacity,
    claim_of, class, class_of_claim, class_of_volume, is_for, key_of, requested, volume_of, waits,
};
use crate::{
    driver::{Controller, Turn},
    key::Key,
    merge, owner,
    plan::{Action, EventDraft, Plan, Target, reference},
    resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES},
    store::Change,
    world::{Watch, World},
};

/// The controller. Its keys are claims.
pub static CONTROLLER: Controller = Controller {
    name: "persistentvolume-binder",
    resource: PERSISTENT_VOLUME_CLAIMS,
    watches: &[
        Watch::PersistentVolumeClaim(itself),
        Watch::PersistentVolume(of_volume),
        Watch::StorageClass(of_class),
    ],
    reconcile,
};

fn itself(change: &Change<PersistentVolumeClaim>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|claim| Key::of(&claim.metadata)));
}

/// The claims that the volume is or was for, those that name it, and if it is free, those that wait for one like it.
fn of_volume(change: &Change<PersistentVolume>, world: &World, keys: &mut Vec<Key>) {
    keys.extend(change.both().filter_map(|volume| claim_of(volume)).map(key_of));
    let Some(volume) = change.latest() else { return };
    let (name, class) = (
        volume.metadata.name.as_deref().unwrap_or_default(),
        class_of_volume(volume),
    );
    let free = change.new.is_some() && claim_of(volume).is_none();
    let concerned = |claim: &PersistentVolumeClaim| match volume_of(claim) {
        "" => free && class_of_claim(claim) == class,
        named => named == name,
    };
    let claims = world.persistent_volume_claims.all().into_iter();
    keys.extend(
        claims
            .filter(|claim| concerned(claim))
            .map(|claim| Key::of(&claim.metadata)),
    );
}

fn of_class(change: &Change<StorageClass>, world: &World, keys: &mut Vec<Key>) {
    let Some(class) = &change.new else { return };
    let name = class.metadata.name.as_deref().unwrap_or_default();
    let claims = world.persistent_volume_claims.all().into_iter();
    let waiting = claims.filter(|claim| volume_of(claim).is_empty() && class_of_claim(claim) == name);
    keys.extend(waiting.map(|claim| Key::of(&claim.metadata)));
}

/// Decides what to do about one claim.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(claim) = world.persistent_volume_claims.get(key) else {
        return plan;
    };
    let bound = !annotation(&claim.metadata, BIND_COMPLETED).is_empty();
    if claim.metadata.deletion_timestamp.is_some() && !bound {
        return plan;
    }
    let named = volume_of(&claim);
    let volume = world.persistent_volumes.get(&Key::cluster(named));
    match (bound, named, volume) {
        (true, "", _) => lose(
            &claim,
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
            &mut plan,
        ),
        (true, _, None) => lose(
            &claim,
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
            &mut plan,
        ),
        (_, _, Some(volume)) if is_for(&volume, &claim) => bind(&volume, &claim, &mut plan),
        (true, _, Some(volume)) if claim_of(&volume).is_none() => bind(&volume, &claim, &mut plan),
        (true, _, Some(_)) => {
            let text = "Two claims are bound to the same volume, this one is bound incorrectly";
            lose(&claim, "ClaimMisbound", text, &mut plan);
        }
        (false, "", _) => find(&claim, world, &mut plan),
        // The volume that the user chose may still come.
        (false, _, None) => {}
        (false, named, Some(volume)) => match (claim_of(&volume), mismatch(&volume, &claim)) {
            (Some(_), _) => {
                let text = format!("volume {named:?} already bound to a different claim.");
                tell(&claim, true, "FailedBinding", text, &mut plan);
            }
            (None, Some(why)) => {
                let text = format!("Cannot bind to requested volume {named:?}: {why}");
                tell(&claim, true, "VolumeMismatch", text, &mut plan);
            }
            (None, None) => bind(&volume, &claim, &mut plan),
        },
    }
    plan
}

fn tell(claim: &PersistentVolumeClaim, warning: bool, reason: &'static str, message: String, plan: &mut Plan) {
    let about = reference(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata);
    plan.events.push(match warning {
        true => EventDraft::warning(about, reason, message),
        false => EventDraft::normal(about, reason, message),
    });
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    let status = claim.status.as_ref();
    status.and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn lose(claim: &PersistentVolumeClaim, reason: &'static str, message: &str, plan: &mut Plan) {
    if phase(claim) == "Lost" {
        return;
    }
    let patch = json!({"metadata": {"uid": claim.metadata.uid}, "status": {"phase": "Lost"}});
    plan.change(Action::status(
        Target::of(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata),
        patch,
    ));
    tell(claim, true, reason, message.to_owned(), plan);
}

/// Binds both ways, as far as it is not done.
fn bind(volume: &PersistentVolume, claim: &PersistentVolumeClaim, plan: &mut Plan) {
    let (volume_meta, claim_meta) = (&volume.metadata, &claim.metadata);
    let referred = claim_of(volume);
    if referred.is_none_or(|found| found.uid != claim_meta.uid) {
        // A user who wrote the reference wants the volume kept for this claim; ours is taken back with the claim.
        let mark = referred
            .is_none()
            .then_some("yes")
            .or(Some(annotation(volume_meta, BOUND_BY_CONTROLLER)));
        let mark = mark.filter(|mark| !mark.is_empty());
        let patch = json!({
            "metadata": {"uid": volume_meta.uid, "resourceVersion": volume_meta.resource_version,
                "annotations": {BOUND_BY_CONTROLLER: mark}},
            "spec": {"claimRef": reference(&PERSISTENT_VOLUME_CLAIMS, claim_meta)},
        });
        plan.change(Action::merge(Target::of(&PERSISTENT_VOLUMES, volume_meta), patch));
    }
    let target = || Target::of(&PERSISTENT_VOLUME_CLAIMS, claim_meta);
    let chosen = volume_of(claim).is_empty();
    if chosen || annotation(claim_meta, BIND_COMPLETED).is_empty() {
        let mut patch = json!({"metadata": {"uid": claim_meta.uid, "annotations": {BIND_COMPLETED: "yes"}}});
        if chosen {
            crate::template::set(
                &mut patch,
                &["metadata", "annotations", BOUND_BY_CONTROLLER],
                "yes".into(),
            );
            crate::template::set(&mut patch, &["spec", "volumeName"], merge::value(&volume_meta.name));
        }
        plan.change(Action::merge(target(), patch));
    }
    let old = claim.status.clone().unwrap_or_default();
    let mut status = old.clone();
    status.phase = Some("Bound".to_owned());
    status.access_modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.clone());
    // What the expander has not grown yet stays as it was.
    if old.capacity.is_none() {
        status.capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.clone());
    }
    if let Some(patch) = merge::status(claim_meta.uid.as_deref(), &old, &status) {
        plan.change(Action::status(target(), patch));
    }
}

/// Why the volume cannot be the claim's.
fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else {
        return Some("it is not specified");
    };
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let asked = wants.access_modes.as_deref().unwrap_or_default();
    if amount(capacity(volume)) < amount(requested(claim)) {
        return Some("requested PV is too small");
    }
    if class_of_volume(volume) != class_of_claim(claim) {
        return Some("storageClassName does not match");
    }
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    if mode(&has.volume_mode) != mode(&wants.volume_mode) {
        return Some("incompatible volumeMode");
    }
    if !asked.iter().all(|mode| modes.contains(mode)) {
        return Some("incompatible accessMode");
    }
    None
}

/// Looks for a volume, or has one made.
fn find(claim: &PersistentVolumeClaim, world: &World, plan: &mut Plan) {
    let class = class(claim, world);
    let waits = class.as_ref().is_some_and(|class| waits(class));
    if let Some(volume) = best(claim, waits, world) {
        return bind(&volume, claim, plan);
    }
    let scheduled = !annotation(&claim.metadata, SELECTED_NODE).is_empty();
    match class {
        Some(_) if waits && !scheduled => {
            let text = "waiting for first consumer to be created before binding";
            tell(claim, false, "WaitForFirstConsumer", text.to_owned(), plan);
        }
        Some(class) => provision(claim, &class, plan),
        None if class_of_claim(claim).is_empty() => {
            let text = "no persistent volumes available for this claim and no storage class is set";
            tell(claim, false, "FailedBinding", text.to_owned(), plan);
        }
        None => {
            let text = format!("storageclass.storage.k8s.io {:?} not found", class_of_claim(claim));
            tell(claim, true, "ProvisioningFailed", text, plan);
        }
    }
}

/// The volume that is reserved for the claim, or the smallest that will do. A class that waits leaves free volumes to the
/// scheduler, which reserves one that the pod can reach.
fn best(claim: &PersistentVolumeClaim, waits: bool, world: &World) -> Option<std::sync::Arc<PersistentVolume>> {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.clone());
    let selector = selector.map(Selector::try_from);
    let fits = |volume: &PersistentVolume| {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let picked = match &selector {
            None => true,
            Some(Ok(selector)) => owner::selects(selector, &volume.metadata),
            Some(Err(_)) => false,
        };
        picked && phase == Some("Available") && claim_of(volume).is_none() && !waits
    };
    let candidates = world
        .persistent_volumes
        .all()
        .into_iter()
        .filter(|volume| volume.metadata.deletion_timestamp.is_none() && mismatch(volume, claim).is_none());
    let usable = candidates.filter(|volume| is_for(volume, claim) || fits(volume));
    usable.min_by(|a, b| {
        let order = |volume: &PersistentVolume| (!is_for(volume, claim), amount(capacity(volume)));
        order(a)
            .cmp(&order(b))
            .then_with(|| a.metadata.name.cmp(&b.metadata.name))
    })
}

fn provision(claim: &PersistentVolumeClaim, class: &StorageClass, plan: &mut Plan) {
    let provisioner = class.provisioner.as_str();
    if annotation(&claim.metadata, PROVISIONER) != provisioner {
        let annotations: Value = json!({PROVISIONER: provisioner, OLDER_PROVISIONER: provisioner});
        let patch = json!({"metadata": {"uid": claim.metadata.uid, "annotations": annotations}});
        plan.change(Action::merge(
            Target::of(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata),
            patch,
        ));
    }
    let text = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    tell(claim, false, "ExternalProvisioning", text, plan);
}
