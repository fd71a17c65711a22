//! The objects that a binding hands to its policy.

use coracle_api::kinds::{Kind, split_api_version};
use coracle_api::object;
use coracle_api::selector::LabelSelector;
use coracle_store::{Record, Snapshot};
use serde_json::Value;
use std::sync::Arc;

use crate::document;
use crate::registry::custom;
use crate::webhook::Asked;

/// What a binding says about them.
pub(super) struct Reference {
    name: String,
    namespace: String,
    selector: Option<Value>,
    /// Whether a write is refused for which there are none.
    needed: bool,
}

impl Reference {
    pub(super) fn of(reference: &Value) -> Self {
        let text = |field: &str| object::text(reference, field).to_owned();
        Self {
            name: text("name"),
            namespace: text("namespace"),
            selector: object::get(reference, "selector").cloned(),
            needed: text("parameterNotFoundAction") == "Deny",
        }
    }
}

/// The parameters for a write, as objects of the kind that the policy names; none where the write is let through without.
///
/// # Errors
/// Why there are none that can be used.
pub(super) async fn find(
    asked: &Asked<'_>,
    snapshot: &Snapshot,
    (api_version, kind): &(String, String),
    reference: &Reference,
) -> Result<Vec<Option<Value>>, String> {
    let (group, version) = split_api_version(api_version);
    let served = asked.core.serving.current();
    let shown = served.kinds.by_kind(group, version, kind);
    let shown = shown
        .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"))?;
    let stored = served.kinds.stored(shown);
    let namespace = match (shown.namespaced, reference.namespace.as_str(), asked.namespace) {
        (false, "", _) => None,
        (false, ..) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
        (true, "", None) => {
            let words = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(words.to_owned());
        }
        (true, "", own) => own,
        (true, named, _) => Some(named),
    };
    let records: Vec<Arc<Record>> = match &reference.selector {
        None => {
            let record = snapshot.get(document::key(stored, namespace, &reference.name).as_str());
            record.cloned().into_iter().collect()
        }
        Some(selector) => {
            let selector = LabelSelector::from_object(selector).map_err(|error| error.message)?;
            let chosen = |record: &&Arc<Record>| {
                let labels = &record.header.labels;
                selector.matches(|key| {
                    let found = labels.iter().find(|(own, _)| own == key);
                    found.map(|(_, value)| value.as_str())
                })
            };
            let prefix = document::prefix_in(stored, namespace);
            snapshot.range(&prefix, None).filter(chosen).cloned().collect()
        }
    };
    let records = custom::present(asked.core, stored, records).await;
    let records = records.map_err(|error| error.message)?;
    let read: Result<Vec<_>, String> = records.iter().map(|record| read(shown, record).map(Some)).collect();
    let found = read?;
    if found.is_empty() && reference.needed {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found)
}

fn read(shown: &Kind, record: &Record) -> Result<Value, String> {
    let mut value = document::tree(record).map_err(|error| error.message)?;
    if let Some(conversion) = shown.conversion {
        (conversion.from_stored)(&mut value);
    }
    Ok(value)
}
