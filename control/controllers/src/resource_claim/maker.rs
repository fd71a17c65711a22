//! Makes the claims that pods describe by a template, and tells the pods their names.
//!
//! Wants to be true: each claim of a pod that names a template is an object of its own, owned by the pod and annotated with
//! the name that it has there, and the pod's status says what it is called. A pod that came to its node without the
//! scheduler has the claims reserved that somebody allocated.

use k8s_openapi::api::{
    core::v1::{Pod, PodResourceClaim, PodResourceClaimStatus},
    resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate},
};
use serde_json::{Value, json};

use super::{POD_CLAIM_NAME, is_allocated, name, of_spec};
use crate::{
    driver::{Controller, Turn},
    key::Key,
    merge, owner,
    plan::{Action, EventDraft, Plan, Target, controller_of, reference},
    pods,
    resource::{PODS, RESOURCE_CLAIMS},
    store::{self, Change},
    world::{Watch, World},
};

/// The longest generated name without what the server adds, in bytes: names have 63 at most, as labels.
const BASE_LIMIT_BYTES: usize = 57;
/// How many may use a claim at once: Kubernetes' own number.
const CONSUMERS_LIMIT: usize = 256;

/// The controller. Its keys are pods.
pub static CONTROLLER: Controller = Controller {
    name: "resourceclaim-controller",
    resource: PODS,
    watches: &[
        Watch::Pod(of_pod),
        Watch::ResourceClaim(of_claim),
        Watch::ResourceClaimTemplate(of_template),
    ],
    reconcile,
};

fn of_pod(change: &Change<Pod>, _: &World, keys: &mut Vec<Key>) {
    let Some(pod) = &change.new else { return };
    // It matters when it comes, when it gets its node, and when it is told the names of its claims.
    let news = |old: &Pod| {
        let told = |pod: &Pod| {
            pod.status
                .as_ref()
                .and_then(|status| status.resource_claim_statuses.clone())
        };
        pods::node(old) != pods::node(pod) || told(old) != told(pod)
    };
    if of_spec(pod).next().is_some() && change.old.as_deref().is_none_or(news) {
        keys.push(Key::of(&pod.metadata));
    }
}

/// A claim that came is told of, and one that goes while its pod stays is made again.
fn of_claim(change: &Change<ResourceClaim>, _: &World, keys: &mut Vec<Key>) {
    if change.old.is_none() || change.new.is_none() {
        let claim = change.latest();
        keys.extend(claim.and_then(|claim| owner::controller_key(&claim.metadata, &PODS)));
    }
}

/// Pods may have waited for the template.
fn of_template(change: &Change<ResourceClaimTemplate>, world: &World, keys: &mut Vec<Key>) {
    let Some(template) = change.new.as_ref().filter(|_| change.old.is_none()) else {
        return;
    };
    let namespace = template.metadata.namespace.as_deref().unwrap_or_default();
    let waits = |pod: &Pod| {
        let mut claims = of_spec(pod);
        claims.any(|claim| claim.resource_claim_template_name == template.metadata.name && name(pod, claim).is_none())
    };
    let pods = world.pods.in_namespace(namespace);
    keys.extend(pods.iter().filter(|pod| waits(pod)).map(|pod| Key::of(&pod.metadata)));
}

fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(pod) = world.pods.get(key).filter(|pod| pods::is_active(pod)) else {
        return plan;
    };
    let (mut told, mut missing) = (Vec::new(), false);
    for claim in of_spec(&pod).filter(|claim| claim.resource_claim_template_name.is_some()) {
        match made(&pod, claim, world) {
            Some(made) => told.push(PodResourceClaimStatus {
                name: claim.name.clone(),
                resource_claim_name: made,
            }),
            None => {
                missing = true;
                make(&pod, claim, world, &mut plan);
            }
        }
    }
    let before = pod
        .status
        .as_ref()
        .and_then(|status| status.resource_claim_statuses.clone());
    if !missing && !told.is_empty() && before.as_ref() != Some(&told) {
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"resourceClaimStatuses": told}});
        plan.change(Action::status(Target::of(&PODS, &pod.metadata), patch));
    }
    if pods::node(&pod).is_some() {
        reserve(&pod, world, &mut plan);
    }
    plan
}

/// The name of the claim that was made for the pod; `Some(None)` if it turned out that none is needed.
fn made(pod: &Pod, claim: &PodResourceClaim, world: &World) -> Option<Option<String>> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut statuses = pod
        .status
        .iter()
        .flat_map(|status| status.resource_claim_statuses.iter().flatten());
    if let Some(status) = statuses.find(|status| status.name == claim.name) {
        let Some(name) = &status.resource_claim_name else {
            return Some(None);
        };
        let found = world.resource_claims.get(&Key::new(namespace, name));
        if found.is_some_and(|found| store::controller_uid(&found.metadata) == uid) {
            return Some(Some(name.clone()));
        }
    }
    // One that was made, and of which the pod was not told.
    let own = world.resource_claims.controlled_by(namespace, uid);
    let is_it = |found: &ResourceClaim| {
        let annotations = found.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(POD_CLAIM_NAME)) == Some(&claim.name)
    };
    let found = own
        .iter()
        .find(|found| is_it(found) && found.metadata.deletion_timestamp.is_none())?;
    Some(found.metadata.name.clone())
}

fn make(pod: &Pod, claim: &PodResourceClaim, world: &World, plan: &mut Plan) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let named = claim.resource_claim_template_name.as_deref().unwrap_or_default();
    let Some(template) = world.resource_claim_templates.get(&Key::new(namespace, named)) else {
        let text = format!(
            "PodResourceClaim {}: resource claim template \"{named}\": resourceclaimtemplate.resource.k8s.io \"{named}\" not found",
            claim.name
        );
        let about = reference(&PODS, &pod.metadata);
        plan.events
            .push(EventDraft::warning(about, "FailedResourceClaimCreation", text));
        return;
    };
    let body = body(pod, claim, &template);
    let about = reference(&PODS, &pod.metadata);
    let text = format!("PodResourceClaim {}: create ResourceClaim : {{error}}", claim.name);
    plan.change(
        Action::create(&RESOURCE_CLAIMS, namespace, body).noting(crate::plan::Note {
            about,
            success: None,
            failure: Some(("FailedResourceClaimCreation", text)),
        }),
    );
}

fn body(pod: &Pod, claim: &PodResourceClaim, template: &ResourceClaimTemplate) -> Value {
    let meta = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(POD_CLAIM_NAME.to_owned(), claim.name.clone());
    json!({
        "apiVersion": RESOURCE_CLAIMS.api_version(),
        "kind": "ResourceClaim",
        "metadata": {
            "generateName": base(pod.metadata.name.as_deref().unwrap_or_default(), &claim.name),
            "namespace": pod.metadata.namespace,
            "labels": meta.labels,
            "annotations": annotations,
            "ownerReferences": [controller_of(&PODS, &pod.metadata)],
        },
        "spec": merge::value(&template.spec.spec),
    })
}

/// `<pod>-<claim>-`, both shortened alike if that is too long. Names are ASCII.
fn base(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= BASE_LIMIT_BYTES {
        return whole;
    }
    let part = |name: &str| -> String { name.chars().take(name.len() * BASE_LIMIT_BYTES / whole.len()).collect() };
    format!("{}-{}", part(pod), part(claim))
}

/// Reserves what is allocated for a pod that has its node already.
fn reserve(pod: &Pod, world: &World, plan: &mut Plan) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    for claim in of_spec(pod) {
        let Some(name) = name(pod, claim) else { continue };
        let found = world.resource_claims.get(&Key::new(namespace, name));
        let usable = |found: &ResourceClaim| {
            let own = claim.resource_claim_name.is_some() || store::controller_uid(&found.metadata) == uid;
            own && is_allocated(found) && found.metadata.deletion_timestamp.is_none()
        };
        let Some(found) = found.filter(|found| usable(found)) else {
            continue;
        };
        let status = found.status.as_ref();
        let mut reserved = status
            .and_then(|status| status.reserved_for.clone())
            .unwrap_or_default();
        if reserved.iter().any(|consumer| consumer.uid == uid) || reserved.len() >= CONSUMERS_LIMIT {
            continue;
        }
        reserved.push(ResourceClaimConsumerReference {
            api_group: None,
            resource: "pods".to_owned(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: uid.to_owned(),
        });
        let meta = &found.metadata;
        let patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
            "status": {"reservedFor": reserved}});
        plan.change(Action::status(Target::of(&RESOURCE_CLAIMS, meta), patch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened_alike() {
        assert_eq!(base("web", "gpu"), "web-gpu-");
        let long = base(&"p".repeat(60), &"c".repeat(30));
        assert_eq!(long, format!("{}-{}", "p".repeat(37), "c".repeat(18)));
        assert!(long.len() <= BASE_LIMIT_BYTES);
    }
}
