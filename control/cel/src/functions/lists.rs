//! The functions of lists, and of lists as sets.

use std::sync::Arc;

use super::Result;
use crate::arithmetic;
use crate::budget::Budget;
use crate::eval::{EvalError, equal, no_overload};
use crate::value::Val;

pub(super) fn of_list<'a>(name: &str, list: &Val<'a>, budget: &mut Budget) -> Option<Result<Val<'a>>> {
    let items: Vec<Val<'a>> = list.items()?.collect();
    let fail = || no_overload(name, &[list]);
    Some(match name {
        "isSorted" => Ok(Val::Bool(items.is_sorted_by(|one, other| {
            arithmetic::compare(one, other).is_some_and(|order| order.is_le())
        }))),
        "sum" => {
            let mut sum = items.first().cloned().unwrap_or(Val::Int(0));
            for item in items.iter().skip(1) {
                match arithmetic::apply(crate::ast::Binary::Add, &sum, item) {
                    Some(Ok(next)) => sum = next,
                    Some(Err(error)) => return Some(Err(error)),
                    None => return Some(Err(fail())),
                }
            }
            Ok(sum)
        }
        "min" | "max" | "math.least" | "math.greatest" => {
            let least = matches!(name, "min" | "math.least");
            extreme(items, least).unwrap_or_else(|| Err(EvalError::Wrong(format!("{name} called on empty list"))))
        }
        "reverse" => Ok(Val::List(items.into_iter().rev().collect())),
        "distinct" => {
            let mut kept: Vec<Val<'a>> = Vec::new();
            for item in items {
                match holds(&kept, &item, budget) {
                    Ok(true) => {}
                    Ok(false) => kept.push(item),
                    Err(error) => return Some(Err(error)),
                }
            }
            Ok(Val::List(kept.into()))
        }
        "sort" => {
            // Each item is compared about as often as the list's length has binary digits.
            for _ in 0..items.len().checked_ilog2().unwrap_or(0) {
                if let Err(error) = list.pay_whole(budget) {
                    return Some(Err(error));
                }
            }
            let mut items = items;
            let sortable = items
                .windows(2)
                .all(|pair| matches!(pair, [one, other] if arithmetic::compare(one, other).is_some()));
            if !sortable {
                return Some(Err(fail()));
            }
            items.sort_by(|one, other| arithmetic::compare(one, other).unwrap_or(std::cmp::Ordering::Equal));
            Ok(Val::List(items.into()))
        }
        "unwrapOpt" => return unwrapped(list).map(Ok),
        "flatten" => flatten(list, 1, budget),
        "first" => Ok(Val::Optional(items.into_iter().next().map(Arc::new))),
        "last" => Ok(Val::Optional(items.into_iter().next_back().map(Arc::new))),
        _ => return None,
    })
}

/// Whether one of the items is equal to another.
fn holds(items: &[Val<'_>], item: &Val<'_>, budget: &mut Budget) -> Result<bool> {
    for candidate in items {
        if equal(candidate, item, budget)? {
            return Ok(true);
        }
    }
    budget.pay(1)?;
    Ok(false)
}

/// How many items of one list are in another.
fn shared(one: &Val<'_>, other: &Val<'_>, budget: &mut Budget) -> Result<usize> {
    let others: Vec<Val<'_>> = other.items().into_iter().flatten().collect();
    let mut count = 0;
    for item in one.items().into_iter().flatten() {
        count += usize::from(holds(&others, &item, budget)?);
    }
    Ok(count)
}

pub(super) fn sets<'a>(name: &str, one: &Val<'a>, other: &Val<'a>, budget: &mut Budget) -> Option<Result<Val<'a>>> {
    let (first, second) = (one.items()?.count(), other.items()?.count());
    let found = match name {
        "sets.contains" => shared(other, one, budget).map(|count| count == second),
        "sets.intersects" => shared(one, other, budget).map(|count| count > 0),
        "sets.equivalent" => {
            shared(other, one, budget).and_then(|count| Ok(count == second && shared(one, other, budget)? == first))
        }
        _ => return None,
    };
    Some(found.map(Val::Bool))
}

pub(super) fn extreme<'a>(items: Vec<Val<'a>>, least: bool) -> Option<Result<Val<'a>>> {
    let mut items = items.into_iter();
    let mut found = items.next()?;
    for item in items {
        match arithmetic::compare(&item, &found) {
            Some(order) if order.is_lt() == least && order.is_ne() => found = item,
            Some(_) => {}
            None => return Some(Err(no_overload("min", &[&item, &found]))),
        }
    }
    Some(Ok(found))
}

pub(super) fn flatten<'a>(list: &Val<'a>, depth: i64, budget: &mut Budget) -> Result<Val<'a>> {
    let mut flat = Vec::new();
    for item in list.items().into_iter().flatten() {
        budget.pay(1)?;
        match (depth > 0, item.items()) {
            (true, Some(_)) => match flatten(&item, depth - 1, budget)? {
                Val::List(items) => flat.extend(items.iter().cloned()),
                other => flat.push(other),
            },
            _ => flat.push(item),
        }
    }
    Ok(Val::List(flat.into()))
}

pub(super) fn slice<'a>(list: &Val<'a>, from: i64, to: i64) -> Option<Result<Val<'a>>> {
    let length = list.items()?.count();
    let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    Some(match range.filter(|(from, to)| from <= to && *to <= length) {
        Some((from, to)) => Ok(Val::List(list.items()?.skip(from).take(to - from).collect())),
        None => Err(EvalError::Wrong(format!(
            "cannot slice({from}, {to}), list is length {length}"
        ))),
    })
}

/// The values of the optionals of a list that have one.
pub(super) fn unwrapped<'a>(list: &Val<'a>) -> Option<Val<'a>> {
    let values = list.items()?.filter_map(|item| match item {
        Val::Optional(value) => value.map(|value| (*value).clone()),
        other => Some(other),
    });
    Some(Val::List(values.collect()))
}
