//! The policies and their bindings, compiled: what a write must be checked against, without reading objects for each.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use coracle_api::field_error::FieldError;
use coracle_api::kinds::Kind;
use coracle_api::object;
use coracle_api::policy::{self, Policy as Programs};
use coracle_store::{Record, Snapshot, Store};
use parking_lot::Mutex;
use serde_json::Value;

use super::params::{self, Reference};
use crate::document;
use crate::matching::Constraints;
use crate::webhook::Asked;

/// A kind of policy: what its keys and those of its bindings begin with, and how it is compiled.
struct Family {
    policies: &'static str,
    bindings: &'static str,
    compile: fn(&Value, &mut Vec<FieldError>) -> Programs,
}

const VALIDATING: Family = Family {
    policies: "validatingadmissionpolicies.admissionregistration.k8s.io/",
    bindings: "validatingadmissionpolicybindings.admissionregistration.k8s.io/",
    compile: policy::validating,
};
const MUTATING: Family = Family {
    policies: "mutatingadmissionpolicies.admissionregistration.k8s.io/",
    bindings: "mutatingadmissionpolicybindings.admissionregistration.k8s.io/",
    compile: policy::mutating,
};

/// What the keys of policies and bindings begin with.
pub(crate) const PREFIXES: [&str; 4] = [
    VALIDATING.policies,
    VALIDATING.bindings,
    MUTATING.policies,
    MUTATING.bindings,
];

/// The newest policies. A write of one makes them new before its writer is answered.
pub(crate) struct AdmissionPolicies {
    current: ArcSwap<Compiled>,
    /// Held while they are compiled, so that older ones never replace newer ones.
    compiling: Mutex<()>,
}

impl AdmissionPolicies {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        Self {
            current: ArcSwap::from_pointee(Compiled::make(snapshot, &Compiled::default())),
            compiling: Mutex::new(()),
        }
    }

    pub(super) fn current(&self) -> Arc<Compiled> {
        self.current.load_full()
    }

    /// Whether no policy is in force.
    pub(crate) fn is_empty(&self) -> bool {
        let current = self.current.load();
        current.validating.is_empty() && current.mutating.is_empty()
    }

    /// Makes the policies at least as new as `snapshot`.
    pub(crate) fn refresh(&self, snapshot: &Snapshot) {
        let _compiling = self.compiling.lock();
        let old = self.current.load_full();
        if old.revision < snapshot.revision() {
            self.current.store(Arc::new(Compiled::make(snapshot, &old)));
        }
    }

    /// The same after a change. A write of this server's own has been compiled in already.
    pub(crate) fn catch_up(&self, store: &Store, revision: u64) {
        if self.current.load().revision < revision {
            self.refresh(&store.snapshot());
        }
    }
}

/// All policies that have bindings, at one revision, in the order of their names.
#[derive(Default)]
pub(super) struct Compiled {
    revision: u64,
    pub(super) validating: Vec<Policy>,
    pub(super) mutating: Vec<Policy>,
}

impl Compiled {
    fn make(snapshot: &Snapshot, old: &Self) -> Self {
        Self {
            revision: snapshot.revision(),
            validating: policies(snapshot, &VALIDATING, &old.validating),
            mutating: policies(snapshot, &MUTATING, &old.mutating),
        }
    }
}

fn policies(snapshot: &Snapshot, family: &Family, old: &[Policy]) -> Vec<Policy> {
    let mut bound: HashMap<String, Vec<Binding>> = HashMap::new();
    for record in snapshot.range(family.bindings, None) {
        if let Some(tree) = read(record) {
            let policy = object::text(&tree, "spec.policyName").to_owned();
            bound.entry(policy).or_default().push(Binding::of(&tree));
        }
    }
    let mut policies = Vec::new();
    for record in snapshot.range(family.policies, None) {
        let name = document::place(record.key.as_str()).1;
        // A policy without bindings is in force nowhere.
        let Some(bindings) = bound.remove(name) else { continue };
        let known = old
            .iter()
            .find(|old| old.revision == record.revision && old.name == name);
        if let Some(tree) = read(record) {
            policies.push(Policy::of(&tree, record.revision, bindings, known, family));
        }
    }
    policies
}

fn read(record: &Record) -> Option<Value> {
    match document::tree(record) {
        Ok(tree) => Some(tree),
        Err(error) => {
            tracing::error!(
                key = record.key.as_str(),
                error = error.message,
                "an admission policy is lost"
            );
            None
        }
    }
}

/// One policy with its bindings.
pub(super) struct Policy {
    pub(super) name: String,
    /// The revision at which it was last written.
    revision: u64,
    pub(super) programs: Arc<Programs>,
    /// Why the policy cannot be evaluated, though it was accepted once.
    fault: Option<String>,
    constraints: Constraints,
    /// Whether a request is refused about which the policy cannot decide.
    pub(super) fail: bool,
    /// Whether it wants to be asked again when the object changed after it.
    pub(super) again: bool,
    /// `apiVersion` and `kind` of its parameters.
    params: Option<(String, String)>,
    bindings: Vec<Binding>,
}

/// What puts a policy in force somewhere.
pub(super) struct Binding {
    pub(super) name: String,
    /// Where; wherever the policy matches, if it does not say.
    constraints: Option<Constraints>,
    params: Option<Reference>,
    /// What becomes of a violation: it may deny, warn, and be written down.
    pub(super) actions: Vec<String>,
}

/// A binding that concerns a write, with the parameters for which the policy is evaluated, or why there are none. Without
/// a binding, the policy itself cannot be used.
pub(super) type Bound<'p> = (Option<&'p Binding>, Result<Vec<Option<Value>>, String>);

/// How a policy concerns a write: the kind in the version that its rule names, and its bindings.
pub(super) type Concern<'p> = (Arc<Kind>, Vec<Bound<'p>>);

impl Policy {
    fn of(tree: &Value, revision: u64, bindings: Vec<Binding>, known: Option<&Policy>, family: &Family) -> Self {
        let (programs, fault) = match known {
            Some(known) => (known.programs.clone(), known.fault.clone()),
            None => {
                let mut faults = Vec::new();
                let programs = (family.compile)(tree, &mut faults);
                (Arc::new(programs), faults.first().map(ToString::to_string))
            }
        };
        let nothing = Value::Null;
        let constraints = object::get(tree, "spec.matchConstraints").unwrap_or(&nothing);
        let params = object::get(tree, "spec.paramKind");
        let text = |owner: &Value, field: &str| object::text(owner, field).to_owned();
        Self {
            name: object::name(tree).to_owned(),
            revision,
            programs,
            fault,
            constraints: Constraints::of(constraints, "resourceRules"),
            fail: object::text(tree, "spec.failurePolicy") != "Ignore",
            again: object::text(tree, "spec.reinvocationPolicy") == "IfNeeded",
            params: params.map(|kind| (text(kind, "apiVersion"), text(kind, "kind"))),
            bindings,
        }
    }

    /// How the policy concerns a write, if a binding puts it in force there.
    pub(super) async fn concerns(
        &self,
        asked: &Asked<'_>,
        snapshot: &Snapshot,
        object: Option<&Value>,
    ) -> Option<Concern<'_>> {
        let kind = self.constraints.matches(asked, snapshot, object)?;
        if let Some(fault) = &self.fault {
            return Some((kind, vec![(None, Err(fault.clone()))]));
        }
        let concerned = self.bindings.iter().filter(|binding| {
            let constraints = binding.constraints.as_ref();
            constraints.is_none_or(|constraints| constraints.match_further(asked, snapshot, object))
        });
        let mut bound = Vec::new();
        for binding in concerned {
            let params = match (&self.params, &binding.params) {
                (Some(kind), Some(reference)) => params::find(asked, snapshot, kind, reference).await,
                _ => Ok(vec![None]),
            };
            bound.push((Some(binding), params));
        }
        Some((kind, bound)).filter(|(_, bound)| !bound.is_empty())
    }
}

impl Binding {
    fn of(tree: &Value) -> Self {
        let actions = object::list(tree, "spec.validationActions").iter();
        Self {
            name: object::name(tree).to_owned(),
            constraints: object::get(tree, "spec.matchResources")
                .map(|chosen| Constraints::of(chosen, "resourceRules")),
            params: object::get(tree, "spec.paramRef").map(Reference::of),
            actions: actions.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}
