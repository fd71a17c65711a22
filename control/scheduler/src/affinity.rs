//! What a pod wants of the pods around it: the terms of its pod affinity and anti-affinity.

use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, WeightedPodAffinityTerm};

use crate::{
    domains::{NodeRule, Topology},
    selection::{Namespaces, Selection, selector},
};

/// How strongly a term pulls a pod towards those that it picks, or away from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pull {
    /// Only near to one of them.
    Must,
    /// Near to none of them.
    MustNot,
    /// Rather near to them; a negative weight means rather far.
    Prefers(i64),
}

/// One term.
#[derive(Clone, Debug)]
pub struct Term {
    /// How strongly it pulls.
    pub pull: Pull,
    /// Which pods.
    pub selection: Selection,
    /// What near means: in the same domain of this topology.
    pub topology: Arc<Topology>,
    /// The same for the same term.
    pub id: Arc<str>,
}

/// The terms of the pod.
#[must_use]
pub fn terms(pod: &Pod) -> Vec<Arc<Term>> {
    let Some(affinity) = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()) else {
        return Vec::new();
    };
    let mut terms = Vec::new();
    if let Some(near) = &affinity.pod_affinity {
        let required = &near.required_during_scheduling_ignored_during_execution;
        let preferred = &near.preferred_during_scheduling_ignored_during_execution;
        terms.extend(required.iter().flatten().map(|t| term(pod, t, Pull::Must)));
        terms.extend(preferred.iter().flatten().map(|t| weighted(pod, t, 1)));
    }
    if let Some(far) = &affinity.pod_anti_affinity {
        let required = &far.required_during_scheduling_ignored_during_execution;
        let preferred = &far.preferred_during_scheduling_ignored_during_execution;
        terms.extend(required.iter().flatten().map(|t| term(pod, t, Pull::MustNot)));
        terms.extend(preferred.iter().flatten().map(|t| weighted(pod, t, -1)));
    }
    terms
}

fn weighted(pod: &Pod, term_: &WeightedPodAffinityTerm, sign: i64) -> Arc<Term> {
    term(
        pod,
        &term_.pod_affinity_term,
        Pull::Prefers(sign * i64::from(term_.weight)),
    )
}

fn term(pod: &Pod, term: &PodAffinityTerm, pull: Pull) -> Arc<Term> {
    let keys = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let selection = Selection {
        namespaces: namespaces(pod, term),
        labels: selector(
            term.label_selector.as_ref(),
            pod.metadata.labels.as_ref(),
            &keys(&term.match_label_keys),
            &keys(&term.mismatch_label_keys),
        ),
    };
    let topology = Arc::new(Topology::new(&term.topology_key, NodeRule::default()));
    let id = format!("{pull:?} {} {selection:?}", topology.id).into();
    Arc::new(Term {
        pull,
        selection,
        topology,
        id,
    })
}

/// The pod's own namespace, unless the term names others.
fn namespaces(pod: &Pod, term: &PodAffinityTerm) -> Namespaces {
    let listed: Vec<Arc<str>> = term
        .namespaces
        .iter()
        .flatten()
        .map(|name| name.as_str().into())
        .collect();
    match &term.namespace_selector {
        Some(chosen) => {
            let chosen: LabelSelector = selector(Some(chosen), None, &[], &[]);
            if chosen.is_everything() {
                Namespaces::All
            } else {
                Namespaces::Labelled(listed, chosen)
            }
        }
        None if listed.is_empty() => {
            Namespaces::Listed(vec![pod.metadata.namespace.as_deref().unwrap_or_default().into()])
        }
        None => Namespaces::Listed(listed),
    }
}
