//! Strategic merge patches: merge patches whose lists are merged by key, as the field facts declare.
//!
//! The directives of Kubernetes are understood: `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/x` and
//! `$setElementOrder/x`. What a type does not declare is merged (objects) or replaced (lists). No directive may survive in the
//! result. The work is linear in the sizes of the document and the patch, since both come from outside.

mod list;

use crate::fields::{self, PatchStrategy, Shape, StructRef, TypeRef};
use crate::status::ApiError;
use list::Rule;
use serde_json::{Map, Value};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Why a patch was refused; the words are Kubernetes'.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("map: {0} does not contain declared merge key: {1}")]
    NoMergeKey(String, String),
    #[error("unknown patch type: {0} in map: {1}")]
    PatchType(String, String),
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    ElementOrder,
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    #[error("cannot merge lists without merge key for {0}")]
    NoKeyDeclared(String),
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("expected a map, but received a {0}")]
    NoMap(String),
}

/// Applies `patch` to `doc`, both of type `go_type`. The result still has to be normalised.
///
/// # Errors
/// 400 when the patch is malformed, 500 when there is no such type.
pub fn strategic(go_type: &str, doc: &Value, patch: &Value) -> Result<Value, ApiError> {
    let kind = fields::go_type(go_type).ok_or_else(|| ApiError::internal(format!("no type {go_type}")))?;
    let refuse = |fault: Fault| ApiError::bad_request(fault.to_string());
    let Value::Object(patch) = patch else {
        return Err(refuse(Fault::NoMap(go_text(patch))));
    };
    let mut map = doc.as_object().cloned().unwrap_or_default();
    merge_map(Context::Struct(kind), &mut map, patch.clone()).map_err(refuse)?;
    Ok(Value::Object(map))
}

/// What is known of the object that is being merged.
#[derive(Clone, Copy)]
enum Context {
    Struct(StructRef),
    Map(TypeRef),
    Unknown,
}

impl Context {
    fn of(kind: TypeRef) -> Self {
        match kind.shape() {
            Shape::Struct(inner) => Self::Struct(inner),
            Shape::Map(of) => Self::Map(of),
            _ => Self::Unknown,
        }
    }

    /// How the value under a key is merged.
    fn rule(self, key: &str) -> Rule {
        let unknown = Rule {
            element: Self::Unknown,
            value: Self::Unknown,
            strategy: PatchStrategy::default(),
            merge_key: "",
        };
        let (kind, strategy, merge_key) = match self {
            Self::Unknown => return unknown,
            Self::Map(of) => (of, PatchStrategy::default(), ""),
            Self::Struct(kind) => match kind.field(key) {
                None => return unknown,
                Some(field) => (field.kind, field.patch_strategy, field.merge_key),
            },
        };
        let element = match kind.shape() {
            Shape::Slice(element) => Self::of(element),
            _ => Self::Unknown,
        };
        Rule {
            element,
            value: Self::of(kind),
            strategy,
            merge_key,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Struct(kind) => kind.short_name().to_owned(),
            Self::Map(of) => of.printed_name(),
            Self::Unknown => String::new(),
        }
    }
}

/// Merges a patch into an object.
fn merge_map(context: Context, original: &mut Map<String, Value>, mut patch: Map<String, Value>) -> Result<(), Fault> {
    if let Some(directive) = patch.shift_remove(PATCH) {
        match directive.as_str() {
            Some("replace") => {
                *original = taken_map(patch);
                return Ok(());
            }
            Some("delete") => {
                original.clear();
                return Ok(());
            }
            Some("merge") => {}
            _ => return Err(Fault::PatchType(go_text(&directive), go_text(&Value::Object(patch)))),
        }
    }
    if let Some(keys) = patch.shift_remove(RETAIN_KEYS) {
        retain_keys(original, &patch, &keys)?;
    }
    order_lists(context, original, &mut patch)?;
    let (deletions, changes): (Vec<_>, Vec<_>) = patch.into_iter().partition(|(key, _)| key.starts_with(DELETE_FROM));
    for (key, change) in changes {
        merge_entry(context.rule(&key), original, key, change)?;
    }
    for (key, change) in deletions {
        let (Some(key), Value::Array(gone)) = (key.strip_prefix(DELETE_FROM), change) else {
            return Err(Fault::PrimitiveList);
        };
        if let Some(Value::Array(list)) = original.get_mut(key) {
            list::delete_values(list, &gone);
        }
    }
    Ok(())
}

fn merge_entry(rule: Rule, original: &mut Map<String, Value>, key: String, change: Value) -> Result<(), Fault> {
    match (original.get_mut(&key), change) {
        (Some(_), Value::Null) => {
            original.shift_remove(&key);
        }
        (Some(Value::Object(map)), Value::Object(change)) if !rule.strategy.replace => {
            merge_map(rule.value, map, change)?;
        }
        (Some(Value::Array(list)), Value::Array(change)) if rule.strategy.merge => {
            *list = rule.merge_list(std::mem::take(list), change)?;
        }
        (_, change) => match taken(change) {
            Some(value) => {
                original.insert(key, value);
            }
            None => {
                original.shift_remove(&key);
            }
        },
    }
    Ok(())
}

/// Clears what `$retainKeys` does not name; a patch may set only what it names.
fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>, keys: &Value) -> Result<(), Fault> {
    let keys = keys.as_array().ok_or(Fault::RetainKeys)?;
    let named = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    let sets = |(key, value): (&String, &Value)| !value.is_null() && !is_list_directive(key);
    if patch.iter().any(|entry| sets(entry) && !named(entry.0)) {
        return Err(Fault::RetainKeys);
    }
    original.retain(|key, _| named(key));
    Ok(())
}

/// Merges the lists whose order the patch sets, and takes them out of the patch.
fn order_lists(
    context: Context,
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), Fault> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(ELEMENT_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let key = directive.strip_prefix(ELEMENT_ORDER).unwrap_or_default();
        let Some(Value::Array(order)) = patch.shift_remove(&directive) else {
            return Err(Fault::ElementOrder);
        };
        let rule = context.rule(key);
        let change = match patch.shift_remove(key) {
            None => None,
            Some(Value::Array(change)) => Some(change),
            // A deletion of the whole list, or a mistake that the types will show.
            Some(other) => {
                patch.insert(key.to_owned(), other);
                continue;
            }
        };
        if let Some(change) = &change {
            rule.check_order(change, &order)?;
        }
        let before = match original.get_mut(key) {
            Some(Value::Array(list)) => Some(std::mem::take(list)),
            _ => None,
        };
        let merged = match (before.clone(), change) {
            (None, None) => continue,
            (Some(list), None) => list,
            (None, Some(change)) => change.into_iter().filter_map(taken).collect(),
            (Some(list), Some(change)) if rule.strategy.merge => rule.merge_list(list, change)?,
            (Some(_), Some(change)) => change.into_iter().filter_map(taken).collect(),
        };
        let ordered = rule.ordered(merged, &order, &before.unwrap_or_default())?;
        original.insert(key.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

fn is_list_directive(key: &str) -> bool {
    key.starts_with(DELETE_FROM) || key.starts_with(ELEMENT_ORDER)
}

/// A value of the patch that has no counterpart, without nulls and directives; nothing when it is a directive itself.
fn taken(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => Some(Value::Object(taken_map(map))),
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(taken).collect())),
        Value::Null => None,
        other => Some(other),
    }
}

fn taken_map(map: Map<String, Value>) -> Map<String, Value> {
    let kept = map
        .into_iter()
        .filter(|(key, _)| key != RETAIN_KEYS && !is_list_directive(key));
    kept.filter_map(|(key, value)| taken(value).map(|value| (key, value)))
        .collect()
}

/// A value as Go prints it in errors: `map[image:x name:y]`.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| format!("{key}:{}", go_text(value)))
                .collect();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
