//! The annotation in which kubectl keeps the configuration that it applied without the server's help.
//!
//! Whoever changes over to server-side apply shall meet no conflict with their own former self, and shall be able to go
//! back: what the annotation states and still holds may be taken by kubectl, and an apply by kubectl renews the annotation.

use super::compare::compare;
use super::extract::extract;
use super::rules::Rules;
use super::set::Set;
use crate::object;
use serde_json::Value;

/// The manager whose applies look at the annotation.
pub const KUBECTL: &str = "kubectl";
/// The annotation.
pub const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// No annotation may be longer, as in Kubernetes.
const LIMIT_BYTES: usize = 256 * 1024;

/// The fields that were applied in the old way and have not changed since.
pub(super) fn unchanged(rules: Rules<'_>, live: &Value) -> Set {
    let text = object::annotation(live, ANNOTATION).unwrap_or_default();
    let Ok(config) = serde_json::from_str::<Value>(text) else {
        return Set::default();
    };
    if object::text(&config, "apiVersion") != object::text(live, "apiVersion") {
        return Set::default();
    }
    let Ok(set) = extract(rules, &config) else {
        return Set::default();
    };
    let since = compare(rules, &config, live, true);
    set.difference(&since.modified).difference(&since.removed)
}

/// Renews the annotation of an object to which kubectl applies `config`, where there is one.
pub fn renew(object: &mut Value, config: &Value) {
    if object::annotation(object, ANNOTATION).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.shift_remove(ANNOTATION);
    }
    config.sort_all_objects();
    let text = format!("{config}\n");
    if text.len() <= LIMIT_BYTES {
        object::set_annotation(object, ANNOTATION, &text);
    } else if let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.shift_remove(ANNOTATION);
    }
}
