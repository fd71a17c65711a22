//! Which ReplicaSet is the new one, and the history that `kubectl rollout` reads.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::PodTemplateSpec,
};

/// The label that tells the pods of one ReplicaSet from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";
/// The number of a revision, on the Deployment and its ReplicaSets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier numbers of a revision that came back.
pub const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// How many replicas the Deployment wanted when the ReplicaSet was last sized.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// How many there may be at most during a rollout, at that time.
pub const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that are about itself and are not passed on.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];

/// Letters and digits that spell no words and cannot be mistaken for each other.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short name for a template: the same for equal templates, another after a collision.
#[must_use]
pub fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let text = crate::merge::value(template).to_string();
    let salt = if collisions > 0 {
        collisions.to_string()
    } else {
        String::new()
    };
    let hash = text.bytes().chain(salt.bytes()).fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let digits = hash.to_string();
    digits
        .bytes()
        .map(|digit| char::from(*ALPHABET.get(usize::from(digit - b'0')).unwrap_or(&b'x')))
        .collect()
}

/// Whether two templates ask for the same pods, whatever their hash labels say.
#[must_use]
pub fn same_template(a: Option<&PodTemplateSpec>, b: Option<&PodTemplateSpec>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return false };
    if a.spec != b.spec {
        return false;
    }
    let bare = |t: &PodTemplateSpec| {
        let mut meta = t.metadata.clone().unwrap_or_default();
        let mut labels = meta.labels.take().unwrap_or_default();
        labels.remove(HASH_LABEL);
        // Absent and empty are the same.
        let annotations = meta.annotations.take().unwrap_or_default();
        (
            labels,
            annotations,
            meta.finalizers.unwrap_or_default(),
            meta.name,
            meta.namespace,
        )
    };
    bare(a) == bare(b)
}

/// The ReplicaSet with the Deployment's template, the oldest of several; and all others.
#[must_use]
pub fn split(d: &Deployment, mut sets: Vec<Arc<ReplicaSet>>) -> (Option<Arc<ReplicaSet>>, Vec<Arc<ReplicaSet>>) {
    sets.sort_by(|a, b| age_key(a).cmp(&age_key(b)));
    let template = d.spec.as_ref().map(|spec| &spec.template);
    let is_new = |rs: &Arc<ReplicaSet>| same_template(template, rs.spec.as_ref().and_then(|s| s.template.as_ref()));
    match sets.iter().position(is_new) {
        Some(at) => (Some(sets.remove(at)), sets),
        None => (None, sets),
    }
}

/// Orders ReplicaSets from the oldest on.
#[must_use]
pub fn age_key(rs: &ReplicaSet) -> (Option<jiff::Timestamp>, Option<&str>) {
    (
        rs.metadata.creation_timestamp.as_ref().map(|t| t.0),
        rs.metadata.name.as_deref(),
    )
}

/// The annotation's value as a number.
#[must_use]
pub fn number(rs: &ReplicaSet, annotation: &str) -> Option<i64> {
    rs.metadata.annotations.as_ref()?.get(annotation)?.parse().ok()
}

/// The number that the new ReplicaSet should have: one more than all others.
#[must_use]
pub fn next(others: &[Arc<ReplicaSet>]) -> i64 {
    others
        .iter()
        .filter_map(|rs| number(rs, REVISION))
        .max()
        .unwrap_or(0)
        .saturating_add(1)
}

/// The annotations that the new ReplicaSet should have, given those it has.
#[must_use]
pub fn annotations(d: &Deployment, current: &BTreeMap<String, String>, revision: i64) -> BTreeMap<String, String> {
    let mut wanted = current.clone();
    let own = d.metadata.annotations.iter().flatten();
    for (name, value) in own.filter(|(name, _)| !OWN.contains(&name.as_str())) {
        wanted.insert(name.clone(), value.clone());
    }
    let before = current.get(REVISION);
    let old = before.and_then(|r| r.parse::<i64>().ok()).unwrap_or(0);
    if old < revision {
        wanted.insert(REVISION.to_owned(), revision.to_string());
        if let Some(before) = before.filter(|_| old > 0) {
            let history = current.get(HISTORY).filter(|h| !h.is_empty());
            let history = history.map_or_else(|| before.clone(), |h| format!("{h},{before}"));
            wanted.insert(HISTORY.to_owned(), history);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(image: &str, hash: Option<&str>) -> PodTemplateSpec {
        let mut labels = json!({"app": "web"});
        if let Some(hash) = hash {
            labels[HASH_LABEL] = hash.into();
        }
        serde_json::from_value(
            json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": image}]}}),
        )
        .unwrap()
    }

    #[test]
    fn the_hash_tells_templates_apart_and_makes_a_label() {
        let (a, b) = (template("a", None), template("b", None));
        assert_eq!(hash(&a, 0), hash(&template("a", None), 0));
        assert_ne!(hash(&a, 0), hash(&b, 0));
        assert_ne!(hash(&a, 0), hash(&a, 1));
        assert!(hash(&a, 0).len() <= 10 && hash(&a, 0).bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn the_hash_label_makes_no_difference() {
        assert!(same_template(
            Some(&template("a", Some("x"))),
            Some(&template("a", None))
        ));
        assert!(!same_template(Some(&template("a", None)), Some(&template("b", None))));
    }

    #[test]
    fn a_revision_that_comes_back_keeps_its_history() {
        let d = Deployment::default();
        let current = BTreeMap::from([
            (REVISION.to_owned(), "2".to_owned()),
            (HISTORY.to_owned(), "1".to_owned()),
        ]);
        let wanted = annotations(&d, &current, 5);
        assert_eq!(wanted[REVISION], "5");
        assert_eq!(wanted[HISTORY], "1,2");
        assert_eq!(annotations(&d, &wanted, 3), wanted, "numbers never go back");
    }
}
