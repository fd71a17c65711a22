//! Objects of kinds that users define: from the version in which they are stored to the one that is asked for.

use std::sync::Arc;

use coracle_api::kinds::Kind;
use coracle_api::status::ApiError;
use coracle_store::{Expect, Key, Record};

use super::Scope;
use crate::document;
use crate::served::DEFINITIONS;

impl Scope<'_> {
    /// What must hold for a new object of a custom kind: its definition is still the same one. So no object can outlive
    /// the removal of its definition.
    pub(super) fn definition(&self) -> Option<(Key, Expect)> {
        let custom = self.kind.custom.as_ref()?;
        let key = Key::from(format!("{DEFINITIONS}/{}", custom.definition));
        Some((key, Expect::Uid(custom.definition_uid.clone())))
    }
}

/// A stored record as its kind's version shows it. Nothing is done for objects that are stored in that very form.
pub(crate) fn present(kind: &Kind, record: &Arc<Record>) -> Result<Arc<Record>, ApiError> {
    let Some(custom) = kind
        .custom
        .as_ref()
        .filter(|custom| !custom.is_current(record.revision))
    else {
        return Ok(record.clone());
    };
    let mut tree = document::tree(record)?;
    custom.present(&mut tree)?;
    let json = document::bytes(&tree);
    Ok(Arc::new(Record {
        json,
        ..(**record).clone()
    }))
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
