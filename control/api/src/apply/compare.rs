//! What differs between two states of an object, as sets of fields.

use super::SYSTEM_METADATA;
use super::path::Element;
use super::rules::{Form, Keys, Rules, set_element};
use super::set::{Node, Set};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The differences between two states.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Fields with another value.
    pub modified: Set,
    /// Fields that were not there.
    pub added: Set,
    /// Fields that are gone.
    pub removed: Set,
}

impl Changes {
    /// Whether the states are the same.
    pub fn is_empty(&self) -> bool {
        self.modified.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }

    /// What whoever made the change owns from then on.
    pub fn gained(&self) -> Set {
        match self.modified.is_empty() {
            true => self.added.clone(),
            false => self.modified.clone().union(&self.added),
        }
    }

    /// The same, when nothing else is asked of the changes any more.
    pub fn into_gained(self) -> Set {
        match self.modified.is_empty() {
            true => self.added,
            false => self.modified.union(&self.added),
        }
    }

    /// Notes what happened to a step, which was not noted before, and below it.
    fn insert(&mut self, element: Element, what: Option<What>, below: Changes) {
        let node = |member, below| Node { member, below };
        self.modified
            .insert_node(&element, node(what == Some(What::Modified), below.modified));
        self.added
            .insert_node(&element, node(what == Some(What::Added), below.added));
        self.removed
            .insert_node(&element, node(what == Some(What::Removed), below.removed));
    }
}

/// What happened to a value as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Modified,
    Added,
    Removed,
}

/// Compares two states of an object, but for what nobody owns: its kind, the system's part of its metadata, and its status
/// where `with_status` is false.
pub fn compare(rules: Rules<'_>, old: &Value, new: &Value, with_status: bool) -> Changes {
    let mut changes = Changes::default();
    let none = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&none), new.as_object().unwrap_or(&none));
    let empty = Value::Object(Map::new());
    each_key(old, new, |name, was, is| match name {
        "apiVersion" | "kind" => {}
        "status" if !with_status => {}
        "metadata" => {
            let mut below = Changes::default();
            let inner = rules.field(name).map_or(Rules::UNKNOWN, |(rules, _)| rules);
            let (was, is) = (was.and_then(Value::as_object), is.and_then(Value::as_object));
            each_key(was.unwrap_or(&none), is.unwrap_or(&none), |name, was, is| {
                if !SYSTEM_METADATA.contains(&name) {
                    member(inner, name, was, is, &mut below);
                }
            });
            changes.insert(Element::field(name), None, below);
        }
        // A status that was never written is an empty one, not none.
        _ if rules.is_always_there(name) => {
            let (was, is) = (was.unwrap_or(&empty), is.unwrap_or(&empty));
            member(rules, name, Some(was), Some(is), &mut changes);
        }
        _ => member(rules, name, was, is, &mut changes),
    });
    changes
}

fn each_key<'v>(
    old: &'v Map<String, Value>,
    new: &'v Map<String, Value>,
    mut see: impl FnMut(&str, Option<&'v Value>, Option<&'v Value>),
) {
    for (name, is) in new {
        see(name, old.get(name), Some(is));
    }
    for (name, was) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        see(name, Some(was), None);
    }
}

fn member(rules: Rules<'_>, name: &str, was: Option<&Value>, is: Option<&Value>, changes: &mut Changes) {
    if was == is {
        return;
    }
    let inner = rules.field(name).map_or(Rules::UNKNOWN, |(rules, _)| rules);
    differing(inner, Element::field(name), was, is, changes);
}

/// Notes how two different values at one step differ.
fn differing(rules: Rules<'_>, element: Element, was: Option<&Value>, is: Option<&Value>, changes: &mut Changes) {
    let mut below = Changes::default();
    let apart = descend(rules, was, is, &mut below);
    let what = match (was, is, apart) {
        (None, _, _) => Some(What::Added),
        (_, None, _) => Some(What::Removed),
        (Some(_), Some(_), false) => Some(What::Modified),
        (Some(_), Some(_), true) => None,
    };
    changes.insert(element, what, below);
}

/// Compares two values part by part; false when they are merged as one value.
fn descend(rules: Rules<'_>, was: Option<&Value>, is: Option<&Value>, changes: &mut Changes) -> bool {
    let nothing = Value::Null;
    let form_by = [is, was].into_iter().flatten().find(|value| !value.is_null());
    let (old, new) = (was.unwrap_or(&nothing), is.unwrap_or(&nothing));
    if is_empty(old) && is_empty(new) {
        return false;
    }
    match rules.form(form_by.unwrap_or(&nothing)) {
        Form::Leaf => false,
        Form::Fields => in_maps(old, new, |name, was, is| member(rules, name, was, is, changes)),
        Form::Map(inner) => in_maps(old, new, |name, was, is| {
            if was != is {
                differing(inner, Element::field(name), was, is, changes);
            }
        }),
        Form::Set => in_lists(old, new, set_element, |element, was, is| {
            differing(Rules::UNKNOWN, element, was, is, changes);
        }),
        Form::Keyed(keys, inner) => {
            let step = |item: &Value| keyed(inner, keys, item);
            in_lists(old, new, step, |element, was, is| {
                differing(inner, element, was, is, changes)
            })
        }
    }
}

fn keyed<'a>(inner: Rules<'a>, keys: Keys<'a>, item: &Value) -> Result<Element, String> {
    inner.keyed(keys, item)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Goes through two objects; false when one is neither object nor null.
fn in_maps<'v>(old: &'v Value, new: &'v Value, see: impl FnMut(&str, Option<&'v Value>, Option<&'v Value>)) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => each_key(old, new, see),
        (Value::Object(old), Value::Null) => each_absent(old, see, false),
        (Value::Null, Value::Object(new)) => each_absent(new, see, true),
        _ => return false,
    }
    true
}

fn each_absent<'v>(
    map: &'v Map<String, Value>,
    mut see: impl FnMut(&str, Option<&'v Value>, Option<&'v Value>),
    is_new: bool,
) {
    for (name, value) in map {
        match is_new {
            true => see(name, None, Some(value)),
            false => see(name, Some(value), None),
        }
    }
}

/// Goes through the elements of two lists that differ; false when they cannot be told apart.
fn in_lists(
    old: &Value,
    new: &Value,
    step: impl Fn(&Value) -> Result<Element, String>,
    mut see: impl FnMut(Element, Option<&Value>, Option<&Value>),
) -> bool {
    let mut elements: BTreeMap<Element, [Vec<&Value>; 2]> = BTreeMap::new();
    for (side, list) in [old, new].into_iter().enumerate() {
        let list = match list {
            Value::Array(list) => list.as_slice(),
            Value::Null => &[],
            _ => return false,
        };
        for item in list {
            let Ok(element) = step(item) else { return false };
            if let Some(values) = elements.entry(element).or_default().get_mut(side) {
                values.push(item);
            }
        }
    }
    for (element, [was, is]) in elements {
        if was != is {
            see(element, was.first().copied(), is.first().copied());
        }
    }
    true
}
