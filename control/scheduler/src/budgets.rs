//! What may be taken from whom: the disruption budgets, as preemption counts them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use coracle_api::selector::LabelSelector;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::{candidate::Candidate, selection};

/// All budgets.
#[derive(Clone, Default)]
pub struct Budgets {
    by_namespace: HashMap<Arc<str>, BTreeMap<Arc<str>, Budget>>,
}

#[derive(Clone)]
struct Budget {
    selector: LabelSelector,
    object: Arc<PodDisruptionBudget>,
}

/// How much of each budget is left while victims are chosen.
#[derive(Default)]
pub struct Spending<'a> {
    left: BTreeMap<(&'a str, &'a str), i32>,
}

impl Budgets {
    /// Takes in a budget as it is now, or that it is gone.
    pub fn put(&mut self, old: Option<&PodDisruptionBudget>, new: Option<&Arc<PodDisruptionBudget>>) {
        let Some(meta) = new.map(|new| &**new).or(old).map(|budget| &budget.metadata) else {
            return;
        };
        let (namespace, name) = (
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        match new {
            Some(object) => {
                let selector = object.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                let selector = selection::selector(selector, None, &[], &[]);
                let object = object.clone();
                let budget = Budget { selector, object };
                self.by_namespace
                    .entry(namespace.into())
                    .or_default()
                    .insert(name.into(), budget);
            }
            None => {
                if let Some(budgets) = self.by_namespace.get_mut(namespace) {
                    budgets.remove(name);
                    if budgets.is_empty() {
                        self.by_namespace.remove(namespace);
                    }
                }
            }
        }
    }

    /// Takes the pod from each budget that covers it. True if one of them allows no more.
    pub fn spend<'a>(&'a self, pod: &Candidate, spending: &mut Spending<'a>) -> bool {
        let Some((namespace, budgets)) = self.by_namespace.get_key_value(&pod.key.namespace) else {
            return false;
        };
        let labelled = pod
            .pod
            .metadata
            .labels
            .as_ref()
            .is_some_and(|labels| !labels.is_empty());
        let mut violates = false;
        for (name, budget) in budgets {
            let status = budget.object.status.as_ref();
            let going = status.is_some_and(|s| {
                let disrupted = s.disrupted_pods.as_ref();
                disrupted.is_some_and(|pods| pods.contains_key(&*pod.key.name))
            });
            if going || !labelled || !selection::picks(&budget.selector, pod) {
                continue;
            }
            let allowed = || status.and_then(|s| s.disruptions_allowed).unwrap_or(0);
            let left = spending.left.entry((namespace, name)).or_insert_with(allowed);
            *left -= 1;
            violates |= *left < 0;
        }
        violates
    }
}
