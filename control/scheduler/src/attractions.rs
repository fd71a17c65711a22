//! The affinity terms of the pods that have a node: for a pod that wants one, who around a node pulls at it or keeps it
//! away. Equal terms count together, so that what a pod has to look at grows with the number of different terms.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use rustc_hash::FxHashMap;

use crate::{
    affinity::Term,
    candidate::Candidate,
    crowds::{Counts, CrowdId, Crowds},
    node_info::NodeIndex,
    posting::{Post, Postings},
    selection::NamespaceLabels,
};

/// All terms of placed pods.
#[derive(Clone, Debug, Default)]
pub struct Attractions {
    held: Vec<Option<(Arc<Term>, CrowdId)>>,
    by_id: FxHashMap<Arc<str>, usize>,
    postings: Postings<usize>,
    free: Vec<usize>,
}

impl Attractions {
    /// A pod came to the node (`by` 1) or left it (-1), and its terms with it.
    pub fn see<'a, N>(&mut self, pod: &Candidate, node: NodeIndex, by: i64, crowds: &mut Crowds, nodes: impl Fn() -> N)
    where
        N: Iterator<Item = (NodeIndex, &'a Node)>,
    {
        for term in &pod.terms {
            let (at, crowd) = self.hold(term, crowds, &nodes);
            crowds.count(crowd, node, by);
            if crowds.is_empty(crowd) {
                self.release(at, crowds);
            }
        }
    }

    fn hold<'a, N>(&mut self, term: &Arc<Term>, crowds: &mut Crowds, nodes: &impl Fn() -> N) -> (usize, CrowdId)
    where
        N: Iterator<Item = (NodeIndex, &'a Node)>,
    {
        if let Some(at) = self.by_id.get(&term.id)
            && let Some(Some((_, crowd))) = self.held.get(*at)
        {
            return (*at, *crowd);
        }
        let crowd = crowds.told(&term.topology, nodes());
        let at = self.free.pop().unwrap_or(self.held.len());
        let entry = Some((term.clone(), crowd));
        match self.held.get_mut(at) {
            Some(slot) => *slot = entry,
            None => self.held.push(entry),
        }
        self.by_id.insert(term.id.clone(), at);
        for post in term.selection.posts() {
            self.postings.add(post, at);
        }
        (at, crowd)
    }

    fn release(&mut self, at: usize, crowds: &mut Crowds) {
        let Some((term, crowd)) = self.held.get_mut(at).and_then(Option::take) else {
            return;
        };
        crowds.forget(crowd);
        self.by_id.remove(&term.id);
        for post in term.selection.posts() {
            self.postings.remove(post, at);
        }
        self.free.push(at);
    }

    /// The terms of placed pods that pick this pod, with where the pods that have them are.
    #[must_use]
    pub fn facing<'a>(
        &'a self,
        pod: &Candidate,
        namespaces: &NamespaceLabels,
        crowds: &'a Crowds,
    ) -> Vec<(&'a Term, Counts<'a>)> {
        if self.postings.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<usize> = Post::all(&pod.key.namespace, pod.pod.metadata.labels.as_ref(), "")
            .flat_map(|post| self.postings.get(post))
            .collect();
        found.sort_unstable();
        found.dedup();
        let terms = found.into_iter().filter_map(|at| self.held.get(at)?.as_ref());
        terms
            .filter(|(term, _)| term.selection.picks(pod, namespaces))
            .filter_map(|(term, crowd)| Some((&**term, crowds.of(*crowd, &term.topology)?)))
            .collect()
    }
}
