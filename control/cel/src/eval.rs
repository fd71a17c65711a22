//! Evaluation, step by step, each paid for.

mod each;

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use crate::ast::{Binary, Expr, Node, Optional, Unary};
use crate::budget::Budget;
use crate::check::Patterns;
use crate::kind::unescape;
use crate::library::{self, Library};
use crate::parse::dotted;
use crate::value::{Key, Val, same};
use crate::{Program, arithmetic, functions, texts};

/// The name under which variables are found that are made when they are asked for.
const VARIABLES: &str = "variables";
/// How deep evaluation goes: as deep as the deepest expression, with what its variables need besides. It bounds the stack.
const DEPTH_LIMIT: usize = 400;

/// Why an evaluation gave no value. The words are those of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvalError {
    /// The budget is used up.
    #[error("operation cancelled: actual cost limit exceeded")]
    OutOfBudget,
    /// A map has no such key, an object no such field.
    #[error("no such key: {0}")]
    NoKey(String),
    /// A list is shorter.
    #[error("index out of bounds: {0}")]
    OutOfBounds(i64),
    /// An operator or a function does not take such values.
    #[error("no such overload: {0}")]
    NoOverload(String),
    /// A variable that is not set.
    #[error("undeclared reference to '{0}'")]
    Undeclared(String),
    /// A number would not fit.
    #[error("integer overflow")]
    Overflow,
    /// A number divided by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A rest of a division by zero.
    #[error("modulus by zero")]
    ModulusByZero,
    /// A key given twice.
    #[error("insert failed: key {0} already exists")]
    RepeatedKey(String),
    /// The value of an optional that has none.
    #[error("optional.none() dereference")]
    Missing,
    /// What a function says is wrong.
    #[error("{0}")]
    Wrong(String),
}

type Result<T, E = EvalError> = std::result::Result<T, E>;

/// What expressions share that are evaluated about the same thing: variables, and those that are made when they are first
/// asked for.
#[derive(Debug, Default)]
pub struct Scope<'a, 'p> {
    /// The variables, those that macros bind last.
    names: Vec<(String, Val<'a>)>,
    lazy: &'p [(String, Program)],
    made: Vec<Option<Result<Val<'a>>>>,
}

impl<'a, 'p> Scope<'a, 'p> {
    /// A scope with these variables.
    pub fn new<'n>(names: impl IntoIterator<Item = (&'n str, Val<'a>)>) -> Self {
        Self {
            names: names
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            ..Self::default()
        }
    }

    /// With variables that are made when they are asked for, as fields of `variables`. Each may use those before it.
    #[must_use]
    pub fn with_lazy(mut self, lazy: &'p [(String, Program)]) -> Self {
        self.lazy = lazy;
        self.made = lazy.iter().map(|_| None).collect();
        self
    }

    /// Evaluates an expression.
    ///
    /// # Errors
    /// What went wrong, or that the budget is used up.
    pub fn eval(&mut self, program: &Program, budget: &mut Budget) -> Result<Val<'a>> {
        let globals = self.names.len();
        let mut run = Run {
            scope: self,
            globals,
            budget,
            libraries: program.libraries,
            patterns: &program.patterns,
            depth: 0,
        };
        run.value(&program.expr)
    }
}

struct Run<'a, 'p, 'b> {
    scope: &'b mut Scope<'a, 'p>,
    /// How many of the variables are not bound by macros.
    globals: usize,
    budget: &'b mut Budget,
    libraries: &'static [&'static Library],
    patterns: &'b Patterns,
    depth: usize,
}

impl<'a> Run<'a, '_, '_> {
    fn value(&mut self, expr: &Expr) -> Result<Val<'a>> {
        self.budget.pay(1)?;
        if self.depth >= DEPTH_LIMIT {
            return Err(EvalError::Wrong("expression recursion limit exceeded".to_owned()));
        }
        self.depth += 1;
        let value = self.part(expr);
        self.depth -= 1;
        value
    }

    fn part(&mut self, expr: &Expr) -> Result<Val<'a>> {
        match &expr.node {
            Node::Literal(value) => Ok(literal(value)),
            Node::Name(name) => self.name(name),
            Node::Select { of, field, optional } => self.select(expr, of, field, *optional),
            Node::Has { of, field } => match self.lazily(of, field) {
                Some(_) => Ok(Val::Bool(true)),
                None => Ok(Val::Bool(has(&self.value(of)?, field))),
            },
            Node::Index { of, key, optional } => self.index(of, key, *optional),
            Node::Call {
                name,
                target,
                arguments,
            } => self.call(name, target.as_deref(), arguments),
            Node::Unary { operator, of } => self.unary(*operator, of),
            Node::Binary {
                operator: Binary::And,
                left,
                right,
            } => self.both(left, right, false),
            Node::Binary {
                operator: Binary::Or,
                left,
                right,
            } => self.both(left, right, true),
            Node::Binary { operator, left, right } => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.binary(*operator, &left, &right)
            }
            Node::If { when, yes, no } => match self.value(when)? {
                Val::Bool(true) => self.value(yes),
                Val::Bool(false) => self.value(no),
                other => Err(no_overload("_?_:_", &[&other])),
            },
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Message { fields, .. } => self.message(fields),
            Node::Each {
                each,
                of,
                first,
                second,
                filter,
                body,
            } => {
                let of = self.value(of)?;
                self.each(*each, &of, (first, second.as_deref()), (filter.as_deref(), body))
            }
            Node::Bind {
                name,
                value,
                body,
                optional,
            } => self.bind(name, value, body, *optional),
        }
    }

    fn name(&self, name: &str) -> Result<Val<'a>> {
        let found = self.scope.names.iter().rev().find(|(known, _)| known == name);
        match found {
            Some((_, value)) => Ok(value.clone()),
            None => functions::type_value(name).ok_or_else(|| EvalError::Undeclared(name.to_owned())),
        }
    }

    fn select(&mut self, expr: &Expr, of: &Expr, field: &str, optional: bool) -> Result<Val<'a>> {
        // The few types whose names have dots.
        if matches!(field, "Duration" | "Timestamp" | "IP")
            && let Some(name) = dotted(expr)
            && let Some(value) = functions::type_value(&name)
        {
            return Ok(value);
        }
        if let Some(found) = self.lazily(of, field) {
            return if optional { found.map(Val::some) } else { found };
        }
        let of = self.value(of)?;
        if let Val::Foreign(_) = &of
            && let Some(function) = library::find(self.libraries, field, std::slice::from_ref(&of))
        {
            return (function.call)(&[of], self.budget);
        }
        let wrapped = matches!(of, Val::Optional(_));
        let inner = match &of {
            Val::Optional(None) => return Ok(Val::Optional(None)),
            Val::Optional(Some(inner)) => (**inner).clone(),
            other => other.clone(),
        };
        match inner.get(field) {
            Some(value) if optional || wrapped => Ok(Val::some(value)),
            Some(value) => Ok(value),
            None if optional || wrapped => Ok(Val::Optional(None)),
            None if matches!(inner, Val::JsonMap(..) | Val::Map(_)) => Err(EvalError::NoKey(field.to_owned())),
            None => Err(no_overload("select", &[&inner])),
        }
    }

    /// The value of a variable that is made when it is asked for, if `of` and `field` name one.
    fn lazily(&mut self, of: &Expr, field: &str) -> Option<Result<Val<'a>>> {
        if !matches!(&of.node, Node::Name(name) if name == VARIABLES) || self.is_bound(VARIABLES) {
            return None;
        }
        let at = self.scope.lazy.iter().position(|(name, _)| name == field)?;
        if let Some(made) = self.scope.made.get(at)? {
            return Some(made.clone());
        }
        let (_, program) = self.scope.lazy.get(at)?;
        // What macros have bound around it is nothing to it.
        let bound = self.scope.names.split_off(self.globals);
        let mut run = Run {
            scope: self.scope,
            globals: self.globals,
            budget: self.budget,
            libraries: program.libraries,
            patterns: &program.patterns,
            depth: self.depth,
        };
        let value = run.value(&program.expr);
        self.scope.names.extend(bound);
        if let Some(made) = self.scope.made.get_mut(at) {
            *made = Some(value.clone());
        }
        Some(value)
    }

    fn is_bound(&self, name: &str) -> bool {
        self.scope.names.iter().any(|(known, _)| known == name)
    }

    fn index(&mut self, of: &Expr, key: &Expr, optional: bool) -> Result<Val<'a>> {
        let (of, key) = (self.value(of)?, self.value(key)?);
        let wrapped = matches!(of, Val::Optional(_));
        let inner = match &of {
            Val::Optional(None) => return Ok(Val::Optional(None)),
            Val::Optional(Some(inner)) => (**inner).clone(),
            other => other.clone(),
        };
        let found = at(&inner, &key);
        match found {
            Ok(value) if optional || wrapped => Ok(Val::some(value)),
            Err(EvalError::NoKey(_) | EvalError::OutOfBounds(_)) if optional || wrapped => Ok(Val::Optional(None)),
            found => found,
        }
    }

    fn call(&mut self, name: &str, target: Option<&Expr>, arguments: &[Expr]) -> Result<Val<'a>> {
        let space = target
            .and_then(functions::space_of)
            .filter(|space| !self.is_bound(space));
        let target = match (target, &space) {
            (Some(target), None) => Some(self.value(target)?),
            _ => None,
        };
        // These two look at the first operand before the second.
        if let (Some(Val::Optional(value)), "or" | "orValue", [other]) = (&target, name, arguments) {
            return match (value, name) {
                (Some(value), "orValue") => Ok((**value).clone()),
                (Some(_), _) => Ok(Val::Optional(value.clone())),
                (None, _) => self.value(other),
            };
        }
        let mut values: Vec<Val<'a>> = target.into_iter().collect();
        for argument in arguments {
            values.push(self.value(argument)?);
        }
        let looked_at = match (name, values.as_slice()) {
            // The size of a list is known, and of a text only the beginning or the end is looked at.
            ("size", [list]) if list.as_text().is_none() => &[],
            ("startsWith" | "endsWith", [_, part]) => std::slice::from_ref(part),
            (_, values) => values,
        };
        let cost = looked_at.iter().map(Val::weight).fold(0, u64::saturating_add);
        self.budget.pay(cost)?;
        let full = space.map(|space| format!("{space}.{name}"));
        let name = full.as_deref().unwrap_or(name);
        if let Some(function) = library::find(self.libraries, name, &values) {
            return (function.call)(&values, self.budget);
        }
        match (name, values.as_slice()) {
            ("matches" | "find" | "findAll", [text, pattern, most @ ..]) => self.search(name, text, pattern, most),
            _ => functions::call(name, &values, self.budget),
        }
    }

    /// Looks for a pattern in a text.
    fn search(&mut self, name: &str, text: &Val<'a>, by: &Val<'a>, most: &[Val<'a>]) -> Result<Val<'a>> {
        let (Some(words), Some(pattern)) = (text.as_text(), by.as_text()) else {
            return Err(no_overload(name, &[text, by]));
        };
        let regex = match self.patterns.get(pattern) {
            Some(known) => known.clone(),
            None => self.budget.pattern(pattern)?,
        };
        // Matching costs the product of both lengths, as in Kubernetes.
        let cost = (words.len() as u64 / 10 + 1).saturating_mul(pattern.len() as u64 / 4 + 1);
        self.budget.pay(cost)?;
        texts::search(name, words, &regex, most.first(), self.budget)
            .unwrap_or_else(|| Err(no_overload(name, &[text, by])))
    }

    fn unary(&mut self, operator: Unary, of: &Expr) -> Result<Val<'a>> {
        let value = self.value(of)?;
        match (operator, &value) {
            (Unary::Not, Val::Bool(truth)) => Ok(Val::Bool(!truth)),
            (Unary::Not, other) => Err(no_overload("!_", &[other])),
            (Unary::Negate, other) => arithmetic::negate(other).unwrap_or_else(|| Err(no_overload("-_", &[other]))),
        }
    }

    /// `&&` and `||`: an error on one side does not matter when the other side decides.
    fn both(&mut self, left: &Expr, right: &Expr, decides: bool) -> Result<Val<'a>> {
        let first = self.value(left);
        if matches!(first, Ok(Val::Bool(truth)) if truth == decides) || first == Err(EvalError::OutOfBudget) {
            return first;
        }
        let second = self.value(right);
        if matches!(second, Ok(Val::Bool(truth)) if truth == decides) || second == Err(EvalError::OutOfBudget) {
            return second;
        }
        match (first?, second?) {
            (Val::Bool(_), Val::Bool(_)) => Ok(Val::Bool(!decides)),
            (left, right) => Err(no_overload(if decides { "_||_" } else { "_&&_" }, &[&left, &right])),
        }
    }

    fn binary(&mut self, operator: Binary, left: &Val<'a>, right: &Val<'a>) -> Result<Val<'a>> {
        let fail = || no_overload(operator.name(), &[left, right]);
        match operator {
            Binary::Equal | Binary::NotEqual => Ok(Val::Bool(
                equal(left, right, self.budget)? == (operator == Binary::Equal),
            )),
            Binary::Less | Binary::LessOrEqual | Binary::Greater | Binary::GreaterOrEqual => {
                self.budget.pay(left.weight().min(right.weight()))?;
                let order = arithmetic::compare(left, right).ok_or_else(fail)?;
                Ok(Val::Bool(match operator {
                    Binary::Less => order.is_lt(),
                    Binary::LessOrEqual => order.is_le(),
                    Binary::Greater => order.is_gt(),
                    _ => order.is_ge(),
                }))
            }
            Binary::In => self.contains(left, right).ok_or_else(fail)?,
            Binary::Add => {
                self.budget.pay(left.weight().saturating_add(right.weight()))?;
                functions::join(left, right)
                    .or_else(|| arithmetic::apply(operator, left, right))
                    .unwrap_or_else(|| Err(fail()))
            }
            _ => arithmetic::apply(operator, left, right).unwrap_or_else(|| Err(fail())),
        }
    }

    fn contains(&mut self, item: &Val<'a>, of: &Val<'a>) -> Option<Result<Val<'a>>> {
        if let Some(items) = of.items() {
            for candidate in items {
                match equal(item, &candidate, self.budget) {
                    Ok(false) => {}
                    found => return Some(found.map(Val::Bool)),
                }
            }
            return Some(Ok(Val::Bool(false)));
        }
        match (item.key()?, of) {
            (Key::Text(name), Val::JsonMap(fields, _)) => Some(Ok(Val::Bool(fields.contains_key(&*name)))),
            (_, Val::JsonMap(..)) => Some(Ok(Val::Bool(false))),
            (key, Val::Map(entries) | Val::Lenient(entries)) => Some(Ok(Val::Bool(entries.contains_key(&key)))),
            _ => None,
        }
    }

    fn list(&mut self, items: &[(Expr, bool)]) -> Result<Val<'a>> {
        let mut values = Vec::with_capacity(items.len());
        for (item, optional) in items {
            match (self.value(item)?, optional) {
                (Val::Optional(value), true) => values.extend(value.map(|value| (*value).clone())),
                (value, _) => values.push(value),
            }
        }
        Ok(Val::List(values.into()))
    }

    fn map(&mut self, entries: &[(Expr, Expr, bool)]) -> Result<Val<'a>> {
        let mut map = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.value(key)?;
            let key = key
                .key()
                .ok_or_else(|| EvalError::Wrong(format!("unsupported key type: {}", key.type_name())))?;
            let value = match (self.value(value)?, optional) {
                (Val::Optional(None), true) => continue,
                (Val::Optional(Some(value)), true) => (*value).clone(),
                (value, _) => value,
            };
            if map.insert(key.clone(), value).is_some() {
                return Err(EvalError::RepeatedKey(key.val().to_string()));
            }
        }
        Ok(Val::Map(Arc::new(map)))
    }

    fn message(&mut self, fields: &[(String, Expr, bool)]) -> Result<Val<'a>> {
        let mut map = BTreeMap::new();
        for (name, value, optional) in fields {
            let value = match (self.value(value)?, optional) {
                (Val::Optional(None), true) => continue,
                (Val::Optional(Some(value)), true) => (*value).clone(),
                (value, _) => value,
            };
            map.insert(Key::Text(unescape(name).into()), value);
        }
        Ok(Val::Map(Arc::new(map)))
    }

    fn bind(&mut self, name: &str, value: &Expr, body: &Expr, optional: Option<Optional>) -> Result<Val<'a>> {
        let value = match (self.value(value)?, optional) {
            (value, None) => value,
            (Val::Optional(None), _) => return Ok(Val::Optional(None)),
            (Val::Optional(Some(value)), _) => (*value).clone(),
            (other, _) => return Err(no_overload("optMap", &[&other])),
        };
        let made = self.with(&[(name, value)], body)?;
        Ok(if optional == Some(Optional::Value) {
            Val::some(made)
        } else {
            made
        })
    }

    fn with(&mut self, names: &[(&str, Val<'a>)], body: &Expr) -> Result<Val<'a>> {
        let depth = self.scope.names.len();
        self.scope
            .names
            .extend(names.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let value = self.value(body);
        self.scope.names.truncate(depth);
        value
    }
}

fn literal<'a>(value: &Val<'static>) -> Val<'a> {
    value.clone()
}

/// Whether a field is there. Null counts as absent, as unset fields read.
fn has(of: &Val<'_>, field: &str) -> bool {
    match of {
        Val::Optional(Some(inner)) => has(inner, field),
        other => other.get(field).is_some_and(|value| !matches!(value, Val::Null)),
    }
}

fn at<'a>(of: &Val<'a>, key: &Val<'a>) -> Result<Val<'a>> {
    if let Some(mut items) = of.items() {
        let index = match key {
            Val::Int(index) => *index,
            Val::Uint(index) => i64::try_from(*index).unwrap_or(i64::MAX),
            Val::Double(index) if index.fract() == 0.0 => *index as i64,
            other => return Err(no_overload("_[_]", &[of, other])),
        };
        let found = usize::try_from(index).ok().and_then(|index| items.nth(index));
        return found.ok_or(EvalError::OutOfBounds(index));
    }
    match (of, key.key()) {
        (Val::JsonMap(fields, kind), Some(Key::Text(name))) => {
            let found = fields.get_key_value(&*name);
            found
                .map(|(name, value)| Val::json(value, kind.field(name)))
                .ok_or_else(|| EvalError::NoKey(name.to_string()))
        }
        (Val::Map(entries), Some(key)) => entries
            .get(&key)
            .cloned()
            .ok_or_else(|| EvalError::NoKey(key.val().to_string())),
        (Val::Lenient(entries), Some(key)) => Ok(entries.get(&key).cloned().unwrap_or_else(Val::empty)),
        (Val::JsonMap(..), Some(_)) => Err(EvalError::NoKey(key.to_string())),
        _ => Err(no_overload("_[_]", &[of, key])),
    }
}

/// The refusal of values that an operator or a function does not take.
pub(crate) fn no_overload(name: &str, values: &[&Val<'_>]) -> EvalError {
    let kinds: Vec<&str> = values.iter().map(|value| value.type_name()).collect();
    EvalError::NoOverload(format!("{name} applied to '({})'", kinds.join(", ")))
}

/// Whether two values are equal, paid for by what has to be looked at.
pub(crate) fn equal(one: &Val<'_>, other: &Val<'_>, budget: &mut Budget) -> Result<bool> {
    let differ = match (one.as_text(), other.as_text()) {
        (Some(one), Some(other)) => one.len() != other.len(),
        _ => one.size().is_some() && one.size() != other.size(),
    };
    if differ {
        budget.pay(1)?;
        return Ok(false);
    }
    one.pay_whole(budget)?;
    Ok(same(one, other))
}

impl PartialEq for Val<'_> {
    fn eq(&self, other: &Self) -> bool {
        same(self, other)
    }
}
