//! Takes back what is not used any more: reservations of pods that have ended, then the allocation, and claims that were
//! made for such pods.
//!
//! Wants to be true: a claim is reserved for pods only that may still run; one that nobody uses any more is allocated no
//! more, so that its devices serve others and it can be allocated elsewhere; one that was made for a pod does not outlive
//! the pod's end. A reservation is only taken back when it is sure that the pod has ended: one that is not known is looked
//! up live, for the scheduler may have been told of it first.
//!
//! The finalizer that holds an allocated claim stays until the claim is deleted: the scheduler puts it there just before it
//! allocates, and taking it away from a claim that is free would meet that.

use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{ResourceClaim, ResourceClaimConsumerReference},
};
use serde_json::{Value, json};

use super::{FINALIZER, is_allocated, is_done, name, of_spec};
use crate::{
    ask::Ask,
    driver::{Controller, Turn},
    key::Key,
    owner,
    plan::{Action, Plan, Target},
    resource::{PODS, RESOURCE_CLAIMS},
    store::{self, Change},
    world::{Watch, World},
};

/// The controller. Its keys are claims.
pub static CONTROLLER: Controller = Controller {
    name: "resourceclaim-release-controller",
    resource: RESOURCE_CLAIMS,
    watches: &[Watch::ResourceClaim(of_claim), Watch::Pod(of_pod)],
    reconcile,
};

fn of_claim(change: &Change<ResourceClaim>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|claim| Key::of(&claim.metadata)));
}

/// The end of a pod frees its claims.
fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    let Some(pod) = change.latest() else { return };
    if of_spec(pod).next().is_none() || change.new.as_ref().is_some_and(|pod| !is_done(pod)) {
        return;
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let named = of_spec(pod).filter_map(|claim| name(pod, claim));
    keys.extend(named.map(|name| Key::new(namespace, name)));
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let own = world.resource_claims.controlled_by(namespace, uid);
    keys.extend(own.iter().map(|claim| Key::of(&claim.metadata)));
}

fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(claim) = world.resource_claims.get(key) else {
        return plan;
    };
    let status = claim.status.as_ref();
    let reserved = status
        .and_then(|status| status.reserved_for.as_deref())
        .unwrap_or_default();
    let mut kept: Vec<&ResourceClaimConsumerReference> = Vec::new();
    for consumer in reserved {
        match may_run(consumer, key, world, turn, &mut plan) {
            Some(true) => kept.push(consumer),
            Some(false) => {}
            // The server is asked first.
            None => return plan,
        }
    }
    let (meta, held) = (&claim.metadata, is_held(&claim));
    let going = meta.deletion_timestamp.is_some();
    let target = Target::of(&RESOURCE_CLAIMS, meta);
    // Both are bound to what was seen.
    let of_status = |status: Value| json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, "status": status});
    let of_finalizers = |finalizers: Vec<&String>| json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers}});
    if kept.len() < reserved.len() {
        let status = match kept.is_empty() && held {
            true => json!({"reservedFor": null, "allocation": null, "devices": null}),
            false => json!({"reservedFor": kept}),
        };
        plan.change(Action::status(target, of_status(status)));
    } else if going && held && kept.is_empty() {
        if is_allocated(&claim) {
            let status = json!({"allocation": null, "devices": null});
            plan.change(Action::status(target, of_status(status)));
        } else {
            let others = meta.finalizers.iter().flatten().filter(|name| *name != FINALIZER);
            plan.change(Action::merge(target, of_finalizers(others.collect())));
        }
    } else if !going && kept.is_empty() && has_outlived_its_pod(&claim, world) {
        plan.change(Action::delete(&RESOURCE_CLAIMS, meta));
    }
    plan
}

fn is_held(claim: &ResourceClaim) -> bool {
    let mut finalizers = claim.metadata.finalizers.iter().flatten();
    finalizers.any(|name| name == FINALIZER)
}

/// Whether who has the reservation may still use the claim; `None` as long as the server has to be asked.
fn may_run(
    consumer: &ResourceClaimConsumerReference,
    claim: &Key,
    world: &World,
    turn: &Turn<'_>,
    plan: &mut Plan,
) -> Option<bool> {
    let group = consumer.api_group.as_deref().unwrap_or_default();
    if !group.is_empty() || consumer.resource != "pods" {
        // Whatever that is, it is not for us to judge.
        return Some(true);
    }
    if let Some(pod) = world.pods.get(&Key::new(&claim.namespace, &consumer.name)) {
        return Some(pod.metadata.uid.as_ref() == Some(&consumer.uid) && !is_done(&pod));
    }
    let path = format!("{}/{}", PODS.path(&claim.namespace), consumer.name);
    match turn.ask(Ask::get(path), plan)? {
        Ok(pod) => Some(pod.pointer("/metadata/uid").and_then(Value::as_str) == Some(&consumer.uid)),
        Err(failure) => Some(failure.code != 404),
    }
}

/// Whether the claim was made for a pod that will not run any more. One that is not known is the garbage collector's.
fn has_outlived_its_pod(claim: &ResourceClaim, world: &World) -> bool {
    let Some(owner) = owner::controller_key(&claim.metadata, &PODS) else {
        return false;
    };
    let pod = world.pods.get(&owner);
    pod.is_some_and(|pod| pod.metadata.uid.as_deref() != Some(store::controller_uid(&claim.metadata)) || is_done(&pod))
}
