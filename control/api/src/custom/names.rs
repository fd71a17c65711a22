//! Which names a definition gets, and what its status says about that.
//!
//! Two definitions of one group may not share a name; who asked first has it. Pure: all definitions go in, the status of
//! one comes out.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::definition::is_true;
use crate::object;

/// What the status should say now; nothing if it says that already. `others` are all definitions; `now` is the time as
/// the API writes it.
pub fn next_status(definition: &Value, others: &[Value], now: &str) -> Option<Value> {
    let mut status = definition.get("status").cloned().unwrap_or_else(|| json!({}));
    let requested = object::get(definition, "spec.names").cloned().unwrap_or_default();
    let taken = Taken::by_others(definition, others);
    let conflict = taken.conflict(definition, &requested);
    let accepted = match &conflict {
        None => requested,
        Some(_) => taken.acceptable(definition, &requested),
    };
    object::set(&mut status, "acceptedNames", accepted);
    let mut conditions = object::list(&status, "conditions").to_vec();
    let established = is_true(definition, "Established");
    match conflict {
        None => {
            set(
                &mut conditions,
                "NamesAccepted",
                true,
                "NoConflicts",
                "no conflicts found",
                now,
            );
            set(
                &mut conditions,
                "Established",
                true,
                "InitialNamesAccepted",
                "the initial names have been accepted",
                now,
            );
        }
        Some((reason, message)) => {
            set(&mut conditions, "NamesAccepted", false, reason, &message, now);
            // A kind that is served stays so under its old names.
            if !established {
                set(
                    &mut conditions,
                    "Established",
                    false,
                    "NotAccepted",
                    "not all names are accepted",
                    now,
                );
            }
        }
    }
    object::set(&mut status, "conditions", Value::Array(conditions));
    (definition.get("status") != Some(&status)).then_some(status)
}

/// Sets a condition; the time changes only with its status.
pub fn set(conditions: &mut Vec<Value>, name: &str, status: bool, reason: &str, message: &str, now: &str) {
    let status = if status { "True" } else { "False" };
    let old = conditions
        .iter_mut()
        .find(|condition| object::text(condition, "type") == name);
    let since = old
        .as_ref()
        .filter(|condition| object::text(condition, "status") == status)
        .map_or(now, |condition| object::text(condition, "lastTransitionTime"))
        .to_owned();
    let next =
        json!({"type": name, "status": status, "lastTransitionTime": since, "reason": reason, "message": message});
    match old {
        Some(condition) => *condition = next,
        None => conditions.push(next),
    }
}

#[derive(Default)]
struct Taken {
    resources: HashSet<String>,
    kinds: HashSet<String>,
}

impl Taken {
    fn by_others(definition: &Value, others: &[Value]) -> Self {
        let group = object::text(definition, "spec.group");
        let mut taken = Self::default();
        for other in others {
            if object::text(other, "spec.group") != group || object::name(other) == object::name(definition) {
                continue;
            }
            let Some(names) = object::get(other, "status.acceptedNames") else {
                continue;
            };
            let resources = ["plural", "singular"]
                .into_iter()
                .map(|field| object::text(names, field));
            let short = object::list(names, "shortNames").iter().filter_map(Value::as_str);
            taken.resources.extend(resources.chain(short).map(str::to_owned));
            taken
                .kinds
                .extend(["kind", "listKind"].map(|field| object::text(names, field).to_owned()));
        }
        taken
    }

    /// A name that somebody else has. What the definition itself has been given is its own.
    fn lacks(&self, definition: &Value, field: &str, name: &str) -> Option<String> {
        let own = object::get(definition, "status.acceptedNames");
        let kept = own.is_some_and(|own| {
            object::text(own, field) == name
                || (field == "shortNames" && object::list(own, field).iter().any(|short| short == name))
        });
        let set = if matches!(field, "kind" | "listKind") {
            &self.kinds
        } else {
            &self.resources
        };
        (!kept && !name.is_empty() && set.contains(name)).then(|| format!("{name:?} is already in use"))
    }

    fn conflict(&self, definition: &Value, names: &Value) -> Option<(&'static str, String)> {
        let single = [("plural", "PluralConflict"), ("singular", "SingularConflict")];
        let kinds = [("kind", "KindConflict"), ("listKind", "ListKindConflict")];
        let one = |(field, reason): (&'static str, &'static str)| {
            Some((reason, self.lacks(definition, field, object::text(names, field))?))
        };
        let short: Vec<String> = object::list(names, "shortNames")
            .iter()
            .filter_map(|name| self.lacks(definition, "shortNames", name.as_str().unwrap_or_default()))
            .collect();
        let short = (!short.is_empty()).then(|| ("ShortNamesConflict", short.join(", ")));
        single
            .into_iter()
            .find_map(one)
            .or(short)
            .or_else(|| kinds.into_iter().find_map(one))
    }

    /// The requested names that nobody else has; for the others what was accepted before.
    fn acceptable(&self, definition: &Value, requested: &Value) -> Value {
        let mut accepted = object::get(definition, "status.acceptedNames")
            .cloned()
            .unwrap_or_else(|| json!({"kind": "", "plural": ""}));
        for field in ["plural", "singular", "kind", "listKind"] {
            let name = object::text(requested, field);
            if self.lacks(definition, field, name).is_none() && !name.is_empty() {
                object::set(&mut accepted, field, Value::from(name));
            }
        }
        let short: Vec<Value> = object::list(requested, "shortNames")
            .iter()
            .filter(|name| {
                self.lacks(definition, "shortNames", name.as_str().unwrap_or_default())
                    .is_none()
            })
            .cloned()
            .collect();
        if !short.is_empty() {
            object::set(&mut accepted, "shortNames", Value::Array(short));
        }
        if let Some(categories) = object::get(requested, "categories") {
            object::set(&mut accepted, "categories", categories.clone());
        }
        accepted
    }
}
