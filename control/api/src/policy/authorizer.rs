//! The variable `authorizer`: expressions put a question together, part by part, and ask it.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use coracle_cel::{Budget, Call, EvalError, Foreign, Function, Kind, Library, Takes, Val};

use super::library::text;
use crate::validate::names;

/// The type of the variable.
pub const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
const PATH: &str = "kubernetes.authorization.PathCheck";
const GROUP: &str = "kubernetes.authorization.GroupCheck";
const RESOURCE: &str = "kubernetes.authorization.ResourceCheck";
const DECISION: &str = "kubernetes.authorization.Decision";
/// What a question costs: it looks at all rules that concern somebody.
const CHECK_COST: u64 = 1_000;

/// May somebody do this? Empty parts say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// The path of what is no resource.
    pub path: String,
    /// The API group; the core group is empty.
    pub group: String,
    /// The plural of the resource.
    pub resource: String,
    /// A part of the resource.
    pub subresource: String,
    /// The namespace.
    pub namespace: String,
    /// The object.
    pub name: String,
    /// What is to be done.
    pub verb: String,
}

/// What somebody may do.
pub trait Rights: Debug + Send + Sync {
    /// Whether this is allowed.
    fn allow(&self, question: &Question) -> bool;
    /// The rights of a service account.
    fn of_service_account(&self, namespace: &str, name: &str) -> Arc<dyn Rights>;
}

/// A question on its way, or its answer: which of them, its type says.
#[derive(Debug, Clone)]
struct Check {
    kind: &'static str,
    rights: Arc<dyn Rights>,
    question: Question,
    /// The question that the request itself is.
    request: Arc<Question>,
    allowed: bool,
}

impl Foreign for Check {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn same(&self, other: &dyn Foreign) -> bool {
        let other = other.any().downcast_ref::<Self>();
        other.is_some_and(|other| self.kind == other.kind && self.question == other.question)
    }

    fn any(&self) -> &dyn Any {
        self
    }
}

/// The variable: the rights of whoever makes the request, and what the request is about.
pub fn authorizer(rights: Arc<dyn Rights>, request: Question) -> Val<'static> {
    Val::foreign(Check {
        kind: AUTHORIZER,
        rights,
        question: Question::default(),
        request: Arc::new(request),
        allowed: false,
    })
}

/// A function that adds to the question about a resource.
const fn part(name: &'static str, call: Call) -> Function {
    Function::new(
        name,
        &[Takes::Foreign(RESOURCE), Takes::Text],
        || Kind::Foreign(RESOURCE),
        call,
    )
}

/// The functions on questions.
pub static LIBRARY: Library = Library {
    fields: &[(AUTHORIZER, "requestResource", RESOURCE)],
    functions: &[
        Function::new(
            "requestResource",
            &[Takes::Foreign(AUTHORIZER)],
            || Kind::Foreign(RESOURCE),
            |values, _| step(values, RESOURCE, |check, _| check.question = (*check.request).clone()),
        ),
        Function::new(
            "path",
            &[Takes::Foreign(AUTHORIZER), Takes::Text],
            || Kind::Foreign(PATH),
            |values, _| {
                let path = needed(values, "path")?;
                step(values, PATH, |check, _| check.question.path = path)
            },
        ),
        Function::new(
            "group",
            &[Takes::Foreign(AUTHORIZER), Takes::Text],
            || Kind::Foreign(GROUP),
            |values, _| step(values, GROUP, |check, text| check.question.group = text),
        ),
        Function::new(
            "serviceAccount",
            &[Takes::Foreign(AUTHORIZER), Takes::Text, Takes::Text],
            || Kind::Foreign(AUTHORIZER),
            service_account,
        ),
        Function::new(
            "resource",
            &[Takes::Foreign(GROUP), Takes::Text],
            || Kind::Foreign(RESOURCE),
            |values, _| {
                let resource = needed(values, "resource")?;
                step(values, RESOURCE, |check, _| check.question.resource = resource)
            },
        ),
        part("subresource", |values, _| {
            step(values, RESOURCE, |check, text| check.question.subresource = text)
        }),
        part("namespace", |values, _| {
            step(values, RESOURCE, |check, text| check.question.namespace = text)
        }),
        part("name", |values, _| {
            step(values, RESOURCE, |check, text| check.question.name = text)
        }),
        // Roles do not look at selectors: with one, a question is answered as without.
        part("fieldSelector", |values, _| step(values, RESOURCE, |_, _| {})),
        part("labelSelector", |values, _| step(values, RESOURCE, |_, _| {})),
        Function::new(
            "check",
            &[Takes::Foreign(PATH), Takes::Text],
            || Kind::Foreign(DECISION),
            ask,
        ),
        Function::new(
            "check",
            &[Takes::Foreign(RESOURCE), Takes::Text],
            || Kind::Foreign(DECISION),
            ask,
        ),
        Function::new(
            "allowed",
            &[Takes::Foreign(DECISION)],
            || Kind::Bool,
            |values, _| Ok(Val::Bool(check(values)?.allowed)),
        ),
        Function::new(
            "reason",
            &[Takes::Foreign(DECISION)],
            || Kind::Text,
            |_, _| Ok(Val::text("")),
        ),
        // Roles are at hand: looking at them cannot fail.
        Function::new(
            "errored",
            &[Takes::Foreign(DECISION)],
            || Kind::Bool,
            |_, _| Ok(Val::Bool(false)),
        ),
        Function::new(
            "error",
            &[Takes::Foreign(DECISION)],
            || Kind::Text,
            |_, _| Ok(Val::text("")),
        ),
    ],
};

fn check<'v>(values: &'v [Val<'_>]) -> Result<&'v Check, EvalError> {
    match values.first() {
        Some(Val::Foreign(value)) => value.any().downcast_ref(),
        _ => None,
    }
    .ok_or_else(|| EvalError::NoOverload("authorizer".to_owned()))
}

/// The question with one part more.
fn step(
    values: &[Val<'_>],
    kind: &'static str,
    add: impl FnOnce(&mut Check, String),
) -> Result<Val<'static>, EvalError> {
    let mut next = check(values)?.clone();
    next.kind = kind;
    add(&mut next, text(values, 1).to_owned());
    Ok(Val::foreign(next))
}

fn needed(values: &[Val<'_>], what: &str) -> Result<String, EvalError> {
    match text(values, 1) {
        given if given.trim().is_empty() => Err(EvalError::Wrong(format!("{what} must not be empty"))),
        given => Ok(given.to_owned()),
    }
}

fn service_account(values: &[Val<'_>], _: &mut Budget) -> Result<Val<'static>, EvalError> {
    let (namespace, name) = (text(values, 1), text(values, 2));
    if let Some(fault) = names::dns_subdomain(name).first() {
        return Err(EvalError::Wrong(format!("Invalid service account name: {fault}")));
    }
    if let Some(fault) = names::dns_label(namespace).first() {
        return Err(EvalError::Wrong(format!("Invalid service account namespace: {fault}")));
    }
    step(values, AUTHORIZER, |check, _| {
        check.rights = check.rights.of_service_account(namespace, name);
    })
}

fn ask(values: &[Val<'_>], budget: &mut Budget) -> Result<Val<'static>, EvalError> {
    budget.pay(CHECK_COST)?;
    step(values, DECISION, |check, verb| {
        check.question.verb = verb;
        check.allowed = check.rights.allow(&check.question);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_cel::Program;

    /// Allows what is asked about pods, and everything to one service account.
    #[derive(Debug)]
    struct Pods(bool);

    impl Rights for Pods {
        fn allow(&self, question: &Question) -> bool {
            self.0 || (question.resource == "pods" && question.verb == "get")
        }

        fn of_service_account(&self, _: &str, name: &str) -> Arc<dyn Rights> {
            Arc::new(Pods(name == "all"))
        }
    }

    #[test]
    fn questions_are_put_together_and_asked() {
        let request = Question {
            resource: "pods".to_owned(),
            ..Question::default()
        };
        let value = authorizer(Arc::new(Pods(false)), request);
        let cases = [
            (
                "authorizer.group('').resource('pods').namespace('d').check('get').allowed()",
                "true",
            ),
            ("authorizer.group('').resource('pods').check('list').allowed()", "false"),
            ("authorizer.requestResource.name('x').check('get').allowed()", "true"),
            ("authorizer.path('/healthz').check('get').allowed()", "false"),
            ("authorizer.path(' ').check('get').allowed()", "path must not be empty"),
            (
                "authorizer.serviceAccount('d', 'all').group('x').resource('y').check('z').allowed()",
                "true",
            ),
            (
                "authorizer.serviceAccount('D', 'all').path('/').check('get').errored()",
                "Invalid service account namespace: ",
            ),
        ];
        for (source, wanted) in cases {
            let program = Program::compile(source, &super::super::webhook_names()).unwrap();
            let found = match program.eval(&[("authorizer", value.clone())], &mut Budget::new(100_000)) {
                Ok(value) => value.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(found.starts_with(wanted), "{source}: {found}");
        }
        let wrong = Program::compile("authorizer.resource('pods')", &super::super::webhook_names());
        assert!(
            wrong
                .unwrap_err()
                .to_string()
                .contains("found no matching overload for 'resource'")
        );
    }
}
