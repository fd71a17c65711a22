//! Whose the fields are that a request writes.
//!
//! While a write is being made, `metadata.managedFields` stands apart from the object: nothing else on the way may see or
//! change it, and it need not be copied with every clone, nor read by who changes something that nobody owns. It comes back
//! right before the commit.

use std::borrow::Cow;

use bytes::Bytes;
use coracle_api::apply::compare::compare;
use coracle_api::apply::owners::{self, Request};
use coracle_api::apply::{Rules, Writer};
use coracle_api::kinds::Kind;
use coracle_api::status::ApiError;
use coracle_api::{object, time};
use coracle_store::Record;
use serde_json::Value;

use super::Scope;
use crate::document;
use crate::query::WriteOptions;

/// The list of owners as it is at hand: the text that is stored, until somebody has to look inside.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum List {
    Stored(Bytes),
    Entries(Vec<Value>),
}

/// The owners of an object that is being written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Owners {
    /// Those before the write; who writes will own what it changes.
    Before(List),
    /// Those after the write: the request settles that itself.
    Settled(List),
}

/// How the fields of a kind are merged and owned.
pub(crate) fn rules(kind: &Kind) -> Rules<'_> {
    match &kind.custom {
        Some(custom) => Rules::of_resource(&custom.source),
        None => Rules::of_type(kind.go_type),
    }
}

/// A stored object, and apart from it its owners.
pub(super) fn apart(record: &Record) -> Result<(Value, List), ApiError> {
    let (value, owners) = document::apart(&record.json)?;
    Ok((value, owners.map_or(List::NONE, List::Stored)))
}

/// Puts the owners into an object.
pub(super) fn attach(value: &mut Value, owners: Vec<Value>) {
    if !owners.is_empty() {
        object::set(value, "metadata.managedFields", Value::Array(owners));
    }
}

impl List {
    /// Nobody.
    pub(crate) const NONE: Self = Self::Entries(Vec::new());

    fn is_empty(&self) -> bool {
        match self {
            Self::Stored(text) => text.as_ref() == b"[]",
            Self::Entries(entries) => entries.is_empty(),
        }
    }

    /// What it says, owner by owner.
    pub(super) fn entries(self) -> Result<Vec<Value>, ApiError> {
        match self {
            Self::Entries(entries) => Ok(entries),
            Self::Stored(text) => match document::parse(&text)? {
                Value::Array(entries) => Ok(entries),
                _ => Ok(Vec::new()),
            },
        }
    }

    /// The text in which it is stored; nothing for an empty list.
    pub(super) fn text(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            _ if self.is_empty() => None,
            Self::Stored(text) => Some(Cow::Borrowed(text)),
            // A tree of strings, numbers and maps always serialises.
            Self::Entries(entries) => Some(Cow::Owned(serde_json::to_vec(entries).unwrap_or_default())),
        }
    }

    /// A copy of an object with its owners in it.
    pub(super) fn joined(&self, value: &Value) -> Result<Value, ApiError> {
        let mut whole = value.clone();
        attach(&mut whole, self.clone().entries()?);
        Ok(whole)
    }
}

impl Owners {
    /// What a request's object says of the owners, taken out of it.
    pub(super) fn requested(value: &mut Value, before: List) -> Result<Self, ApiError> {
        let request = owners::request(value);
        object::remove(value, "metadata.managedFields");
        Ok(match request {
            Request::Keep => Self::Before(before),
            Request::Reset => Self::Settled(List::NONE),
            Request::Set(list) => match before.entries()? {
                before if before == list => Self::Before(List::Entries(before)),
                _ => Self::Settled(List::Entries(list)),
            },
        })
    }
}

impl Scope<'_> {
    /// Who writes through a subresource; `now` is the time of the write.
    pub(super) fn writer<'a>(
        options: WriteOptions<'a>,
        api_version: &'a str,
        subresource: &'a str,
        now: &'a str,
    ) -> Writer<'a> {
        Writer {
            manager: options.manager,
            api_version,
            subresource,
            time: now,
        }
    }

    pub(super) fn now(&self) -> String {
        time::format_seconds(self.core.now_micros())
    }

    /// The owners of a new object.
    pub(super) fn first_owners(&self, value: &Value, options: WriteOptions<'_>) -> Vec<Value> {
        let rules = rules(self.kind);
        let changes = compare(rules, &rules.blank(), value, !self.kind.has_status());
        let (api_version, now) = (self.kind.api_version(), self.now());
        owners::created(changes, Self::writer(options, &api_version, "", &now))
    }

    /// The owners after a write made `new` of `old`.
    pub(super) fn next_owners(
        &self,
        owners: Owners,
        old: &Value,
        new: &Value,
        subresource: &str,
        options: WriteOptions<'_>,
    ) -> Result<Owners, ApiError> {
        let list = match owners {
            Owners::Before(list) if !list.is_empty() => list,
            owners => return Ok(owners),
        };
        let with_status = matches!(subresource, "status" | "approval") || !self.kind.has_status();
        let changes = compare(rules(self.kind), old, new, with_status);
        let (api_version, now) = (self.kind.api_version(), self.now());
        let writer = Self::writer(options, &api_version, subresource, &now);
        let next = owners::updated(&list.text().unwrap_or_default(), &changes, writer);
        let next = next.map_err(|error| ApiError::internal(format!("stored owners cannot be read: {error}")))?;
        Ok(Owners::Before(next.map_or(list, |text| List::Stored(text.into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_says_the_same_as_text_and_entry_by_entry() {
        let entries = vec![json!({"manager": "x"})];
        let text = List::Entries(entries.clone()).text().unwrap().into_owned();
        let stored = List::Stored(text.into());
        assert_eq!(stored.clone().entries().unwrap(), entries);
        let value = json!({"metadata": {"name": "a"}});
        let whole = json!({"metadata": {"name": "a", "managedFields": entries}});
        assert_eq!(stored.joined(&value).unwrap(), whole);
        assert_eq!(List::NONE.joined(&value).unwrap(), value);
        assert_eq!(List::NONE.text(), None);
    }

    #[test]
    fn an_echo_of_the_owners_is_no_wish() {
        let entry = json!({"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}});
        let object = |list: Value| json!({"metadata": {"managedFields": list}});
        let before = List::Entries(vec![entry.clone()]);
        let requested = |list: Value| Owners::requested(&mut object(list), before.clone()).unwrap();
        assert_eq!(requested(json!([entry])), Owners::Before(before.clone()));
        assert_eq!(requested(Value::Null), Owners::Before(before.clone()));
        assert_eq!(requested(json!([{}])), Owners::Settled(List::NONE));
        let mut other = entry.clone();
        other["manager"] = json!("y");
        assert_eq!(
            requested(json!([other])),
            Owners::Settled(List::Entries(vec![other.clone()]))
        );
    }
}
