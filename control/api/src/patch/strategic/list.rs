//! How a strategic merge patch merges and orders lists.
//!
//! Elements that the patch names stand in the patch's order, the others in theirs, and the two are woven together so that
//! neighbours of the old list stay neighbours where they can.

use super::{Context, Fault, PATCH, go_text, merge_map, taken};
use crate::fields::PatchStrategy;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// How one field is merged.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    /// What is known of the elements of a list.
    pub(super) element: Context,
    /// What is known of an object.
    pub(super) value: Context,
    pub(super) strategy: PatchStrategy,
    /// The key that identifies an element; empty for lists of scalars.
    pub(super) merge_key: &'static str,
}

impl Rule {
    /// Merges a patch's list into the old one.
    pub(super) fn merge_list(self, original: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, Fault> {
        let Some(first) = original.first().or(patch.first()) else {
            return Ok(original);
        };
        if first.is_array() {
            return Err(Fault::ListOfLists);
        }
        if !first.is_object() {
            let mut merged = original.clone();
            merged.extend(patch.iter().cloned());
            let mut seen = HashSet::new();
            merged.retain(|value| seen.insert(value.to_string()));
            return self.ordered(merged, &patch, &original);
        }
        if self.merge_key.is_empty() {
            return Err(Fault::NoKeyDeclared(self.element.name()));
        }
        let before = original.clone();
        let (kept, changes) = self.directives(original, patch)?;
        let merged = self.merge_elements(kept, &changes)?;
        self.ordered(merged, &changes, &before)
    }

    /// Carries out the patch's elements that delete, or that replace the whole list, and returns what is left of both.
    fn directives(self, mut original: Vec<Value>, patch: Vec<Value>) -> Result<(Vec<Value>, Vec<Value>), Fault> {
        let (mut changes, mut gone, mut replace) = (Vec::new(), HashSet::new(), false);
        for element in patch {
            match element.get(PATCH) {
                None => changes.push(element),
                Some(directive) => match directive.as_str() {
                    Some("delete") => {
                        gone.insert(self.key(&element)?);
                    }
                    Some("replace") => replace = true,
                    _ => return Err(Fault::PatchType(go_text(directive), go_text(&element))),
                },
            }
        }
        if replace {
            return Ok((changes.into_iter().filter_map(taken).collect(), Vec::new()));
        }
        if !gone.is_empty() {
            original.retain(|element| self.key(element).is_ok_and(|key| !gone.contains(&key)));
        }
        Ok((original, changes))
    }

    fn merge_elements(self, mut merged: Vec<Value>, changes: &[Value]) -> Result<Vec<Value>, Fault> {
        let mut places = HashMap::new();
        for (at, element) in merged.iter().enumerate() {
            // The first of several elements with the same key is the one that a patch means.
            places.entry(self.key(element)?).or_insert(at);
        }
        for change in changes {
            let key = self.key(change)?;
            let place = places.get(&key).and_then(|at| merged.get_mut(*at));
            match (place, change) {
                (Some(Value::Object(map)), Value::Object(change)) => merge_map(self.element, map, change.clone())?,
                _ => {
                    places.insert(key, merged.len());
                    merged.extend(taken(change.clone()));
                }
            }
        }
        Ok(merged)
    }

    /// Brings `merged` into order: elements in `order` stand as there, the others as in `before`.
    pub(super) fn ordered(self, merged: Vec<Value>, order: &[Value], before: &[Value]) -> Result<Vec<Value>, Fault> {
        let wanted = self.places(order)?;
        let old = self.places(before)?;
        let keyed = merged.into_iter().map(|value| self.key(&value).map(|key| (key, value)));
        let keyed = keyed.collect::<Result<Vec<_>, _>>()?;
        let (mut named, mut others): (Vec<_>, Vec<_>) =
            keyed.into_iter().partition(|(key, _)| wanted.contains_key(key));
        named.sort_by_key(|(key, _)| wanted.get(key).copied().unwrap_or(usize::MAX));
        others.sort_by_key(|(key, _)| old.get(key).copied().unwrap_or(usize::MAX));
        let mut woven = Vec::with_capacity(named.len() + others.len());
        let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
        loop {
            let other_first = match (others.peek(), named.peek()) {
                (Some((other, _)), Some((name, _))) => match (old.get(other), old.get(name)) {
                    (Some(other), Some(name)) => other < name,
                    _ => false,
                },
                (other, _) => other.is_some(),
            };
            let next = if other_first { others.next() } else { named.next() };
            match next {
                Some((_, value)) => woven.push(value),
                None => return Ok(woven),
            }
        }
    }

    /// Checks that the patch's elements stand in the order that it sets.
    pub(super) fn check_order(self, patch: &[Value], order: &[Value]) -> Result<(), Fault> {
        if order.is_empty() {
            return Ok(());
        }
        let places = self.places(order)?;
        let mut last = 0;
        for element in patch.iter().filter(|element| element.get(PATCH).is_none()) {
            let place = *places.get(&self.key(element)?).ok_or(Fault::ElementOrder)?;
            if place < last {
                return Err(Fault::ElementOrder);
            }
            last = place;
        }
        Ok(())
    }

    fn places(self, list: &[Value]) -> Result<HashMap<String, usize>, Fault> {
        let mut places = HashMap::with_capacity(list.len());
        for (at, element) in list.iter().enumerate() {
            places.entry(self.key(element)?).or_insert(at);
        }
        Ok(places)
    }

    /// What identifies an element: the JSON text of its merge key, or of the scalar that it is.
    fn key(self, element: &Value) -> Result<String, Fault> {
        match element {
            Value::Object(map) => map
                .get(self.merge_key)
                .map(Value::to_string)
                .ok_or_else(|| self.no_key(map)),
            scalar if self.merge_key.is_empty() => Ok(scalar.to_string()),
            other => Err(Fault::NoMap(go_text(other))),
        }
    }

    fn no_key(self, map: &Map<String, Value>) -> Fault {
        Fault::NoMergeKey(go_text(&Value::Object(map.clone())), self.merge_key.to_owned())
    }
}

/// Removes values from a list of scalars.
pub(super) fn delete_values(list: &mut Vec<Value>, gone: &[Value]) {
    let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
    list.retain(|value| !gone.contains(&value.to_string()));
}
