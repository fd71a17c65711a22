//! The pods of a StatefulSet: named by ordinal, each with claims of its own.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec},
};
use serde_json::{Value, json};

use crate::{history, merge, plan::controller_of, resource::STATEFUL_SETS, template};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The name of the pod with that ordinal.
#[must_use]
pub fn name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

/// The ordinal of a pod of that set; `None` if its name says that it is none.
#[must_use]
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, number) = pod.metadata.name.as_deref()?.rsplit_once('-')?;
    let ordinal: i32 = number.parse().ok()?;
    // `web-01` is nobody's.
    (Some(parent) == set.metadata.name.as_deref() && ordinal.to_string() == number).then_some(ordinal)
}

/// The claims that the set's pods have, as its templates say.
pub fn claims(set: &StatefulSet) -> impl Iterator<Item = &PersistentVolumeClaim> {
    set.spec
        .iter()
        .flat_map(|spec| spec.volume_claim_templates.iter().flatten())
}

/// The name of a pod's claim.
#[must_use]
pub fn claim_name(template: &PersistentVolumeClaim, pod: &str) -> String {
    format!("{}-{pod}", template.metadata.name.as_deref().unwrap_or_default())
}

/// The pod with that ordinal, of that revision.
#[must_use]
pub fn of(set: &StatefulSet, from: &PodTemplateSpec, revision: &str, ordinal: i32) -> Value {
    let name = name(set, ordinal);
    let mut pod = template::pod(Some(from), &controller_of(&STATEFUL_SETS, &set.metadata));
    let labels = [
        (POD_NAME, name.clone()),
        (POD_INDEX, ordinal.to_string()),
        (history::LABEL, revision.to_owned()),
    ];
    for (label, value) in labels {
        template::set(&mut pod, &["metadata", "labels", label], value.into());
    }
    let service = set
        .spec
        .as_ref()
        .and_then(|s| s.service_name.clone())
        .unwrap_or_default();
    template::set(&mut pod, &["metadata", "name"], name.clone().into());
    template::set(&mut pod, &["spec", "hostname"], name.clone().into());
    if !service.is_empty() {
        template::set(&mut pod, &["spec", "subdomain"], service.into());
    }
    let volumes = pod
        .pointer_mut("/spec/volumes")
        .and_then(Value::as_array_mut)
        .map(std::mem::take);
    let mut volumes = volumes.unwrap_or_default();
    for claim in claims(set) {
        let volume = claim.metadata.name.as_deref().unwrap_or_default();
        volumes.retain(|v| v.get("name").and_then(Value::as_str) != Some(volume));
        volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim_name(claim, &name)}}));
    }
    if !volumes.is_empty() {
        template::set(&mut pod, &["spec", "volumes"], volumes.into());
    }
    pod
}

/// The claim of the pod with that name, owned as `owners` say.
#[must_use]
pub fn claim(set: &StatefulSet, from: &PersistentVolumeClaim, pod: &str, owners: &Value) -> Value {
    let selector = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone());
    let mut labels = from.metadata.labels.clone().unwrap_or_default();
    labels.extend(selector.unwrap_or_default());
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim_name(from, pod), "namespace": set.metadata.namespace, "labels": labels,
            "annotations": from.metadata.annotations, "ownerReferences": owners,
        },
        "spec": from.spec.as_ref().map(merge::value),
    })
}
