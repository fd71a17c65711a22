//! The smallest JSON merge patch (RFC 7396) that turns one document into another.
//!
//! Writing the difference alone leaves fields that this crate does not know, or that another writer owns, untouched.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The patch that turns `old` into `new`; `None` if they are alike. Fields that `new` lacks are set to null.
#[must_use]
pub fn diff(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for (name, value) in new {
                match old.get(name) {
                    Some(before) => {
                        if let Some(change) = diff(before, value) {
                            patch.insert(name.clone(), change);
                        }
                    }
                    None => {
                        patch.insert(name.clone(), value.clone());
                    }
                }
            }
            for name in old.keys().filter(|name| !new.contains_key(*name)) {
                patch.insert(name.clone(), Value::Null);
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ => (old != new).then(|| new.clone()),
    }
}

/// The patch of `status` from `old` to `new`, bound to the object with that uid; `None` if nothing differs.
#[must_use]
pub fn status<S: Serialize>(uid: Option<&str>, old: &S, new: &S) -> Option<Value> {
    let (old, new) = (value(old), value(new));
    let change = diff(&old, &new)?;
    Some(json!({"metadata": {"uid": uid}, "status": change}))
}

/// A Kubernetes type as a document. They all have one; null stands for one that has not.
#[must_use]
pub fn value<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merge(doc: &mut Value, patch: &Value) {
        let (Value::Object(doc), Value::Object(patch)) = (&mut *doc, patch) else {
            *doc = patch.clone();
            return;
        };
        for (name, value) in patch {
            if value.is_null() {
                doc.remove(name);
            } else {
                merge(doc.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0..4_u8).prop_map(Value::from)];
        let inner = leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::hash_map("[a-c]", inner, 0..3).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        });
        prop::collection::hash_map("[a-d]", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn merging_the_difference_gives_the_new_document(old in document(), new in document()) {
            let mut doc = old.clone();
            match diff(&old, &new) {
                Some(patch) => merge(&mut doc, &patch),
                None => prop_assert_eq!(&old, &new),
            }
            prop_assert_eq!(doc, new);
        }
    }
}
