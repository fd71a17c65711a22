//! Makes volumes of the cluster's own class: a directory on the node of the first pod that uses it.
//!
//! Wants to be true: a claim that asks this provisioner has a volume `pvc-<uid>`, which says on which node it is; the
//! node makes the directory `volumes/<name>` under its data directory when a pod mounts it. The name follows from the
//! claim, so a claim never gets two.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use serde_json::json;

use super::{PROVISIONED_BY, SELECTED_NODE, annotation, asked_provisioner, class, requested, volume_of, waits};
use crate::{
    driver::{Controller, Turn},
    key::Key,
    plan::{Action, EventDraft, Note, Plan, Target, reference},
    resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES},
    store::Change,
    world::{Watch, World},
};

/// What classes call it.
pub const NAME: &str = "coracle.dev/node-local";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The controller. Its keys are claims.
pub static CONTROLLER: Controller = Controller {
    name: "node-local-provisioner",
    resource: PERSISTENT_VOLUME_CLAIMS,
    watches: &[Watch::PersistentVolumeClaim(itself), Watch::PersistentVolume(of_volume)],
    reconcile,
};

fn itself(change: &Change<PersistentVolumeClaim>, _: &World, keys: &mut Vec<Key>) {
    let ours = change.new.as_ref().filter(|claim| asked_provisioner(claim) == NAME);
    keys.extend(ours.map(|claim| Key::of(&claim.metadata)));
}

/// A volume that is deleted before its claim has named it is made again.
fn of_volume(change: &Change<PersistentVolume>, _: &World, keys: &mut Vec<Key>) {
    let gone = change.old.as_ref().filter(|_| change.new.is_none());
    keys.extend(gone.and_then(|volume| super::claim_of(volume)).map(super::key_of));
}

/// Decides what to do about one claim.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let claim = world.persistent_volume_claims.get(key);
    let Some(claim) = claim.filter(|claim| claim.metadata.deletion_timestamp.is_none()) else {
        return plan;
    };
    let Some(class) = class(&claim, world).filter(|class| class.provisioner == NAME) else {
        return plan;
    };
    let name = format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default());
    let asked = asked_provisioner(&claim) == NAME && volume_of(&claim).is_empty();
    if !asked || world.persistent_volumes.get(&Key::cluster(&name)).is_some() {
        return plan;
    }
    let about = || reference(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata);
    if claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block") {
        let text = format!("failed to provision volume: {NAME} makes directories and no block devices");
        plan.events
            .push(EventDraft::warning(about(), "ProvisioningFailed", text));
        return plan;
    }
    let selected = annotation(&claim.metadata, SELECTED_NODE);
    let node = match (waits(&class), selected) {
        (true, "") => return plan,
        (_, selected) if !selected.is_empty() => world.nodes.get(&Key::cluster(selected)),
        _ => least_used(world),
    };
    let Some(node) = node else {
        let text = format!("failed to provision volume: there is no node {selected:?}");
        plan.events
            .push(EventDraft::warning(about(), "ProvisioningFailed", text));
        if !selected.is_empty() {
            // The scheduler chooses again.
            let patch = json!({"metadata": {"uid": claim.metadata.uid, "annotations": {SELECTED_NODE: null}}});
            plan.change(Action::merge(
                Target::of(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata),
                patch,
            ));
        }
        return plan;
    };
    plan.change(volume(&name, &claim, &class, &node).noting(Note {
        about: about(),
        success: Some((
            "ProvisioningSucceeded",
            format!("Successfully provisioned volume {name}"),
        )),
        failure: Some(("ProvisioningFailed", "failed to provision volume: {error}".to_owned())),
    }));
    plan
}

/// The node with the fewest volumes, for claims that do not wait for a pod.
fn least_used(world: &World) -> Option<Arc<Node>> {
    let volumes = world.persistent_volumes.all();
    let used = |node: &Node| {
        let host = hostname(node);
        volumes.iter().filter(|volume| host_of(volume) == Some(host)).count()
    };
    let usable = world
        .nodes
        .all()
        .into_iter()
        .filter(|node| node.metadata.deletion_timestamp.is_none());
    usable.min_by(|a, b| {
        used(a)
            .cmp(&used(b))
            .then_with(|| a.metadata.name.cmp(&b.metadata.name))
    })
}

fn hostname(node: &Node) -> &str {
    let labels = node.metadata.labels.as_ref();
    let label = labels
        .and_then(|labels| labels.get(HOSTNAME))
        .or(node.metadata.name.as_ref());
    label.map_or("", String::as_str)
}

fn host_of(volume: &PersistentVolume) -> Option<&str> {
    let terms = &volume
        .spec
        .as_ref()?
        .node_affinity
        .as_ref()?
        .required
        .as_ref()?
        .node_selector_terms;
    let expressions = terms.first()?.match_expressions.as_deref()?;
    let host = expressions.iter().find(|expression| expression.key == HOSTNAME)?;
    host.values.as_ref()?.first().map(String::as_str)
}

fn volume(name: &str, claim: &PersistentVolumeClaim, class: &StorageClass, node: &Node) -> Action {
    let spec = claim.spec.as_ref();
    let host = json!({"key": HOSTNAME, "operator": "In", "values": [hostname(node)]});
    let body = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: NAME}},
        "spec": {
            "accessModes": spec.and_then(|spec| spec.access_modes.clone()),
            "capacity": {"storage": requested(claim)},
            "claimRef": reference(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata),
            "local": {"path": format!("/volumes/{name}")},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.metadata.name,
            "volumeMode": "Filesystem",
        },
    });
    Action::create(&PERSISTENT_VOLUMES, "", body)
}
