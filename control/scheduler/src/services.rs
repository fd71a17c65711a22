//! Which services select a pod: pods of one service that no controller owns are spread like siblings.

use std::collections::BTreeMap;

use coracle_api::selector::LabelSelector;
use coracle_controllers::key::Key;
use k8s_openapi::api::core::v1::Service;
use rustc_hash::FxHashMap;

use crate::{
    candidate::Candidate,
    posting::{Post, Postings},
    selection::{Namespaces, Query, Selection},
};

/// The selectors of all services.
#[derive(Clone, Default)]
pub struct Services {
    known: FxHashMap<usize, (Key, BTreeMap<String, String>)>,
    by_key: FxHashMap<Key, usize>,
    postings: Postings<usize>,
    serial: usize,
}

impl Services {
    /// Takes in a service as it is now, or that it is gone.
    pub fn put(&mut self, key: Key, service: Option<&Service>) {
        if let Some((_, at)) = self.by_key.remove_entry(&key)
            && let Some((_, selector)) = self.known.remove(&at)
        {
            self.postings.remove(post(&key, &selector), at);
        }
        let selector = service.and_then(|s| s.spec.as_ref()?.selector.clone());
        let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
            return;
        };
        self.serial += 1;
        self.postings.add(post(&key, &selector), self.serial);
        self.by_key.insert(key.clone(), self.serial);
        self.known.insert(self.serial, (key, selector));
    }

    /// The pods that all the services select that select this pod; `None` if none does.
    #[must_use]
    pub fn companions(&self, pod: &Candidate) -> Option<Query> {
        if self.postings.is_empty() {
            return None;
        }
        let labels = pod.pod.metadata.labels.as_ref()?;
        let found = Post::within(Some(&pod.key.namespace), Some(labels)).flat_map(|post| self.postings.get(post));
        let mut merged: BTreeMap<&String, &String> = BTreeMap::new();
        for (key, selector) in found.filter_map(|at| self.known.get(&at)) {
            let selects = selector.iter().all(|(name, value)| labels.get(name) == Some(value));
            if key.namespace == pod.key.namespace && selects {
                merged.extend(selector);
            }
        }
        if merged.is_empty() {
            return None;
        }
        let labels = LabelSelector::from_object(&serde_json::json!({"matchLabels": merged})).ok()?;
        let namespaces = Namespaces::Listed(vec![pod.key.namespace.clone()]);
        Some(Query::picked(vec![Selection { namespaces, labels }], true))
    }
}

fn post(key: &Key, selector: &BTreeMap<String, String>) -> Post {
    let label = selector
        .first_key_value()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    Post::of(Some(&key.namespace), label)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugins::scene::labelled_pod;

    #[test]
    fn a_pod_has_the_companions_of_all_its_services() {
        let mut services = Services::default();
        let service = |selector| serde_json::from_value::<Service>(json!({"spec": {"selector": selector}})).unwrap();
        let companions = |services: &Services| services.companions(&labelled_pod(json!({"app": "web", "tier": "a"})));
        assert!(companions(&services).is_none());
        services.put(Key::new("n", "web"), Some(&service(json!({"app": "web"}))));
        services.put(
            Key::new("n", "other"),
            Some(&service(json!({"app": "web", "tier": "b"}))),
        );
        services.put(Key::new("m", "web"), Some(&service(json!({"tier": "a"}))));
        let query = companions(&services).unwrap();
        let none = Default::default();
        assert!(query.means(&labelled_pod(json!({"app": "web"})), &none));
        assert!(!query.means(&labelled_pod(json!({"app": "db"})), &none));
        services.put(Key::new("n", "web"), None);
        assert!(companions(&services).is_none());
    }
}
