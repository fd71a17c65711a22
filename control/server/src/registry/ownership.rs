//! Whose the fields are that a request writes.
//!
//! While a write is being made, `metadata.managedFields` stands apart from the object: nothing else on the way may see or
//! change it, and it need not be copied with every clone. It comes back right before the commit.

use coracle_api::apply::compare::compare;
use coracle_api::apply::owners::{self, Request};
use coracle_api::apply::{Rules, Writer};
use coracle_api::kinds::Kind;
use coracle_api::{object, time};
use serde_json::Value;

use super::Scope;
use crate::query::WriteOptions;

/// The owners of an object that is being written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Owners {
    /// Those before the write; who writes will own what it changes.
    Before(Vec<Value>),
    /// Those after the write: the request settles that itself.
    Settled(Vec<Value>),
}

/// How the fields of a kind are merged and owned.
pub(crate) fn rules(kind: &Kind) -> Rules<'_> {
    match &kind.custom {
        Some(custom) => Rules::of_resource(&custom.source),
        None => Rules::of_type(kind.go_type),
    }
}

/// Takes the owners out of an object.
pub(super) fn detach(value: &mut Value) -> Vec<Value> {
    match object::remove(value, "metadata.managedFields") {
        Some(Value::Array(owners)) => owners,
        _ => Vec::new(),
    }
}

/// Puts the owners into an object.
pub(super) fn attach(value: &mut Value, owners: Vec<Value>) {
    if !owners.is_empty() {
        object::set(value, "metadata.managedFields", Value::Array(owners));
    }
}

impl Owners {
    /// What a request's object says of the owners, taken out of it.
    pub(super) fn requested(value: &mut Value, before: Vec<Value>) -> Self {
        let request = owners::request(value);
        object::remove(value, "metadata.managedFields");
        match request {
            Request::Reset => Self::Settled(Vec::new()),
            Request::Set(list) if list != before => Self::Settled(list),
            Request::Set(_) | Request::Keep => Self::Before(before),
        }
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
    ) -> Owners {
        let mut list = match owners {
            Owners::Before(list) if !list.is_empty() => list,
            owners => return owners,
        };
        let with_status = matches!(subresource, "status" | "approval") || !self.kind.has_status();
        let changes = compare(rules(self.kind), old, new, with_status);
        let (api_version, now) = (self.kind.api_version(), self.now());
        owners::updated(
            &mut list,
            &changes,
            Self::writer(options, &api_version, subresource, &now),
        );
        Owners::Before(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn owners_stand_apart_and_come_back() {
        let before = json!({"metadata": {"name": "a", "managedFields": [{"manager": "x"}]}});
        let mut value = before.clone();
        let owners = detach(&mut value);
        assert_eq!(value, json!({"metadata": {"name": "a"}}));
        attach(&mut value, owners);
        assert_eq!(value, before);
        attach(&mut value, Vec::new());
        assert_eq!(value, before);
    }

    #[test]
    fn an_echo_of_the_owners_is_no_wish() {
        let entry = json!({"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}});
        let object = |list: Value| json!({"metadata": {"managedFields": list}});
        let before = vec![entry.clone()];
        let requested = |list: Value| Owners::requested(&mut object(list), before.clone());
        assert_eq!(requested(json!([entry])), Owners::Before(before.clone()));
        assert_eq!(requested(Value::Null), Owners::Before(before.clone()));
        assert_eq!(requested(json!([{}])), Owners::Settled(Vec::new()));
        let mut other = entry.clone();
        other["manager"] = json!("y");
        assert_eq!(requested(json!([other])), Owners::Settled(vec![other.clone()]));
    }
}
