//! Objects of kinds that users define: from the version in which they are stored to the one that is asked for.

use std::sync::Arc;

use coracle_api::custom::Custom;
use coracle_api::kinds::Kind;
use coracle_api::status::ApiError;
use coracle_store::{Expect, Key, Record};
use serde_json::Value;

use super::Scope;
use super::list::matches;
use crate::core::Core;
use crate::document;
use crate::query::ListOptions;
use crate::served::DEFINITIONS;
use crate::webhook::convert::convert;

impl Scope<'_> {
    /// What must hold for a new object of a custom kind: its definition is still the same one. So no object can outlive
    /// the removal of its definition.
    pub(super) fn definition(&self) -> Option<(Key, Expect)> {
        let custom = self.kind.custom.as_ref()?;
        let key = Key::from(format!("{DEFINITIONS}/{}", custom.definition));
        Some((key, Expect::Uid(custom.definition_uid.clone())))
    }
}

/// Stored records as their kind's version shows them. Nothing is done for objects that are stored in that very form; the
/// others go to the conversion webhook together, where there is one.
pub(crate) async fn present(
    core: &Core,
    kind: &Kind,
    mut records: Vec<Arc<Record>>,
) -> Result<Vec<Arc<Record>>, ApiError> {
    let Some(custom) = kind.custom.as_ref() else {
        return Ok(records);
    };
    let other = |record: &&mut Arc<Record>| !custom.is_current(record.revision);
    let others: Vec<&mut Arc<Record>> = records.iter_mut().filter(other).collect();
    if others.is_empty() {
        return Ok(records);
    }
    let trees: Result<Vec<_>, _> = others.iter().map(|record| document::tree(record)).collect();
    let mut trees = trees?;
    convert(core, kind, custom, &custom.served_as, &mut trees).await?;
    for (record, tree) in others.into_iter().zip(trees) {
        *record = shaped(custom, record, tree)?;
    }
    Ok(records)
}

/// A record with its object, which is in the version of the kind by now, in the form that this version gives it.
fn shaped(custom: &Custom, record: &Record, mut tree: Value) -> Result<Arc<Record>, ApiError> {
    custom.present(&mut tree)?;
    let json = document::bytes(&tree);
    Ok(Arc::new(Record { json, ..record.clone() }))
}

/// The same for one record.
pub(crate) async fn present_one(core: &Core, kind: &Kind, record: Arc<Record>) -> Result<Arc<Record>, ApiError> {
    let shown = present(core, kind, vec![record]).await?;
    let shown = shown.into_iter().next();
    shown.ok_or_else(|| ApiError::internal("a record was lost on its way to a client"))
}

/// The records that meet the selectors, in the version of their kind.
pub(super) async fn chosen<'r>(
    core: &Core,
    kind: &Kind,
    records: impl Iterator<Item = &'r Arc<Record>>,
    options: &ListOptions,
) -> Result<Vec<Arc<Record>>, ApiError> {
    if !selects_converted(kind, options) {
        let chosen = records.filter(|record| matches(kind, record, options));
        return present(core, kind, chosen.cloned().collect()).await;
    }
    let mut shown = present(core, kind, records.cloned().collect()).await?;
    shown.retain(|record| meets(kind, record, options));
    Ok(shown)
}

/// Whether objects are selected by fields that only their conversion tells: what a header has was read in the version of
/// whoever wrote, and what is stored may be another one still.
pub(super) fn selects_converted(kind: &Kind, options: &ListOptions) -> bool {
    let webhook = kind.custom.as_ref().and_then(|custom| custom.webhook.as_ref());
    webhook.is_some() && !options.fields.is_everything() && options.single_name().is_none()
}

/// Whether a record in the version of its kind meets the selectors.
pub(super) fn meets(kind: &Kind, shown: &Record, options: &ListOptions) -> bool {
    let tree = document::tree(shown).unwrap_or_default();
    let fields: Vec<_> = kind
        .selectable
        .iter()
        .map(|field| (&field.label, field.value(&tree)))
        .collect();
    let field = |path: &str| {
        let found = fields.iter().find(|(label, _)| *label == path);
        found.map(|(_, value)| value.as_ref())
    };
    options.labels.matches_object(&tree) && options.fields.matches(field)
}

/// The selectable fields that a record's header lacks, read from the object.
pub(super) fn late_fields(kind: &Kind, record: &Record) -> Vec<(String, String)> {
    let known = |label: &str| record.header.fields.iter().any(|(key, _)| key == label);
    if kind.selectable.iter().all(|field| known(&field.label)) {
        return Vec::new();
    }
    let tree = document::tree(record).unwrap_or_default();
    let missing = kind.selectable.iter().filter(|field| !known(&field.label));
    missing
        .map(|field| (field.label.to_string(), field.value(&tree).into_owned()))
        .collect()
}
