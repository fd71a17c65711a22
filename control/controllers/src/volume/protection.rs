//! Keeps claims and volumes from going while they are in use.
//!
//! Wants to be true: each claim and each volume carries the finalizer that holds it; a claim that is being deleted loses
//! it when no pod uses it any more, a volume when it is bound no more. A pod that has ended uses nothing.

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::json;

use super::claims_of;
use crate::{
    driver::{Controller, Turn},
    key::Key,
    plan::{Action, Plan, Target},
    pods,
    resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, Resource},
    store::Change,
    world::{Watch, World},
};

/// The controller of claims.
pub static CLAIMS: Controller = Controller {
    name: "pvc-protection-controller",
    resource: PERSISTENT_VOLUME_CLAIMS,
    watches: &[Watch::PersistentVolumeClaim(claim), Watch::Pod(of_pod)],
    reconcile: |key, world, _| claims(key, world),
};

/// The controller of volumes.
pub static VOLUMES: Controller = Controller {
    name: "pv-protection-controller",
    resource: PERSISTENT_VOLUMES,
    watches: &[Watch::PersistentVolume(volume)],
    reconcile: |key, world, _: &Turn<'_>| volumes(key, world),
};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

fn claim(change: &Change<PersistentVolumeClaim>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|claim| Key::of(&claim.metadata)));
}

fn volume(change: &Change<PersistentVolume>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|volume| Key::of(&volume.metadata)));
}

/// The end of a pod frees its claims.
fn of_pod(change: &Change<Pod>, _: &World, keys: &mut Vec<Key>) {
    let Some(pod) = change.latest() else { return };
    if change.new.as_ref().is_none_or(|pod| pods::is_finished(pod)) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        keys.extend(claims_of(pod).map(|name| Key::new(namespace, &name)));
    }
}

fn claims(key: &Key, world: &World) -> Plan {
    let Some(claim) = world.persistent_volume_claims.get(key) else {
        return Plan::default();
    };
    let used = || {
        let pods = world.pods.in_namespace(&key.namespace);
        let mut using = pods.iter().filter(|pod| !pods::is_finished(pod));
        using.any(|pod| claims_of(pod).any(|name| name == *key.name))
    };
    hold(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata, CLAIM, used)
}

fn volumes(key: &Key, world: &World) -> Plan {
    let Some(volume) = world.persistent_volumes.get(key) else {
        return Plan::default();
    };
    let status = volume.status.as_ref();
    let used = || status.and_then(|status| status.phase.as_deref()) == Some("Bound");
    hold(&PERSISTENT_VOLUMES, &volume.metadata, VOLUME, used)
}

/// Puts the finalizer where it belongs.
fn hold(kind: &Resource, meta: &ObjectMeta, finalizer: &str, used: impl FnOnce() -> bool) -> Plan {
    let mut plan = Plan::default();
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|name| name == finalizer);
    match (meta.deletion_timestamp.is_some(), held) {
        (false, false) => finalizers.push(finalizer.to_owned()),
        (true, true) if !used() => finalizers.retain(|name| name != finalizer),
        _ => return plan,
    }
    let patch =
        json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers}});
    plan.change(Action::merge(Target::of(kind, meta), patch));
    plan
}
