//! Merges a configuration into an object, and takes out what it no longer states.

use super::path::Element;
use super::rules::{Form, Rules, set_element};
use super::set::Set;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// The object with all that the configuration states. What the object has besides stays, elements of lists in their order.
pub fn merge(rules: Rules<'_>, live: &Value, config: &Value) -> Value {
    match (rules.form(config), live, config) {
        (Form::Fields, Value::Object(old), Value::Object(new)) => merge_maps(old, new, |name| {
            rules.field(name).map_or(Rules::UNKNOWN, |(rules, _)| rules)
        }),
        (Form::Map(inner), Value::Object(old), Value::Object(new)) => merge_maps(old, new, |_| inner),
        (Form::Set, Value::Array(old), Value::Array(new)) => merge_lists(old, new, set_element, |_, new| new.clone()),
        (Form::Keyed(keys, inner), Value::Array(old), Value::Array(new)) => merge_lists(
            old,
            new,
            |item| inner.keyed(keys, item),
            |old, new| merge(inner, old, new),
        ),
        (Form::Fields | Form::Map(_), Value::Object(_), Value::Null)
        | (Form::Set | Form::Keyed(..), Value::Array(_), Value::Null) => live.clone(),
        _ => config.clone(),
    }
}

fn merge_maps<'a>(old: &Map<String, Value>, new: &Map<String, Value>, rules: impl Fn(&str) -> Rules<'a>) -> Value {
    let mut merged = old.clone();
    for (name, value) in new {
        let value = match old.get(name) {
            Some(old) => merge(rules(name), old, value),
            None => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    Value::Object(merged)
}

/// Merges two lists whose elements have names. Elements that only the old list has keep their places between their
/// neighbours; the others stand in the order of the new list. When elements cannot be told apart, the new list replaces
/// the old one.
fn merge_lists(
    old: &[Value],
    new: &[Value],
    step: impl Fn(&Value) -> Result<Element, String>,
    merge: impl Fn(&Value, &Value) -> Value,
) -> Value {
    let named = |list: &[Value]| list.iter().map(&step).collect::<Result<Vec<Element>, String>>();
    let (Ok(old_names), Ok(new_names)) = (named(old), named(new)) else {
        return Value::Array(new.to_vec());
    };
    let known: HashSet<&Element> = new_names.iter().collect();
    let mut places: HashMap<&Element, &Value> = HashMap::new();
    for (name, value) in old_names.iter().zip(old) {
        places.entry(name).or_insert(value);
    }
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let mut ours = old_names.iter().zip(old).peekable();
    let mut shared = new_names.iter().filter(|name| places.contains_key(name));
    let mut next_shared = shared.next();
    for (name, value) in new_names.iter().zip(new) {
        // The old list up to the next element that both have, in the new list's order.
        if next_shared == Some(name) {
            while let Some((old_name, old_value)) = ours.next_if(|(old_name, _)| *old_name != name) {
                if !known.contains(old_name) {
                    merged.push(old_value.clone());
                }
            }
            ours.next_if(|(old_name, _)| *old_name == name);
            next_shared = shared.next();
        }
        merged.push(match places.get(name) {
            Some(old) => merge(old, value),
            None => value.clone(),
        });
    }
    let rest = ours.filter(|(name, _)| !known.contains(name));
    merged.extend(rest.map(|(_, value)| value.clone()));
    Value::Array(merged)
}

/// Takes out what the manager stated last time, and neither states now nor anybody else owns. `owned` are the fields of
/// all managers, with what this one states now.
pub fn prune(rules: Rules<'_>, value: &mut Value, last: &Set, owned: &Set) {
    match (rules.form(value), value) {
        (Form::Fields, Value::Object(map)) => {
            prune_map(map, last, owned, |name| {
                rules.field(name).unwrap_or((Rules::UNKNOWN, false))
            });
        }
        (Form::Map(inner), Value::Object(map)) => prune_map(map, last, owned, |_| (inner, false)),
        (Form::Set, Value::Array(list)) => prune_list(list, last, owned, Rules::UNKNOWN, set_element),
        (Form::Keyed(keys, inner), Value::Array(list)) => {
            prune_list(list, last, owned, inner, |item| inner.keyed(keys, item));
        }
        _ => {}
    }
}

fn prune_map<'a>(map: &mut Map<String, Value>, last: &Set, owned: &Set, rules: impl Fn(&str) -> (Rules<'a>, bool)) {
    let mut gone = Vec::new();
    for (name, value) in map.iter_mut() {
        let element = Element::field(name);
        let (inner, named) = rules(name);
        if is_stale(last, owned, &element, named) {
            gone.push(name.clone());
        } else {
            prune_below(inner, value, last, owned, &element);
        }
    }
    for name in gone {
        map.shift_remove(&name);
    }
}

fn prune_list(
    list: &mut Vec<Value>,
    last: &Set,
    owned: &Set,
    inner: Rules<'_>,
    step: impl Fn(&Value) -> Result<Element, String>,
) {
    list.retain_mut(|item| {
        let Ok(element) = step(item) else { return true };
        let stale = is_stale(last, owned, &element, false);
        if !stale {
            prune_below(inner, item, last, owned, &element);
        }
        !stale
    });
}

/// Whether a part was the manager's and is nobody's now. A field of a type belongs to who owns anything in it.
fn is_stale(last: &Set, owned: &Set, element: &Element, named: bool) -> bool {
    let has = |set: &Set| {
        set.get(element.as_str())
            .is_some_and(|node| node.member || (named && !node.below.is_empty()))
    };
    has(last) && !has(owned)
}

fn prune_below(rules: Rules<'_>, value: &mut Value, last: &Set, owned: &Set, element: &Element) {
    let Some(last) = last.get(element.as_str()).filter(|node| !node.below.is_empty()) else {
        return;
    };
    let nothing = Set::default();
    let owned = owned.get(element.as_str()).map_or(&nothing, |node| &node.below);
    prune(rules, value, &last.below, owned);
}
