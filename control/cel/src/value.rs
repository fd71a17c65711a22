//! Values: JSON where it lies, and what expressions make of it.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use crate::budget::Budget;
use crate::eval::EvalError;
use crate::kind::Kind;
use crate::{network, time};

/// A value of a type that a library brings, such as an address or an amount.
pub trait Foreign: Any + Debug + Send + Sync {
    /// The type's name.
    fn kind(&self) -> &'static str;
    /// Whether two values are equal.
    fn same(&self, other: &dyn Foreign) -> bool;
    /// The value itself, for its own library.
    fn any(&self) -> &dyn Any;
}

/// A value.
#[derive(Debug, Clone)]
pub enum Val<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not negative.
    Uint(u64),
    /// A number.
    Double(f64),
    /// A text in JSON.
    Borrowed(&'a str),
    /// A text that was made.
    Text(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A length of time, in nanoseconds.
    Duration(i64),
    /// A moment, in nanoseconds since 1970.
    Time(i128),
    /// A list in JSON, with what is known of its items.
    JsonList(&'a [Value], &'a Kind),
    /// A list that was made.
    List(Arc<[Val<'a>]>),
    /// An object or a map in JSON, with what is known of it.
    JsonMap(&'a Map<String, Value>, &'a Kind),
    /// A map that was made.
    Map(Arc<BTreeMap<Key, Val<'a>>>),
    /// A map that was made, of maps: under each key that it lacks, an empty one is found.
    Lenient(Arc<BTreeMap<Key, Val<'a>>>),
    /// A value that may be missing.
    Optional(Option<Arc<Val<'a>>>),
    /// The type of a value.
    Type(String),
    /// A value of a library's type.
    Foreign(Arc<dyn Foreign>),
}

/// A key of a map that was made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A truth.
    Bool(bool),
    /// A number; unsigned ones too.
    Int(i128),
    /// A text.
    Text(Arc<str>),
}

impl<'a> Val<'a> {
    /// A text.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// A value of a library's type.
    pub fn foreign(value: impl Foreign) -> Self {
        Self::Foreign(Arc::new(value))
    }

    /// A map of texts to values.
    pub fn map<'n>(entries: impl IntoIterator<Item = (&'n str, Val<'a>)>) -> Self {
        Self::Map(Arc::new(by_text(entries)))
    }

    /// A map of texts to maps, in which an empty one is found under each text that is not there.
    pub fn lenient<'n>(entries: impl IntoIterator<Item = (&'n str, Val<'a>)>) -> Self {
        Self::Lenient(Arc::new(by_text(entries)))
    }

    pub(crate) fn empty() -> Self {
        Self::Map(Arc::default())
    }

    /// A version as semver.org has it; `None` if the text is none.
    pub fn version(text: &str) -> Option<Self> {
        network::Version::parse(text, false).map(Self::foreign)
    }

    /// An optional with a value.
    pub fn some(value: Val<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// A value in JSON, read as what is known of it.
    pub fn json(value: &'a Value, kind: &'a Kind) -> Self {
        match (value, kind) {
            (Value::Null, _) => Self::Null,
            (Value::Bool(truth), _) => Self::Bool(*truth),
            (Value::Number(number), kind) => Self::number(number, kind),
            (Value::String(text), Kind::Time) => time::parse_moment(text).map_or(Self::Borrowed(text), Self::Time),
            (Value::String(text), Kind::Duration) => {
                time::parse_duration(text).map_or(Self::Borrowed(text), Self::Duration)
            }
            (Value::String(text), Kind::Bytes) => {
                network::from_base64(text).map_or(Self::Borrowed(text), |bytes| Self::Bytes(bytes.into()))
            }
            (Value::String(text), _) => Self::Borrowed(text),
            (Value::Array(items), kind) => Self::JsonList(items, kind),
            (Value::Object(fields), kind) => Self::JsonMap(fields, kind),
        }
    }

    fn number(number: &Number, kind: &Kind) -> Self {
        match (number.as_i64(), kind) {
            (Some(whole), Kind::Double) => Self::Double(whole as f64),
            (Some(whole), _) => Self::Int(whole),
            (None, Kind::Int) => {
                let double = number.as_f64().unwrap_or_default();
                if double.fract() == 0.0 && double.abs() < 9e18 {
                    Self::Int(double as i64)
                } else {
                    Self::Double(double)
                }
            }
            (None, _) => Self::Double(number.as_f64().unwrap_or_default()),
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Borrowed(text) => Some(text),
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list's length or a map's, a text's in characters, the number of bytes.
    pub(crate) fn size(&self) -> Option<usize> {
        Some(match self {
            Self::Borrowed(_) | Self::Text(_) => self.as_text().unwrap_or_default().chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::JsonList(items, _) => items.len(),
            Self::List(items) => items.len(),
            Self::JsonMap(fields, _) => fields.len(),
            Self::Map(entries) | Self::Lenient(entries) => entries.len(),
            _ => return None,
        })
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Option<Items<'_, 'a>> {
        match self {
            Self::JsonList(items, kind) => Some(Items::Json(items.iter(), kind.item())),
            Self::List(items) => Some(Items::Made(items.iter())),
            _ => None,
        }
    }

    /// The keys and values of a map, in no particular order.
    pub(crate) fn entries(&self) -> Option<Vec<(Val<'a>, Val<'a>)>> {
        match self {
            Self::JsonMap(fields, kind) => Some(
                fields
                    .iter()
                    .map(|(name, value)| (Val::Borrowed(name.as_str()), Val::json(value, kind.field(name))))
                    .collect(),
            ),
            Self::Map(entries) | Self::Lenient(entries) => {
                Some(entries.iter().map(|(key, value)| (key.val(), value.clone())).collect())
            }
            _ => None,
        }
    }

    /// The value of a field or a key.
    pub(crate) fn get(&self, name: &str) -> Option<Val<'a>> {
        match self {
            Self::JsonMap(fields, kind) => {
                let name = kind.unescaped(name);
                // A field that may be null and is, is there; one of an object whose value is null and may not be, is not.
                fields
                    .get_key_value(name.as_ref())
                    .map(|(name, value)| Val::json(value, kind.field(name)))
            }
            Self::Map(entries) => entries.get(&Key::Text(name.into())).cloned(),
            Self::Lenient(entries) => Some(entries.get(&Key::Text(name.into())).cloned().unwrap_or_else(Val::empty)),
            _ => None,
        }
    }

    /// The value as a map's key.
    pub(crate) fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Bool(truth) => Key::Bool(*truth),
            Self::Int(number) => Key::Int(i128::from(*number)),
            Self::Uint(number) => Key::Int(i128::from(*number)),
            Self::Double(number) if number.fract() == 0.0 => Key::Int(*number as i128),
            Self::Borrowed(text) => Key::Text((*text).into()),
            Self::Text(text) => Key::Text(text.clone()),
            _ => return None,
        })
    }

    /// The name of its type.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Borrowed(_) | Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::JsonList(..) | Self::List(_) => "list",
            Self::JsonMap(..) | Self::Map(_) | Self::Lenient(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Foreign(value) => value.kind(),
        }
    }

    /// How much looking at the whole value costs: at least 1, a tenth of its size for texts, as in Kubernetes.
    pub(crate) fn weight(&self) -> u64 {
        match self {
            Self::Borrowed(_) | Self::Text(_) => 1 + self.as_text().unwrap_or_default().len() as u64 / 10,
            Self::Bytes(bytes) => 1 + bytes.len() as u64 / 10,
            other => 1 + other.size().unwrap_or_default() as u64,
        }
    }
}

impl Val<'_> {
    /// Pays for looking at all that is in the value.
    pub(crate) fn pay_whole(&self, budget: &mut Budget) -> Result<(), EvalError> {
        match self {
            Self::JsonList(items, kind) if kind.is_unordered() => {
                // Every item may be compared with every other.
                budget.pay((items.len() as u64).saturating_mul(items.len() as u64))?;
            }
            _ => {}
        }
        match self {
            Self::JsonList(..) | Self::List(_) => {
                budget.pay(1)?;
                self.items()
                    .into_iter()
                    .flatten()
                    .try_for_each(|item| item.pay_whole(budget))
            }
            Self::JsonMap(fields, kind) => fields.iter().try_for_each(|(name, value)| {
                budget.pay(1 + name.len() as u64 / 10)?;
                Val::json(value, kind.field(name)).pay_whole(budget)
            }),
            Self::Map(entries) | Self::Lenient(entries) => entries.iter().try_for_each(|(key, value)| {
                key.val().pay_whole(budget)?;
                value.pay_whole(budget)
            }),
            Self::Optional(Some(value)) => value.pay_whole(budget),
            other => budget.pay(other.weight()),
        }
    }

    /// The value in JSON.
    ///
    /// # Errors
    /// When JSON has no such values, or the budget is used up: the same value may be in another many times.
    pub fn to_json(&self, budget: &mut Budget) -> Result<Value, EvalError> {
        let unlike = || EvalError::Wrong(format!("type '{}' has no form in JSON", self.type_name()));
        budget.pay(self.weight())?;
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Int(number) => Value::from(*number),
            Self::Uint(number) => Value::from(*number),
            Self::Double(number) => Number::from_f64(*number).map(Value::Number).ok_or_else(unlike)?,
            Self::Borrowed(_) | Self::Text(_) | Self::Duration(_) | Self::Time(_) => Value::String(self.to_string()),
            Self::Bytes(bytes) => Value::String(network::to_base64(bytes)),
            Self::JsonList(..) | Self::List(_) => {
                let items = self.items().into_iter().flatten();
                Value::Array(items.map(|item| item.to_json(budget)).collect::<Result<_, _>>()?)
            }
            Self::JsonMap(..) | Self::Map(_) | Self::Lenient(_) => {
                let mut fields = Map::new();
                for (key, value) in self.entries().unwrap_or_default() {
                    let name = key.as_text().ok_or_else(unlike)?.to_owned();
                    fields.insert(name, value.to_json(budget)?);
                }
                Value::Object(fields)
            }
            Self::Optional(_) | Self::Type(_) | Self::Foreign(_) => return Err(unlike()),
        })
    }
}

fn by_text<'a, 'n>(entries: impl IntoIterator<Item = (&'n str, Val<'a>)>) -> BTreeMap<Key, Val<'a>> {
    let entries = entries.into_iter();
    entries.map(|(name, value)| (Key::Text(name.into()), value)).collect()
}

impl Key {
    /// The key as a value.
    pub(crate) fn val<'a>(&self) -> Val<'a> {
        match self {
            Self::Bool(truth) => Val::Bool(*truth),
            Self::Int(number) => {
                i64::try_from(*number).map_or_else(|_| Val::Uint(u64::try_from(*number).unwrap_or_default()), Val::Int)
            }
            Self::Text(text) => Val::Text(text.clone()),
        }
    }
}

/// The items of a list.
pub(crate) enum Items<'i, 'a> {
    Json(std::slice::Iter<'a, Value>, &'a Kind),
    Made(std::slice::Iter<'i, Val<'a>>),
}

impl<'a> Iterator for Items<'_, 'a> {
    type Item = Val<'a>;

    fn next(&mut self) -> Option<Val<'a>> {
        match self {
            Self::Json(items, kind) => items.next().map(|item| Val::json(item, kind)),
            Self::Made(items) => items.next().cloned(),
        }
    }
}

/// Equality of values. Numbers of different types are compared by value; what cannot be equal is not.
pub(crate) fn same(one: &Val<'_>, other: &Val<'_>) -> bool {
    if let (Some(one), Some(other)) = (one.as_text(), other.as_text()) {
        return one == other;
    }
    match (one, other) {
        (Val::Null, Val::Null) => true,
        (Val::Bool(one), Val::Bool(other)) => one == other,
        (Val::Bytes(one), Val::Bytes(other)) => one == other,
        (Val::Duration(one), Val::Duration(other)) => one == other,
        (Val::Time(one), Val::Time(other)) => one == other,
        (Val::Type(one), Val::Type(other)) => one == other,
        (Val::Foreign(one), Val::Foreign(other)) => one.same(&**other),
        (Val::Optional(None), Val::Optional(None)) => true,
        (Val::Optional(Some(one)), Val::Optional(Some(other))) => same(one, other),
        (Val::JsonList(..) | Val::List(_), Val::JsonList(..) | Val::List(_)) => same_lists(one, other),
        (Val::JsonMap(..) | Val::Map(_) | Val::Lenient(_), Val::JsonMap(..) | Val::Map(_) | Val::Lenient(_)) => {
            same_maps(one, other)
        }
        _ => {
            crate::arithmetic::compare(one, other).is_some_and(|order| order.is_eq())
                && one.is_number()
                && other.is_number()
        }
    }
}

fn same_lists(one: &Val<'_>, other: &Val<'_>) -> bool {
    if one.size() != other.size() {
        return false;
    }
    let (Some(left), Some(mut right)) = (one.items(), other.items()) else {
        return false;
    };
    let unordered = |val: &Val<'_>| matches!(val, Val::JsonList(_, kind) if kind.is_unordered());
    if unordered(one) || unordered(other) {
        let mut rest: Vec<Val<'_>> = right.collect();
        return left
            .into_iter()
            .all(|item| match rest.iter().position(|candidate| same(&item, candidate)) {
                Some(at) => {
                    rest.swap_remove(at);
                    true
                }
                None => false,
            });
    }
    left.into_iter()
        .all(|item| right.next().is_some_and(|candidate| same(&item, &candidate)))
}

fn same_maps(one: &Val<'_>, other: &Val<'_>) -> bool {
    let Some(left) = one.entries() else { return false };
    one.size() == other.size()
        && left.iter().all(|(key, value)| {
            let found = match (key.key(), other) {
                (Some(Key::Text(name)), Val::JsonMap(fields, kind)) => fields
                    .get_key_value(&*name)
                    .map(|(name, value)| Val::json(value, kind.field(name))),
                (Some(key), Val::Map(entries) | Val::Lenient(entries)) => entries.get(&key).cloned(),
                _ => None,
            };
            found.is_some_and(|found| same(value, &found))
        })
}

impl Val<'_> {
    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Uint(_) | Self::Double(_))
    }
}

impl fmt::Display for Val<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Uint(number) => write!(f, "{number}"),
            Self::Double(number) => write!(f, "{number}"),
            Self::Borrowed(_) | Self::Text(_) => f.write_str(self.as_text().unwrap_or_default()),
            Self::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::Duration(nanos) => f.write_str(&time::format_duration(*nanos)),
            Self::Time(nanos) => f.write_str(&time::format_moment(*nanos)),
            Self::JsonList(..) | Self::List(_) => {
                let items: Vec<String> = self
                    .items()
                    .into_iter()
                    .flatten()
                    .map(|item| item.to_string())
                    .collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::JsonMap(..) | Self::Map(_) | Self::Lenient(_) => {
                let entries: Vec<String> = self
                    .entries()
                    .unwrap_or_default()
                    .iter()
                    .map(|(key, value)| format!("{key}: {value}"))
                    .collect();
                write!(f, "{{{}}}", entries.join(", "))
            }
            Self::Optional(None) => f.write_str("optional.none()"),
            Self::Optional(Some(value)) => write!(f, "optional({value})"),
            Self::Type(name) => f.write_str(name),
            Self::Foreign(value) => write!(f, "{value:?}"),
        }
    }
}
