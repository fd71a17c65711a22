//! Sets of fields in the form `FieldsV1`, in which they stand in `managedFields`.
//!
//! Questions about a few paths are answered on that form itself, be it text or a tree: an ordinary write must not decode the
//! sets of all managers.

use super::path::Element;
use super::set::{Node, Set};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

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
    // Its keys are texts, and nothing else in it could fail.
    serde_json::to_value(set).unwrap_or_default()
}

impl Serialize for Set {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(element, node)| (element.as_str(), node)))
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = (self.member && !self.below.is_empty()).then(Node::default);
        let own = own.iter().map(|nothing| (SELF, nothing));
        serializer.collect_map(own.chain(self.below.iter().map(|(element, node)| (element.as_str(), node))))
    }
}

/// What the set that a text or tree stands for has in common with another.
#[derive(Clone, Copy, Default)]
pub struct Common {
    /// A path of the other belongs to it.
    pub any: bool,
    /// All paths of the other do.
    pub all: bool,
    /// The path that leads here belongs to it.
    member: bool,
}

/// Compares the set that `fields` stands for with another. What cannot be read has nothing in common with any.
pub fn common<'de>(fields: impl Deserializer<'de>, set: &Set) -> Common {
    Against(set).deserialize(fields).unwrap_or(Common {
        all: set.is_empty(),
        ..Common::default()
    })
}

struct Against<'s>(&'s Set);

impl<'de> DeserializeSeed<'de> for Against<'_> {
    type Value = Common;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Common, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Against<'_> {
    type Value = Common;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a set of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut steps: A) -> Result<Common, A::Error> {
        let mut common = Common {
            all: true,
            ..Common::default()
        };
        let (mut empty, mut met) = (true, 0);
        while let Some(Step(step)) = steps.next_key()? {
            empty = false;
            let Some(node) = self.0.get(&step) else {
                common.member |= step == SELF;
                steps.next_value::<IgnoredAny>()?;
                continue;
            };
            let below = steps.next_value_seed(Against(&node.below))?;
            common.any |= (node.member && below.member) || below.any;
            common.all &= (below.member || !node.member) && below.all;
            met += 1;
        }
        common.member |= empty;
        common.all &= met == self.0.iter().count();
        Ok(common)
    }
}

/// A step, where it stands in the text if it can be.
#[derive(Deserialize)]
struct Step<'a>(#[serde(borrow)] Cow<'a, str>);

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
            let of_tree = common(&fields, &b);
            prop_assert_eq!(of_tree.all, b.clone().difference(&a).is_empty());
            prop_assert_eq!(of_tree.any, !a.intersection(&b).is_empty());
            let text = fields.to_string();
            let of_text = common(&mut serde_json::Deserializer::from_str(&text), &b);
            prop_assert_eq!((of_text.all, of_text.any), (of_tree.all, of_tree.any));
        }
    }
}
