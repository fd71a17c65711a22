//! The macros that walk over lists and maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{EvalError, Result, Run, no_overload};
use crate::ast::{Each, Expr};
use crate::value::{Key, Val};

impl<'a> Run<'a, '_, '_> {
    /// What a macro walks over: for each step the values of its one or two variables.
    fn steps(&self, of: &Val<'a>, pair: bool) -> Option<Vec<(Val<'a>, Val<'a>)>> {
        if let Some(items) = of.items() {
            let numbered = items.enumerate().map(|(index, item)| match pair {
                true => (Val::Int(i64::try_from(index).unwrap_or(i64::MAX)), item),
                false => (item, Val::Null),
            });
            return Some(numbered.collect());
        }
        of.entries()
    }

    pub(super) fn each(
        &mut self,
        each: Each,
        of: &Val<'a>,
        (first, second): (&str, Option<&str>),
        (filter, body): (Option<&Expr>, &Expr),
    ) -> Result<Val<'a>> {
        self.budget.pay(of.weight())?;
        let steps = self
            .steps(of, second.is_some())
            .ok_or_else(|| no_overload("comprehension", &[of]))?;
        let mut state = State::new(each);
        for (one, other) in steps {
            self.budget.pay(1)?;
            let mut names = vec![(first, one.clone())];
            names.extend(second.map(|second| (second, other.clone())));
            if let Some(filter) = filter {
                match self.with(&names, filter)? {
                    Val::Bool(true) => {}
                    Val::Bool(false) => continue,
                    other => return Err(no_overload("filter", &[&other])),
                }
            }
            let value = self.with(&names, body);
            if value == Err(EvalError::OutOfBudget) {
                return value;
            }
            if let Some(done) = state.take(value, one)? {
                return Ok(done);
            }
        }
        state.end()
    }
}

/// What a macro has found so far.
struct State<'a> {
    each: Each,
    list: Vec<Val<'a>>,
    map: BTreeMap<Key, Val<'a>>,
    count: usize,
    failed: Option<EvalError>,
}

impl<'a> State<'a> {
    fn new(each: Each) -> Self {
        Self {
            each,
            list: Vec::new(),
            map: BTreeMap::new(),
            count: 0,
            failed: None,
        }
    }

    /// Takes the body's value for one item; a value ends the walk.
    fn take(&mut self, value: Result<Val<'a>>, item: Val<'a>) -> Result<Option<Val<'a>>> {
        match (self.each, value) {
            // One item that decides makes the errors of others meaningless.
            (Each::All | Each::Exists, Err(error)) => self.failed = Some(error),
            (_, Err(error)) => return Err(error),
            (Each::All, Ok(Val::Bool(truth))) => return Ok((!truth).then_some(Val::Bool(false))),
            (Each::Exists, Ok(Val::Bool(truth))) => return Ok(truth.then_some(Val::Bool(true))),
            (Each::ExistsOne, Ok(Val::Bool(truth))) => self.count += usize::from(truth),
            (Each::Filter, Ok(Val::Bool(truth))) => self.list.extend(truth.then_some(item)),
            (Each::Map | Each::TransformList, Ok(value)) => self.list.push(value),
            (Each::TransformMap, Ok(value)) => {
                let key = item.key().ok_or_else(|| no_overload("transformMap", &[&item]))?;
                self.map.insert(key, value);
            }
            (Each::TransformMapEntry, Ok(value)) => {
                let entries = value
                    .entries()
                    .ok_or_else(|| no_overload("transformMapEntry", &[&value]))?;
                for (key, value) in entries {
                    let key = key.key().ok_or_else(|| no_overload("transformMapEntry", &[&key]))?;
                    if self.map.insert(key.clone(), value).is_some() {
                        return Err(EvalError::RepeatedKey(key.val().to_string()));
                    }
                }
            }
            (_, Ok(other)) => return Err(no_overload("comprehension", &[&other])),
        }
        Ok(None)
    }

    fn end(self) -> Result<Val<'a>> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        Ok(match self.each {
            Each::All => Val::Bool(true),
            Each::Exists => Val::Bool(false),
            Each::ExistsOne => Val::Bool(self.count == 1),
            Each::Map | Each::Filter | Each::TransformList => Val::List(self.list.into()),
            Each::TransformMap | Each::TransformMapEntry => Val::Map(Arc::new(self.map)),
        })
    }
}
