//! What expressions look at: the request, the objects, and who may do what.

use coracle_api::policy::authorizer::authorizer;
use coracle_api::policy::{CALL_LIMIT, CONDITIONS_LIMIT, Condition, NAMESPACE, POLICY_LIMIT, Policy, REQUEST};
use coracle_cel::{Budget, EvalError, Kind, Program, Scope, Val};
use coracle_store::Snapshot;
use serde_json::Value;

use super::rights;
use crate::webhook::Asked;
use crate::{admission, document};

/// Objects are looked at as they are: a policy may be about kinds of all sorts.
static ANYTHING: Kind = Kind::Dyn;

/// A write, set up for expressions.
pub(crate) struct Scene<'a> {
    asked: &'a Asked<'a>,
    request: Value,
    /// The namespace of the object; null where it has none.
    namespace: Value,
    authorizer: Val<'static>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(asked: &'a Asked<'a>, snapshot: &Snapshot) -> Self {
        let own = asked.namespace.filter(|_| asked.kind.namespaced);
        let record = own.and_then(|name| snapshot.get(&admission::namespace::key(name)));
        Self {
            asked,
            request: asked.request(),
            namespace: record
                .and_then(|record| document::tree(record).ok())
                .unwrap_or_default(),
            authorizer: authorizer(rights::of(asked, snapshot), rights::request(asked)),
        }
    }

    fn scope<'s, 'p>(&'s self, object: Option<&'s Value>, params: Option<&'s Value>) -> Scope<'s, 'p> {
        let json = |value: Option<&'s Value>| value.map_or(Val::Null, |value| Val::json(value, &ANYTHING));
        Scope::new([
            ("object", json(object)),
            ("oldObject", json(self.asked.old)),
            ("request", Val::json(&self.request, &REQUEST)),
            ("namespaceObject", Val::json(&self.namespace, &NAMESPACE)),
            ("params", json(params)),
            ("authorizer", self.authorizer.clone()),
        ])
    }

    /// Whether all conditions hold. One that does not makes the errors of others meaningless.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub(crate) fn holds(
        &self,
        conditions: &[Condition],
        object: Option<&Value>,
        params: Option<&Value>,
    ) -> Result<bool, String> {
        let mut run = Run {
            scope: self.scope(object, params),
            budget: Budget::new(CONDITIONS_LIMIT),
        };
        let mut failed = Vec::new();
        for condition in conditions {
            match run.eval(&condition.program) {
                Ok(Val::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(words) => failed.push(words),
            }
        }
        match failed.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }

    /// An evaluation of a policy.
    pub(super) fn run<'s, 'p>(
        &'s self,
        policy: &'p Policy,
        object: Option<&'s Value>,
        params: Option<&'s Value>,
    ) -> Run<'s, 'p> {
        Run {
            scope: self.scope(object, params).with_lazy(&policy.variables),
            budget: Budget::new(POLICY_LIMIT),
        }
    }
}

/// One evaluation of a policy, with what is left of its budget.
pub(super) struct Run<'s, 'p> {
    scope: Scope<'s, 'p>,
    budget: Budget,
}

impl<'s> Run<'s, '_> {
    /// Evaluates one of the policy's expressions; what goes wrong is told in the words of Kubernetes.
    pub(super) fn eval(&mut self, program: &Program) -> Result<Val<'s>, String> {
        let mut call = self.budget.limited(CALL_LIMIT);
        let limit = call.left();
        let result = self.scope.eval(program, &mut call);
        // No more than there was.
        let _ = self.budget.pay(limit - call.left());
        result.map_err(|error| match error {
            EvalError::OutOfBudget if limit < CALL_LIMIT => {
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned()
            }
            error => format!("expression '{}' resulted in error: {error}", program.source().trim()),
        })
    }

    /// The same as JSON.
    pub(super) fn json(&mut self, program: &Program) -> Result<Value, String> {
        let value = self.eval(program)?;
        value.to_json(&mut self.budget).map_err(|error| error.to_string())
    }
}
