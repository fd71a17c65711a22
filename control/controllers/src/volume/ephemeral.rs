//! Claims of pods' own: a volume that a pod describes is a claim that comes and goes with the pod.
//!
//! Wants to be true: each such volume has its claim `<pod>-<volume>`, owned by the pod. A claim of that name that belongs
//! to somebody else is never used; that is told.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use serde_json::{Value, json};

use crate::{
    driver::{Controller, Turn},
    key::Key,
    merge, owner,
    plan::{Action, EventDraft, Plan, controller_of, reference},
    pods,
    resource::{PERSISTENT_VOLUME_CLAIMS, PODS},
    store::{self, Change},
    world::{Watch, World},
};

/// The controller. Its keys are pods.
pub static CONTROLLER: Controller = Controller {
    name: "ephemeral-volume-controller",
    resource: PODS,
    watches: &[Watch::Pod(of_pod), Watch::PersistentVolumeClaim(of_claim)],
    reconcile,
};

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let all = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    all.filter(|volume| volume.ephemeral.is_some())
}

fn of_pod(change: &Change<Pod>, _: &World, keys: &mut Vec<Key>) {
    let fresh = change.new.as_ref().filter(|_| change.old.is_none());
    keys.extend(
        fresh
            .filter(|pod| volumes(pod).next().is_some())
            .map(|pod| Key::of(&pod.metadata)),
    );
}

/// A claim that goes while its pod stays is made again.
fn of_claim(change: &Change<PersistentVolumeClaim>, _: &World, keys: &mut Vec<Key>) {
    let gone = change.old.as_ref().filter(|_| change.new.is_none());
    keys.extend(gone.and_then(|claim| owner::controller_key(&claim.metadata, &PODS)));
}

/// Decides what to do about one pod.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(pod) = world.pods.get(key).filter(|pod| pods::is_active(pod)) else {
        return plan;
    };
    for volume in volumes(&pod) {
        let name = format!("{}-{}", key.name, volume.name);
        match world.persistent_volume_claims.get(&Key::new(&key.namespace, &name)) {
            None => plan.change(Action::create(
                &PERSISTENT_VOLUME_CLAIMS,
                &key.namespace,
                claim(&pod, volume, &name),
            )),
            Some(claim) if Some(store::controller_uid(&claim.metadata)) == pod.metadata.uid.as_deref() => {}
            Some(_) => {
                let text = format!(
                    "ephemeral volume {}: PVC {}/{name} was not created for pod {key} (pod is not owner)",
                    volume.name, key.namespace
                );
                let about = reference(&PODS, &pod.metadata);
                plan.events.push(EventDraft::warning(about, "FailedCreate", text));
            }
        }
    }
    plan
}

fn claim(pod: &Pod, volume: &Volume, name: &str) -> Value {
    let template = volume
        .ephemeral
        .as_ref()
        .and_then(|source| source.volume_claim_template.as_ref());
    let meta = template.and_then(|template| template.metadata.as_ref());
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": pod.metadata.namespace,
            "labels": meta.and_then(|meta| meta.labels.clone()),
            "annotations": meta.and_then(|meta| meta.annotations.clone()),
            "ownerReferences": [controller_of(&PODS, &pod.metadata)],
        },
        "spec": template.map(|template| merge::value(&template.spec)),
    })
}
