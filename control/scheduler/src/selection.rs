//! Which pods a rule speaks of: those in some namespaces whose labels a selector picks.

use std::{collections::BTreeMap, sync::Arc};

use coracle_api::selector::{LabelSelector, Operator};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use rustc_hash::FxHashMap;
use serde_json::json;

use crate::{candidate::Candidate, posting::Post};

/// The labels of each namespace.
pub type NamespaceLabels = FxHashMap<Arc<str>, BTreeMap<String, String>>;

/// In which namespaces.
#[derive(Clone, Debug, PartialEq)]
pub enum Namespaces {
    /// In all.
    All,
    /// In these.
    Listed(Vec<Arc<str>>),
    /// In these, and in those whose labels the selector picks.
    Labelled(Vec<Arc<str>>, LabelSelector),
}

impl Namespaces {
    fn hold(&self, namespace: &str, labels: &NamespaceLabels) -> bool {
        let listed = |names: &[Arc<str>]| names.iter().any(|name| **name == *namespace);
        match self {
            Self::All => true,
            Self::Listed(names) => listed(names),
            Self::Labelled(names, selector) => {
                listed(names)
                    || labels
                        .get(namespace)
                        .is_some_and(|labels| selector.matches(|key| labels.get(key).map(String::as_str)))
            }
        }
    }
}

/// Pods in some namespaces whose labels a selector picks.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// In which namespaces.
    pub namespaces: Namespaces,
    /// With which labels.
    pub labels: LabelSelector,
}

impl Selection {
    /// Whether the pod is meant.
    #[must_use]
    pub fn picks(&self, pod: &Candidate, namespaces: &NamespaceLabels) -> bool {
        self.namespaces.hold(&pod.key.namespace, namespaces) && picks(&self.labels, pod)
    }

    /// Where questions about these pods are posted: at least one place for each pod that is meant.
    #[must_use]
    pub fn posts(&self) -> Vec<Post> {
        let certain = |r: &&coracle_api::selector::Requirement| r.operator == Operator::In && r.values.len() == 1;
        let requirement = self.labels.requirements().iter().find(certain);
        let label = requirement.and_then(|r| Some((r.key.as_str(), r.values.first()?.as_str())));
        match &self.namespaces {
            Namespaces::Listed(names) => names.iter().map(|name| Post::of(Some(name), label)).collect(),
            Namespaces::All | Namespaces::Labelled(..) => vec![Post::of(None, label)],
        }
    }

    /// Whether it depends on the labels of namespaces.
    #[must_use]
    pub fn reads_namespaces(&self) -> bool {
        matches!(self.namespaces, Namespaces::Labelled(..))
    }
}

/// Whether the selector picks the pod by its labels.
#[must_use]
pub fn picks(selector: &LabelSelector, pod: &Candidate) -> bool {
    let labels = pod.pod.metadata.labels.as_ref();
    selector.matches(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
}

/// A selector as an object has it: nothing without one. Labels of the pod itself may narrow it: `same` by the pod's own
/// value of these labels, `other` by any other value. What the API server would refuse picks nothing.
#[must_use]
pub fn selector(
    selector: Option<&meta::LabelSelector>,
    own: Option<&BTreeMap<String, String>>,
    same: &[String],
    other: &[String],
) -> LabelSelector {
    let Some(selector) = selector else {
        return LabelSelector::nothing();
    };
    let mut selector = selector.clone();
    let has = |key: &&String| own.is_some_and(|labels| labels.contains_key(*key));
    let narrowed = [("In", same), ("NotIn", other)];
    for (operator, keys) in narrowed {
        for key in keys.iter().filter(has) {
            selector
                .match_expressions
                .get_or_insert_default()
                .push(meta::LabelSelectorRequirement {
                    key: key.clone(),
                    operator: operator.to_owned(),
                    values: own.and_then(|labels| labels.get(key)).map(|value| vec![value.clone()]),
                });
        }
    }
    LabelSelector::from_object(&json!(selector)).unwrap_or_else(|_| LabelSelector::nothing())
}

/// A question about pods that can be asked again: who is meant, under a name that is the same for the same question.
#[derive(Clone, Debug)]
pub struct Query {
    /// Its name.
    pub id: Arc<str>,
    /// Who is meant.
    pub who: Who,
    /// Whether pods on their way out are left out.
    pub staying: bool,
}

/// Who a [`Query`] means.
#[derive(Clone, Debug)]
pub enum Who {
    /// The pods of the controller with this uid.
    Controlled(Arc<str>),
    /// The pods that all of these pick.
    Picked(Vec<Selection>),
}

impl Query {
    /// The pods that stay of the controller with this uid.
    #[must_use]
    pub fn controlled(uid: &Arc<str>) -> Self {
        Self {
            id: format!("controller {uid}").into(),
            who: Who::Controlled(uid.clone()),
            staying: true,
        }
    }

    /// The pods that all of `selections` pick.
    #[must_use]
    pub fn picked(selections: Vec<Selection>, staying: bool) -> Self {
        Self {
            id: format!("{staying} {selections:?}").into(),
            who: Who::Picked(selections),
            staying,
        }
    }

    /// Whether the pod is meant.
    #[must_use]
    pub fn means(&self, pod: &Candidate, namespaces: &NamespaceLabels) -> bool {
        (!self.staying || !pod.is_terminating())
            && match &self.who {
                Who::Controlled(uid) => pod.controller == *uid,
                Who::Picked(all) => !all.is_empty() && all.iter().all(|one| one.picks(pod, namespaces)),
            }
    }

    /// Where it is posted.
    #[must_use]
    pub fn posts(&self) -> Vec<Post> {
        match &self.who {
            Who::Controlled(uid) => vec![Post::of_controller(uid)],
            Who::Picked(all) => all.first().map(Selection::posts).unwrap_or_default(),
        }
    }

    /// Whether it depends on the labels of namespaces.
    #[must_use]
    pub fn reads_namespaces(&self) -> bool {
        matches!(&self.who, Who::Picked(all) if all.iter().any(Selection::reads_namespaces))
    }
}
