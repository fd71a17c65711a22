//! Sets of fields in the form `FieldsV1`, in which they stand in `managedFields`.
//!
//! Questions about a few paths are answered on that form itself: an ordinary write must not decode the sets of all managers.

use super::path::Element;
use super::set::{Node, Set};
use serde_json::{Map, Value};

/// The member that says that a path belongs to the set although others go on from it.
const SELF: &str = ".";

/// Reads a set. `None` when it is none.
pub fn read(fields: &Value) -> Option<Set> {
    let mut set = Set::default();
    for (text, value) in fields.as_object()?.iter().filter(|(text, _)| *text != SELF) {
        let below = value.as_object()?;
        let node = Node {
            member: below.is_empty() || below.contains_key(SELF),
            below: read(value)?,
        };
        set.insert_node(&Element::parse(text)?, node);
    }
    Some(set)
}

/// Writes a set.
pub fn write(set: &Set) -> Value {
    Value::Object(members(set))
}

fn members(set: &Set) -> Map<String, Value> {
    let mut fields = Map::new();
    for (element, node) in set.iter() {
        let mut below = Map::new();
        if node.member && !node.below.is_empty() {
            below.insert(SELF.to_owned(), Value::Object(Map::new()));
        }
        below.extend(members(&node.below));
        fields.insert(element.as_str().to_owned(), Value::Object(below));
    }
    fields
}

/// Whether every path of `set` belongs to the set that `fields` stands for.
pub fn contains(fields: &Value, set: &Set) -> bool {
    set.iter().all(|(element, node)| match fields.get(element.as_str()) {
        Some(below) => (!node.member || is_member(below)) && contains(below, &node.below),
        None => false,
    })
}

/// Whether any path of `set` belongs to the set that `fields` stands for.
pub fn touches(fields: &Value, set: &Set) -> bool {
    set.iter().any(|(element, node)| match fields.get(element.as_str()) {
        Some(below) => (node.member && is_member(below)) || touches(below, &node.below),
        None => false,
    })
}

fn is_member(below: &Value) -> bool {
    below
        .as_object()
        .is_some_and(|below| below.is_empty() || below.contains_key(SELF))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::set::tests::any_set;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_form_of_kubernetes() {
        let fields = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}},
        });
        let set = read(&fields).unwrap();
        assert_eq!(
            set.paths(),
            [
                ".metadata.labels",
                ".metadata.labels.app",
                ".spec.containers[name=\"a\"]",
                ".spec.containers[name=\"a\"].image"
            ]
        );
        assert_eq!(write(&set).to_string(), fields.to_string());
        for bad in [json!([]), json!({"x": {}}), json!({"f:a": 1}), json!({"k:{": {}})] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(set in any_set()) {
            prop_assert_eq!(read(&write(&set)), Some(set));
        }

        #[test]
        fn questions_have_the_answers_of_sets(a in any_set(), b in any_set()) {
            let fields = write(&a);
            prop_assert_eq!(contains(&fields, &b), b.clone().difference(&a).is_empty());
            prop_assert_eq!(touches(&fields, &b), !a.intersection(&b).is_empty());
        }
    }
}
