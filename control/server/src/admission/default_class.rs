//! Claims and Ingresses that name no class get the cluster's default one, if there is one.

use coracle_api::object;
use coracle_store::Snapshot;
use memchr::memmem;
use serde_json::{Value, json};

use super::Request;
use crate::document;

const STORAGE: &str = "storageclass.kubernetes.io/is-default-class";
const OLDER_STORAGE: &str = "storageclass.beta.kubernetes.io/is-default-class";
const INGRESS: &str = "ingressclass.kubernetes.io/is-default-class";

/// The class of a new claim. A claim that says `""` wants none.
pub(super) fn storage(request: &Request<'_>, claim: &mut Value) {
    let said = object::get(claim, "spec.storageClassName").is_some()
        || object::annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some();
    if said {
        return;
    }
    if let Some(name) = newest(
        request.snapshot,
        "storageclasses.storage.k8s.io/",
        &[STORAGE, OLDER_STORAGE],
    ) {
        object::set(claim, "spec.storageClassName", json!(name));
    }
}

/// The class of a new Ingress.
pub(super) fn ingress(request: &Request<'_>, ingress: &mut Value) {
    let said = object::get(ingress, "spec.ingressClassName").is_some()
        || object::annotation(ingress, "kubernetes.io/ingress.class").is_some();
    if said {
        return;
    }
    if let Some(name) = newest(request.snapshot, "ingressclasses.networking.k8s.io/", &[INGRESS]) {
        object::set(ingress, "spec.ingressClassName", json!(name));
    }
}

/// The default class. With several, the newest, and of those of one second the first by name.
fn newest(snapshot: &Snapshot, prefix: &str, marks: &[&str]) -> Option<String> {
    let records = snapshot
        .range(prefix, None)
        .filter(|record| memmem::find(&record.json, b"is-default-class").is_some());
    let classes = records.filter_map(|record| document::tree(record).ok());
    let marked = classes.filter(|class| marks.iter().any(|mark| object::annotation(class, mark) == Some("true")));
    let best = marked.reduce(|best, class| {
        if object::creation_timestamp(&class) > object::creation_timestamp(&best) {
            class
        } else {
            best
        }
    })?;
    Some(object::name(&best).to_owned())
}
