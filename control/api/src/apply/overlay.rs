//! Merges a configuration that nobody will own: what admission policies add to an object.

use serde_json::Value;

use super::extract::{Faults, extract};
use super::merge;
use super::path::Element;
use super::rules::{Form, Rules};

/// Why a configuration cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// It does not fit the type.
    #[error("failed to convert patch object to typed object: {0}")]
    Untyped(#[from] Faults),
    /// It states parts that are only ever written whole, so what it does not state would be lost.
    #[error("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {0}")]
    Atomic(String),
}

/// The object with all that the configuration states.
///
/// # Errors
/// When the configuration does not fit the type, or states atomic parts.
pub fn overlay(rules: Rules<'_>, object: &Value, configuration: &Value) -> Result<Value, OverlayError> {
    extract(rules, configuration)?;
    let mut found = Vec::new();
    atomic(rules, configuration, "", &mut found);
    if !found.is_empty() {
        return Err(OverlayError::Atomic(found.join(", ")));
    }
    Ok(merge::merge(rules, object, configuration))
}

fn atomic(rules: Rules<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    let below = |name: &str| format!("{path}{}", Element::field(name));
    match (rules.form(value), value) {
        (Form::Leaf, Value::Object(_) | Value::Array(_)) => found.push(path.to_owned()),
        (Form::Fields, Value::Object(fields)) => {
            for (name, value) in fields {
                if let Some((inner, _)) = rules.field(name) {
                    atomic(inner, value, &below(name), found);
                }
            }
        }
        (Form::Map(inner), Value::Object(fields)) => {
            for (name, value) in fields {
                atomic(inner, value, &below(name), found);
            }
        }
        (Form::Keyed(_, inner), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                atomic(inner, item, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const POD: &str = "k8s.io/api/core/v1.Pod";

    #[test]
    fn what_is_stated_is_merged_by_the_keys_of_lists() {
        let pod = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
        let more = json!({"metadata": {"labels": {"k": "v"}}, "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a", "tty": true}]}});
        let wanted = json!({
            "spec": {"containers": [{"name": "a", "image": "x", "tty": true}], "initContainers": [{"name": "i"}]},
            "metadata": {"labels": {"k": "v"}},
        });
        assert_eq!(overlay(Rules::of_type(POD), &pod, &more), Ok(wanted));
    }

    #[test]
    fn atomic_and_unknown_parts_are_refused() {
        let words = |more: Value| overlay(Rules::of_type(POD), &json!({}), &more).unwrap_err().to_string();
        assert_eq!(
            words(json!({"spec": {"containers": [{"name": "a", "args": ["x"]}]}})),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args"
        );
        assert_eq!(
            words(json!({"spec": {"boat": 1}})),
            "failed to convert patch object to typed object: .spec.boat: field not declared in schema"
        );
    }
}
