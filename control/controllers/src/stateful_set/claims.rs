//! What becomes of the claims of a StatefulSet's pods: those that a policy dooms get an owner whose end is theirs.

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use serde_json::Value;

use super::pod;
use crate::{
    key::Key,
    merge, owner,
    plan::{Action, Note, Plan, controller_of, reference},
    resource::{PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS},
    world::World,
};

/// Which ends take the claims along.
#[derive(Clone, Copy)]
struct Retention {
    deleted: bool,
    scaled: bool,
}

impl Retention {
    fn of(set: &StatefulSet) -> Self {
        let policy = set
            .spec
            .as_ref()
            .and_then(|s| s.persistent_volume_claim_retention_policy.as_ref());
        let deletes = |when: Option<&String>| when.is_some_and(|w| w == "Delete");
        Self {
            deleted: deletes(policy.and_then(|p| p.when_deleted.as_ref())),
            scaled: deletes(policy.and_then(|p| p.when_scaled.as_ref())),
        }
    }
}

/// Plans the claims that the pod with that name lacks.
pub fn create_missing(set: &StatefulSet, pod_name: &str, world: &World, plan: &mut Plan) {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let owners: Vec<OwnerReference> = if Retention::of(set).deleted {
        vec![controller_of(&STATEFUL_SETS, &set.metadata)]
    } else {
        Vec::new()
    };
    for template in pod::claims(set) {
        let name = pod::claim_name(template, pod_name);
        if world
            .persistent_volume_claims
            .get(&Key::new(namespace, &name))
            .is_some()
        {
            continue;
        }
        let set_name = set.metadata.name.as_deref().unwrap_or_default();
        let body = pod::claim(set, template, pod_name, &merge::value(&owners));
        let what = format!("create Claim {name} Pod {pod_name} in StatefulSet {set_name}");
        plan.change(Action::create(&PERSISTENT_VOLUME_CLAIMS, namespace, body).noting(Note {
            about: reference(&STATEFUL_SETS, &set.metadata),
            success: Some(("SuccessfulCreate", format!("{what} success"))),
            failure: Some(("FailedCreate", format!("{what} failed error: {{error}}"))),
        }));
    }
}

/// Whether a claim of a pod that is not there is about to go: it is being deleted, or was to end with an earlier pod of that name. A new
/// pod would keep it from going, and lose it with its own end.
pub fn are_going(set: &StatefulSet, pod_name: &str, world: &World) -> bool {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let of_pod = |owner: &OwnerReference| owner.kind == PODS.kind && owner.name == pod_name;
    pod::claims(set).any(|template| {
        let key = Key::new(namespace, &pod::claim_name(template, pod_name));
        world.persistent_volume_claims.get(&key).is_some_and(|claim| {
            let metadata = &claim.metadata;
            metadata.deletion_timestamp.is_some() || metadata.owner_references.iter().flatten().any(of_pod)
        })
    })
}

/// Plans that the claims of an existing pod are owned as the policy says; `condemned` if the pod is to go for good.
pub fn own(set: &StatefulSet, of: &Pod, condemned: bool, world: &World, plan: &mut Plan) {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let pod_name = of.metadata.name.as_deref().unwrap_or_default();
    let retention = Retention::of(set);
    let by_pod = condemned && retention.scaled;
    let by_set = retention.deleted && !by_pod;
    for template in pod::claims(set) {
        let key = Key::new(namespace, &pod::claim_name(template, pod_name));
        let Some(claim) = world.persistent_volume_claims.get(&key) else {
            continue;
        };
        let set_owner = by_set.then(|| controller_of(&STATEFUL_SETS, &set.metadata));
        let pod_owner = by_pod.then(|| controller_of(&PODS, &of.metadata));
        let wanted: Vec<OwnerReference> = set_owner.into_iter().chain(pod_owner).collect();
        if let Some(action) = owned(&claim, set, of, wanted) {
            plan.change(action);
        }
    }
}

/// The write that leaves the claim with `wanted` instead of the set and the pod as owners; `None` if it is so.
fn owned(claim: &PersistentVolumeClaim, set: &StatefulSet, of: &Pod, wanted: Vec<OwnerReference>) -> Option<Action> {
    let before = claim.metadata.owner_references.clone().unwrap_or_default();
    let ours = |o: &OwnerReference| {
        [&set.metadata.uid, &of.metadata.uid]
            .into_iter()
            .flatten()
            .any(|uid| *uid == o.uid)
    };
    let uids = |owners: &[OwnerReference]| -> Vec<String> {
        let mut uids: Vec<String> = owners.iter().filter(|o| ours(o)).map(|o| o.uid.clone()).collect();
        uids.sort();
        uids
    };
    if uids(&before) == uids(&wanted) {
        return None;
    }
    let mut owners: Vec<OwnerReference> = before.into_iter().filter(|o| !ours(o)).collect();
    owners.extend(wanted);
    let owners: Value = merge::value(&owners);
    Some(owner::set_owners(&claim.metadata, &PERSISTENT_VOLUME_CLAIMS, &owners))
}
