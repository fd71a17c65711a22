//! JSON merge patch, RFC 7386.

use serde_json::Value;

/// Merges a patch into a document: maps merge, null removes, anything else replaces.
pub fn merge(document: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        patch.clone_into(document);
        return;
    };
    let fields = crate::object::fields(document);
    for (field, change) in changes {
        if change.is_null() {
            // Keeps the order of the other fields, which the crate json-patch would not.
            fields.shift_remove(field);
        } else {
            merge(fields.entry(field.as_str()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_cases_of_the_standard() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a"]), json!({"a": "b"}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        ];
        for (mut document, patch, wanted) in cases {
            merge(&mut document, &patch);
            assert_eq!(document, wanted);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i8>().prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| map.into_iter().collect())
        })
    }

    /// The patch that leads from one document without nulls to another; a patch cannot set a null.
    fn difference(from: &Value, to: &Value) -> Value {
        let (Value::Object(from), Value::Object(to)) = (from, to) else {
            return to.clone();
        };
        let gone = from.keys().filter(|field| !to.contains_key(*field));
        let changed = to.iter().filter(|(field, value)| from.get(*field) != Some(*value));
        changed
            .map(|(field, value)| match from.get(field) {
                Some(before) => (field.clone(), difference(before, value)),
                None => (field.clone(), value.clone()),
            })
            .chain(gone.map(|field| (field.clone(), Value::Null)))
            .collect()
    }

    fn without_nulls(value: &Value) -> Value {
        match value {
            Value::Null => Value::from("null"),
            Value::Object(fields) => fields
                .iter()
                .map(|(field, value)| (field.clone(), without_nulls(value)))
                .collect(),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn merging_a_difference_restores(from in any_json(), to in any_json()) {
            let (mut document, wanted) = (without_nulls(&from), without_nulls(&to));
            let patch = difference(&document, &wanted);
            merge(&mut document, &patch);
            prop_assert_eq!(document, wanted);
        }

        #[test]
        fn the_same_patch_again_changes_nothing(document in any_json(), patch in any_json()) {
            let mut once = document;
            merge(&mut once, &patch);
            let mut twice = once.clone();
            merge(&mut twice, &patch);
            prop_assert_eq!(once, twice);
        }
    }
}
