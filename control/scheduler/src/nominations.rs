//! Pods for which room was made on a node: until they are there, others that matter no more must leave them that room.

use std::{collections::HashMap, sync::Arc};

use crate::candidate::Candidate;

/// Who waits for room on which node.
#[derive(Clone, Default)]
pub struct Nominations {
    by_pod: HashMap<Arc<str>, (Arc<str>, Arc<Candidate>)>,
    by_node: HashMap<Arc<str>, Vec<Arc<str>>>,
}

impl Nominations {
    /// The pod waits for room on the node.
    pub fn put(&mut self, pod: &Arc<Candidate>, node: &str) {
        self.remove(&pod.uid);
        let node: Arc<str> = node.into();
        self.by_node.entry(node.clone()).or_default().push(pod.uid.clone());
        self.by_pod.insert(pod.uid.clone(), (node, pod.clone()));
    }

    /// The pod waits for no room any more. True if it did.
    pub fn remove(&mut self, uid: &str) -> bool {
        let Some((node, _)) = self.by_pod.remove(uid) else {
            return false;
        };
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|other| **other != *uid);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
        true
    }

    /// The node that the pod waits for.
    #[must_use]
    pub fn of(&self, uid: &str) -> Option<&Arc<str>> {
        self.by_pod.get(uid).map(|(node, _)| node)
    }

    /// Whether anybody waits for room on the node.
    #[must_use]
    pub fn any_on(&self, node: &str) -> bool {
        !self.by_node.is_empty() && self.by_node.contains_key(node)
    }

    /// Who waits for room on the node.
    pub fn on(&self, node: &str) -> impl Iterator<Item = &Arc<Candidate>> {
        let uids = self.by_node.get(node).into_iter().flatten();
        uids.filter_map(|uid| self.by_pod.get(uid).map(|(_, pod)| pod))
    }
}
