//! An apply: the configuration of one manager becomes part of an object.
//!
//! It has two halves, because between them the result is brought into the stored form, so that a value that only looks
//! different is no change: [`Application::new`] merges, [`Application::settle`] asks who objects and says who owns what.

use super::compare::{Changes, compare};
use super::conflict::{Conflict, Conflicts, describe};
use super::extract::{Faults, extract};
use super::owners::{self, BEFORE_FIRST_APPLY, Operation, Writer};
use super::path::Element;
use super::rules::Rules;
use super::set::Set;
use super::{fields_v1, last_applied, merge};
use crate::object;
use serde_json::Value;

/// An apply on its way.
pub struct Application<'a> {
    rules: Rules<'a>,
    writer: Writer<'a>,
    /// The owners before.
    owners: Vec<Value>,
    /// What the manager states now.
    set: Set,
    /// What it stated before.
    last: Set,
    /// The object with the configuration merged in.
    pub merged: Value,
}

impl<'a> Application<'a> {
    /// Merges a configuration into an object. `live` has no `managedFields`; they come apart, as `owners`. `with_status`
    /// says whether the status is anybody's to own through this door.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(
        rules: Rules<'a>,
        live: &Value,
        mut owners: Vec<Value>,
        config: &Value,
        writer: Writer<'a>,
        with_status: bool,
    ) -> Result<Self, Faults> {
        let set = extract(rules, config)?;
        if owners.is_empty() {
            let before = Writer {
                manager: BEFORE_FIRST_APPLY,
                subresource: "",
                ..writer
            };
            owners = owners::created(compare(rules, &rules.blank(), live, with_status), before);
        }
        let last = owners
            .iter()
            .find(|entry| writer.owns(entry, Operation::Apply))
            .map(owners::fields)
            .unwrap_or_default();
        let mut merged = merge::merge(rules, live, config);
        if !last.is_empty() {
            let others = owners.iter().filter(|entry| !writer.owns(entry, Operation::Apply));
            let mut owned = others.fold(set.clone(), |all, entry| all.union(&owners::fields(entry)));
            // The system's part of the metadata is nobody's, and must not go with the last label.
            owned.insert(Element::field("metadata"));
            merge::prune(rules, &mut merged, &last, &owned);
        }
        Ok(Self {
            rules,
            writer,
            owners,
            set,
            last,
            merged,
        })
    }

    /// The owners of `new`, which is what was merged in the stored form. A `forced` apply takes from others what it
    /// states; otherwise that is a conflict, unless kubectl takes over what it applied itself in the old way.
    ///
    /// # Errors
    /// What the apply would take from whom.
    pub fn settle(self, live: &Value, new: &Value, with_status: bool, forced: bool) -> Result<Vec<Value>, Conflicts> {
        let changes = compare(self.rules, live, new, with_status);
        let gained = changes.gained();
        if !forced {
            let conflicts = self.conflicts(&gained);
            let allowed = match self.writer.manager {
                last_applied::KUBECTL if !conflicts.0.is_empty() => last_applied::unchanged(self.rules, live),
                _ => Set::default(),
            };
            let conflicts = conflicts.except(&allowed);
            if !conflicts.0.is_empty() {
                return Err(conflicts);
            }
        }
        Ok(self.owners_after(&changes, &gained))
    }

    fn conflicts(&self, gained: &Set) -> Conflicts {
        let others = self
            .owners
            .iter()
            .filter(|entry| !self.writer.owns(entry, Operation::Apply));
        let taken = others.filter_map(|entry| {
            let fields = owners::fields(entry).intersection(gained);
            let text = |field| object::text(entry, field);
            (!fields.is_empty()).then(|| Conflict {
                manager: describe(
                    text("manager"),
                    text("operation"),
                    text("apiVersion"),
                    text("subresource"),
                ),
                fields,
            })
        });
        let mut conflicts: Vec<Conflict> = taken.collect();
        conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
        Conflicts(conflicts)
    }

    fn owners_after(self, changes: &Changes, gained: &Set) -> Vec<Value> {
        let Self {
            writer,
            mut owners,
            set,
            last,
            ..
        } = self;
        let lost = gained.clone().union(&changes.removed);
        let mut own = None;
        owners.retain_mut(|entry| {
            if writer.owns(entry, Operation::Apply) {
                own = Some(std::mem::take(entry));
                return false;
            }
            if !entry
                .get("fieldsV1")
                .is_some_and(|fields| fields_v1::common(fields, &lost).any)
            {
                return true;
            }
            let left = owners::fields(entry).difference(&lost);
            owners::set_fields(entry, &left);
            !left.is_empty()
        });
        if !set.is_empty() {
            let mut entry = writer.entry(Operation::Apply, &set);
            let before = own.filter(|_| set == last && changes.is_empty());
            if let Some(before) = before {
                owners::set_time(&mut entry, object::text(&before, "time"));
            }
            owners.push(entry);
        }
        owners::sort(&mut owners);
        owners
    }
}
