//! Numbers, times, and the order of values. Nothing overflows silently.

use std::cmp::Ordering;

use crate::ast::Binary;
use crate::eval::EvalError;
use crate::value::Val;

/// The order of two values that have one.
pub(crate) fn compare(one: &Val<'_>, other: &Val<'_>) -> Option<Ordering> {
    if let (Some(one), Some(other)) = (one.as_text(), other.as_text()) {
        return Some(one.cmp(other));
    }
    match (one, other) {
        (Val::Bool(one), Val::Bool(other)) => Some(one.cmp(other)),
        (Val::Bytes(one), Val::Bytes(other)) => Some(one.cmp(other)),
        (Val::Duration(one), Val::Duration(other)) => Some(one.cmp(other)),
        (Val::Time(one), Val::Time(other)) => Some(one.cmp(other)),
        (Val::Double(one), Val::Double(other)) => one.partial_cmp(other),
        (Val::Double(one), other) => one.partial_cmp(&whole(other).map(|whole| whole as f64)?),
        (one, Val::Double(other)) => whole(one).map(|whole| whole as f64)?.partial_cmp(other),
        (one, other) => Some(whole(one)?.cmp(&whole(other)?)),
    }
}

fn whole(val: &Val<'_>) -> Option<i128> {
    match val {
        Val::Int(number) => Some(i128::from(*number)),
        Val::Uint(number) => Some(i128::from(*number)),
        _ => None,
    }
}

/// `-value`.
pub(crate) fn negate<'a>(val: &Val<'a>) -> Option<Result<Val<'a>, EvalError>> {
    Some(match val {
        Val::Int(number) => number.checked_neg().map(Val::Int).ok_or(EvalError::Overflow),
        Val::Double(number) => Ok(Val::Double(-number)),
        Val::Duration(nanos) => nanos.checked_neg().map(Val::Duration).ok_or(EvalError::Overflow),
        _ => return None,
    })
}

/// A sum and the like of numbers and times; `None` when the operator does not take such values.
pub(crate) fn apply<'a>(operator: Binary, left: &Val<'a>, right: &Val<'a>) -> Option<Result<Val<'a>, EvalError>> {
    let over = |result: Option<Val<'a>>| result.ok_or(EvalError::Overflow);
    Some(match (left, right) {
        (Val::Int(one), Val::Int(other)) => match operator {
            Binary::Add => over(one.checked_add(*other).map(Val::Int)),
            Binary::Subtract => over(one.checked_sub(*other).map(Val::Int)),
            Binary::Multiply => over(one.checked_mul(*other).map(Val::Int)),
            Binary::Divide if *other == 0 => Err(EvalError::DivisionByZero),
            Binary::Divide => over(one.checked_div(*other).map(Val::Int)),
            Binary::Modulo if *other == 0 => Err(EvalError::ModulusByZero),
            Binary::Modulo => over(one.checked_rem(*other).map(Val::Int)),
            _ => return None,
        },
        (Val::Uint(one), Val::Uint(other)) => match operator {
            Binary::Add => over(one.checked_add(*other).map(Val::Uint)),
            Binary::Subtract => over(one.checked_sub(*other).map(Val::Uint)),
            Binary::Multiply => over(one.checked_mul(*other).map(Val::Uint)),
            Binary::Divide if *other == 0 => Err(EvalError::DivisionByZero),
            Binary::Divide => over(one.checked_div(*other).map(Val::Uint)),
            Binary::Modulo if *other == 0 => Err(EvalError::ModulusByZero),
            Binary::Modulo => over(one.checked_rem(*other).map(Val::Uint)),
            _ => return None,
        },
        (Val::Double(one), Val::Double(other)) => match operator {
            Binary::Add => Ok(Val::Double(one + other)),
            Binary::Subtract => Ok(Val::Double(one - other)),
            Binary::Multiply => Ok(Val::Double(one * other)),
            Binary::Divide => Ok(Val::Double(one / other)),
            _ => return None,
        },
        (Val::Duration(one), Val::Duration(other)) => match operator {
            Binary::Add => over(one.checked_add(*other).map(Val::Duration)),
            Binary::Subtract => over(one.checked_sub(*other).map(Val::Duration)),
            _ => return None,
        },
        (Val::Time(moment), Val::Duration(length)) => match operator {
            Binary::Add => over(moment.checked_add(i128::from(*length)).map(Val::Time)),
            Binary::Subtract => over(moment.checked_sub(i128::from(*length)).map(Val::Time)),
            _ => return None,
        },
        (Val::Duration(length), Val::Time(moment)) if operator == Binary::Add => {
            over(moment.checked_add(i128::from(*length)).map(Val::Time))
        }
        (Val::Time(one), Val::Time(other)) if operator == Binary::Subtract => over(
            one.checked_sub(*other)
                .and_then(|nanos| i64::try_from(nanos).ok())
                .map(Val::Duration),
        ),
        _ => return None,
    })
}
