//! The functions of the language and of Kubernetes' libraries, by name.
//!
//! A function takes its target first. The table at the end says which names exist and how many arguments they take, for
//! the check; what a function does is decided by the values.

mod foreign;
mod lists;

use foreign::{of_foreign, with_foreign};
use lists::{extreme, flatten, of_list, sets, slice, unwrapped};

use crate::ast::{Expr, Node};
use crate::budget::Budget;
use crate::eval::{EvalError, equal, no_overload};
use crate::network::{self, Cidr, Ip, Url, Version};
use crate::texts;
use crate::time;
use crate::value::Val;

type Result<T, E = EvalError> = std::result::Result<T, E>;

/// The first part of a function's name that has two, where the target is no variable but such a part.
pub(crate) fn space_of(target: &Expr) -> Option<&str> {
    const SPACES: [&str; 10] = [
        "optional",
        "math",
        "base64",
        "sets",
        "strings",
        "lists",
        "cel",
        "ip",
        "format",
        "jsonpatch",
    ];
    match &target.node {
        Node::Name(name) if SPACES.contains(&name.as_str()) => Some(name),
        _ => None,
    }
}

/// The value of a name that means a type.
pub(crate) fn type_value<'a>(name: &str) -> Option<Val<'a>> {
    const TYPES: [&str; 14] = [
        "bool",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
        "type",
        "optional_type",
        "google.protobuf.Duration",
        "google.protobuf.Timestamp",
        "net.IP",
    ];
    TYPES.contains(&name).then(|| Val::Type(name.to_owned()))
}

/// `+` of texts, bytes and lists.
pub(crate) fn join<'a>(left: &Val<'a>, right: &Val<'a>) -> Option<Result<Val<'a>>> {
    if let (Some(one), Some(other)) = (left.as_text(), right.as_text()) {
        return Some(Ok(Val::text(format!("{one}{other}"))));
    }
    if let (Val::Bytes(one), Val::Bytes(other)) = (left, right) {
        return Some(Ok(Val::Bytes([&**one, &**other].concat().into())));
    }
    let (one, other) = (left.items()?, right.items()?);
    Some(Ok(Val::List(one.chain(other).collect())))
}

/// Calls a function with its values, the target first.
pub(crate) fn call<'a>(name: &str, values: &[Val<'a>], budget: &mut Budget) -> Result<Val<'a>> {
    let wrong = || no_overload(name, &values.iter().collect::<Vec<_>>());
    if let Some(found) = texts::call(name, values, budget) {
        return found;
    }
    let found = match values {
        [value] => one(name, value, budget),
        [value, other] => two(name, value, other, budget),
        _ => None,
    };
    found
        .or_else(|| space(name, values, budget))
        .unwrap_or_else(|| Err(wrong()))
}

fn one<'a>(name: &str, value: &Val<'a>, budget: &mut Budget) -> Option<Result<Val<'a>>> {
    Some(Ok(match (name, value) {
        ("size", value) => Val::Int(i64::try_from(value.size()?).unwrap_or(i64::MAX)),
        ("dyn", value) => value.clone(),
        ("type", value) => Val::Type(value.type_name().to_owned()),
        ("string" | "int" | "uint" | "double" | "bool" | "bytes" | "duration" | "timestamp", value) => {
            return convert(name, value);
        }
        ("hasValue", Val::Optional(value)) => Val::Bool(value.is_some()),
        ("value", Val::Optional(value)) => {
            return Some(value.as_ref().map(|value| (**value).clone()).ok_or(EvalError::Missing));
        }
        (_, Val::Time(nanos)) => return time::part(name, *nanos, None),
        (_, Val::Duration(nanos)) => Val::Int(match name {
            "getHours" => nanos / 3_600_000_000_000,
            "getMinutes" => nanos / 60_000_000_000,
            "getSeconds" => nanos / 1_000_000_000,
            "getMilliseconds" => nanos / 1_000_000 % 1000,
            _ => return None,
        }),
        (_, Val::Foreign(value)) => return of_foreign(name, &**value),
        (_, value) if value.items().is_some() => return of_list(name, value, budget),
        (_, value) => return made(name, value.as_text()?),
    }))
}

fn two<'a>(name: &str, value: &Val<'a>, other: &Val<'a>, budget: &mut Budget) -> Option<Result<Val<'a>>> {
    match (name, value, other) {
        ("indexOf" | "lastIndexOf", list, item) if list.items().is_some() => {
            Some(index_of(list, item, name == "lastIndexOf", budget))
        }
        ("flatten", list, Val::Int(depth)) => Some(flatten(list, *depth, budget)),
        (_, Val::Time(nanos), zone) => time::part(name, *nanos, Some(zone.as_text()?)),
        (_, Val::Foreign(value), other) => with_foreign(name, &**value, other),
        ("semver", value, Val::Bool(lenient)) => Some(version(value.as_text()?, *lenient)),
        ("isSemver", value, Val::Bool(lenient)) => {
            Some(Ok(Val::Bool(Version::parse(value.as_text()?, *lenient).is_some())))
        }
        _ => None,
    }
}

fn index_of<'a>(list: &Val<'a>, item: &Val<'a>, last: bool, budget: &mut Budget) -> Result<Val<'a>> {
    let mut found = -1;
    for (index, candidate) in list.items().into_iter().flatten().enumerate() {
        if (last || found < 0) && equal(&candidate, item, budget)? {
            found = i64::try_from(index).unwrap_or(i64::MAX);
        }
    }
    Ok(Val::Int(found))
}

fn version<'a>(text: &str, lenient: bool) -> Result<Val<'a>> {
    Version::parse(text, lenient)
        .map(Val::foreign)
        .ok_or_else(|| EvalError::Wrong(format!("invalid semantic version: {text:?}")))
}

fn convert<'a>(name: &str, value: &Val<'a>) -> Option<Result<Val<'a>>> {
    let wrong = |words: String| Err(EvalError::Wrong(words));
    let text = value.as_text();
    Some(match (name, value) {
        ("string", Val::Bytes(bytes)) => String::from_utf8(bytes.to_vec())
            .map(Val::text)
            .map_err(|_| EvalError::Wrong("invalid UTF-8 in bytes, cannot convert to string".to_owned())),
        ("string", Val::Bool(_) | Val::Int(_) | Val::Uint(_) | Val::Double(_) | Val::Duration(_) | Val::Time(_)) => {
            Ok(Val::text(value.to_string()))
        }
        ("string", Val::Foreign(value)) => of_foreign("string", &**value)?,
        ("string", value) if text.is_some() => Ok(value.clone()),
        ("int", Val::Int(_))
        | ("uint", Val::Uint(_))
        | ("double", Val::Double(_))
        | ("bool", Val::Bool(_))
        | ("bytes", Val::Bytes(_))
        | ("duration", Val::Duration(_))
        | ("timestamp", Val::Time(_)) => Ok(value.clone()),
        ("int", Val::Uint(number)) => i64::try_from(*number).map(Val::Int).map_err(|_| EvalError::Overflow),
        ("int", Val::Double(number)) if number.abs() < 9.2e18 => Ok(Val::Int(*number as i64)),
        ("int" | "uint", Val::Double(_)) => Err(EvalError::Overflow),
        ("int", Val::Time(nanos)) => i64::try_from(nanos.div_euclid(1_000_000_000))
            .map(Val::Int)
            .map_err(|_| EvalError::Overflow),
        ("uint", Val::Int(number)) => u64::try_from(*number).map(Val::Uint).map_err(|_| EvalError::Overflow),
        ("double", Val::Int(number)) => Ok(Val::Double(*number as f64)),
        ("double", Val::Uint(number)) => Ok(Val::Double(*number as f64)),
        ("timestamp", Val::Int(seconds)) => Ok(Val::Time(i128::from(*seconds) * 1_000_000_000)),
        (name, _) => {
            let text = text?;
            let failed = || wrong(format!("type conversion error from 'string' to '{name}'"));
            match name {
                "int" => text.parse().map(Val::Int).or_else(|_| failed()),
                "uint" => text.parse().map(Val::Uint).or_else(|_| failed()),
                "double" => text.parse().map(Val::Double).or_else(|_| failed()),
                "bool" => match text {
                    "true" | "True" | "TRUE" | "t" | "1" => Ok(Val::Bool(true)),
                    "false" | "False" | "FALSE" | "f" | "0" => Ok(Val::Bool(false)),
                    _ => failed(),
                },
                "bytes" => Ok(Val::Bytes(text.as_bytes().into())),
                "duration" => time::parse_duration(text).map(Val::Duration).map_or_else(failed, Ok),
                "timestamp" => time::parse_moment(text).map(Val::Time).map_or_else(failed, Ok),
                _ => return None,
            }
        }
    })
}

/// What is made from a text.
fn made<'a>(name: &str, text: &str) -> Option<Result<Val<'a>>> {
    let wrong = |words: String| EvalError::Wrong(words);
    Some(match name {
        "isIP" => Ok(Val::Bool(Ip::parse(text).is_some())),
        "isCIDR" => Ok(Val::Bool(Cidr::parse(text).is_some())),
        "isURL" => Ok(Val::Bool(Url::parse(text).is_some())),
        "isSemver" => Ok(Val::Bool(Version::parse(text, false).is_some())),
        "ip" => Ip::parse(text)
            .map(Val::foreign)
            .ok_or_else(|| wrong(format!("IP Address {text:?} parse error"))),
        "cidr" => Cidr::parse(text).map(Val::foreign).ok_or_else(|| {
            wrong(format!(
                "network address parse error during conversion from string: {text:?}"
            ))
        }),
        "url" => Url::parse(text)
            .map(Val::foreign)
            .ok_or_else(|| wrong(format!("URL parse error during conversion from string: {text:?}"))),
        "semver" => version(text, false),
        "ip.isCanonical" => Ip::parse(text)
            .map(|ip| Val::Bool(ip.0.to_string() == text))
            .ok_or_else(|| wrong(format!("IP Address {text:?} parse error"))),
        "base64.decode" => network::from_base64(text)
            .map(|bytes| Val::Bytes(bytes.into()))
            .ok_or_else(|| wrong("illegal base64 data".to_owned())),
        _ => return None,
    })
}

/// Functions with a name in two parts.
fn space<'a>(name: &str, values: &[Val<'a>], budget: &mut Budget) -> Option<Result<Val<'a>>> {
    if let [one, other] = values
        && let Some(found) = sets(name, one, other, budget)
    {
        return Some(found);
    }
    Some(Ok(match (name, values) {
        ("optional.of", [value]) => Val::some(value.clone()),
        ("optional.none", []) => Val::Optional(None),
        ("optional.ofNonZeroValue", [value]) => {
            let zero = match value {
                Val::Null | Val::Bool(false) | Val::Int(0) | Val::Uint(0) => true,
                Val::Double(number) => *number == 0.0,
                value => value.size() == Some(0),
            };
            if zero {
                Val::Optional(None)
            } else {
                Val::some(value.clone())
            }
        }
        ("base64.encode", [Val::Bytes(bytes)]) => Val::text(network::to_base64(bytes)),
        ("optional.unwrap", [list]) => unwrapped(list)?,
        ("slice", [list, Val::Int(from), Val::Int(to)]) => return slice(list, *from, *to),
        ("lists.range", [Val::Int(count)]) => {
            if let Err(error) = budget.pay(u64::try_from(*count).unwrap_or(0)) {
                return Some(Err(error));
            }
            Val::List((0..*count).map(Val::Int).collect())
        }
        ("math.least" | "math.greatest", [_, _, ..]) => return extreme(values.to_vec(), name == "math.least"),
        ("math.abs", [Val::Int(number)]) => return Some(number.checked_abs().map(Val::Int).ok_or(EvalError::Overflow)),
        ("math.abs", [Val::Double(number)]) => Val::Double(number.abs()),
        ("math.ceil", [Val::Double(number)]) => Val::Double(number.ceil()),
        ("math.floor", [Val::Double(number)]) => Val::Double(number.floor()),
        ("math.round", [Val::Double(number)]) => Val::Double(number.round()),
        _ => return None,
    }))
}

/// The functions that there are: name, fewest and most values with the target.
pub(crate) const KNOWN: &[(&str, usize, usize)] = &[
    ("size", 1, 1),
    ("dyn", 1, 1),
    ("type", 1, 1),
    ("string", 1, 1),
    ("int", 1, 1),
    ("uint", 1, 1),
    ("double", 1, 1),
    ("bool", 1, 1),
    ("bytes", 1, 1),
    ("duration", 1, 1),
    ("timestamp", 1, 1),
    ("hasValue", 1, 1),
    ("value", 1, 1),
    ("or", 2, 2),
    ("orValue", 2, 2),
    ("getFullYear", 1, 2),
    ("getMonth", 1, 2),
    ("getDate", 1, 2),
    ("getDayOfMonth", 1, 2),
    ("getDayOfWeek", 1, 2),
    ("getDayOfYear", 1, 2),
    ("getHours", 1, 2),
    ("getMinutes", 1, 2),
    ("getSeconds", 1, 2),
    ("getMilliseconds", 1, 2),
    ("contains", 2, 2),
    ("startsWith", 2, 2),
    ("endsWith", 2, 2),
    ("matches", 2, 2),
    ("find", 2, 2),
    ("findAll", 2, 3),
    ("charAt", 2, 2),
    ("indexOf", 2, 3),
    ("lastIndexOf", 2, 3),
    ("join", 1, 2),
    ("lowerAscii", 1, 1),
    ("upperAscii", 1, 1),
    ("replace", 3, 4),
    ("split", 2, 3),
    ("substring", 2, 3),
    ("trim", 1, 1),
    ("reverse", 1, 1),
    ("strings.quote", 1, 1),
    ("format", 2, 2),
    ("isSorted", 1, 1),
    ("sum", 1, 1),
    ("min", 1, 1),
    ("max", 1, 1),
    ("distinct", 1, 1),
    ("sort", 1, 1),
    ("flatten", 1, 2),
    ("first", 1, 1),
    ("last", 1, 1),
    ("isIP", 1, 1),
    ("ip", 1, 1),
    ("family", 1, 1),
    ("isUnspecified", 1, 1),
    ("isLoopback", 1, 1),
    ("isLinkLocalMulticast", 1, 1),
    ("isLinkLocalUnicast", 1, 1),
    ("isGlobalUnicast", 1, 1),
    ("ip.isCanonical", 1, 1),
    ("isCIDR", 1, 1),
    ("cidr", 1, 1),
    ("masked", 1, 1),
    ("prefixLength", 1, 1),
    ("containsIP", 2, 2),
    ("containsCIDR", 2, 2),
    ("isURL", 1, 1),
    ("url", 1, 1),
    ("getScheme", 1, 1),
    ("getHost", 1, 1),
    ("getHostname", 1, 1),
    ("getPort", 1, 1),
    ("getEscapedPath", 1, 1),
    ("getQuery", 1, 1),
    ("isSemver", 1, 2),
    ("semver", 1, 2),
    ("major", 1, 1),
    ("minor", 1, 1),
    ("patch", 1, 1),
    ("isGreaterThan", 2, 2),
    ("isLessThan", 2, 2),
    ("compareTo", 2, 2),
    ("optional.of", 1, 1),
    ("optional.none", 0, 0),
    ("optional.ofNonZeroValue", 1, 1),
    ("optional.unwrap", 1, 1),
    ("unwrapOpt", 1, 1),
    ("slice", 3, 3),
    ("base64.encode", 1, 1),
    ("base64.decode", 1, 1),
    ("sets.contains", 2, 2),
    ("sets.equivalent", 2, 2),
    ("sets.intersects", 2, 2),
    ("lists.range", 1, 1),
    ("math.least", 1, 16),
    ("math.greatest", 1, 16),
    ("math.abs", 1, 1),
    ("math.ceil", 1, 1),
    ("math.floor", 1, 1),
    ("math.round", 1, 1),
];
