//! The list `metadata.managedFields`: who owns what.
//!
//! An entry is one manager with one operation, API version and subresource. The list never has two entries of the same
//! manager in this sense, so a controller that writes a status a million times has one entry.

use super::compare::Changes;
use super::fields_v1::{self, Common};
use super::set::Set;
use crate::object;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// How many managers that update are remembered apart. Beyond it the oldest become [`ANCIENT`], so that an object that many
/// names wrote to does not grow without end. Kubernetes' own number.
pub const UPDATERS_LIMIT: usize = 10;
/// The manager that takes over from those who are forgotten.
pub const ANCIENT: &str = "ancient-changes";
/// The manager of what was there before anybody applied, where nothing was recorded.
pub const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, through which door, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The manager's name.
    pub manager: &'a str,
    /// The API version that the request speaks.
    pub api_version: &'a str,
    /// The subresource that is written; empty for the object itself.
    pub subresource: &'a str,
    /// The time, RFC 3339 with seconds.
    pub time: &'a str,
}

/// What a manager did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// An entry as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    manager: &'a str,
    operation: &'a str,
    api_version: &'a str,
    time: &'a str,
    fields_type: &'a str,
    fields_v1: &'a Set,
    #[serde(skip_serializing_if = "str::is_empty")]
    subresource: &'a str,
}

/// What is read of an entry to know whose it is; its fields stay the text that they are.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Read<'a> {
    #[serde(borrow)]
    manager: Cow<'a, str>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    subresource: Cow<'a, str>,
    #[serde(borrow)]
    fields_v1: Option<&'a RawValue>,
}

impl Read<'_> {
    fn common(&self, set: &Set) -> Common {
        match self.fields_v1 {
            Some(fields) => fields_v1::common(fields, set),
            None => fields_v1::common(Value::Null, set),
        }
    }

    /// What brings the list into order: what was applied first, then by time and name.
    fn rank(&self) -> [&str; 3] {
        [&self.operation, &self.time, &self.manager]
    }
}

impl<'a> Writer<'a> {
    fn written(&self, operation: Operation, fields_v1: &'a Set) -> Written<'a> {
        Written {
            manager: self.manager,
            operation: operation.name(),
            api_version: self.api_version,
            time: self.time,
            fields_type: "FieldsV1",
            fields_v1,
            subresource: self.subresource,
        }
    }

    pub(super) fn entry(&self, operation: Operation, fields: &'a Set) -> Value {
        // Texts, and a set: it always serialises.
        serde_json::to_value(self.written(operation, fields)).unwrap_or_default()
    }

    /// Whether an entry is this writer's own. An applier stays the same whatever version it speaks.
    pub(super) fn owns(&self, entry: &Value, operation: Operation) -> bool {
        object::text(entry, "manager") == self.manager
            && object::text(entry, "operation") == operation.name()
            && object::text(entry, "subresource") == self.subresource
            && (operation == Operation::Apply || object::text(entry, "apiVersion") == self.api_version)
    }

    /// The same of what was read of an entry that an update made.
    fn updated(&self, entry: &Read<'_>) -> bool {
        entry.manager == self.manager
            && entry.operation == Operation::Update.name()
            && entry.subresource == self.subresource
            && entry.api_version == self.api_version
    }
}

/// The set of fields of an entry; nothing when it cannot be read.
pub(super) fn fields(entry: &Value) -> Set {
    entry.get("fieldsV1").and_then(fields_v1::read).unwrap_or_default()
}

pub(super) fn set_fields(entry: &mut Value, set: &Set) {
    object::fields(entry).insert("fieldsV1".to_owned(), fields_v1::write(set));
}

pub(super) fn set_time(entry: &mut Value, time: &str) {
    object::fields(entry).insert("time".to_owned(), Value::from(time));
}

/// The owners of a new object.
pub fn created(changes: Changes, writer: Writer<'_>) -> Vec<Value> {
    let gained = changes.into_gained();
    if gained.is_empty() {
        return Vec::new();
    }
    vec![writer.entry(Operation::Update, &gained)]
}

/// The owners after an update: the writer owns what it changed, and nobody else does. Objects whose owners were forgotten
/// stay without until somebody applies.
///
/// The list comes and goes as text; of an entry that the update does not touch nothing else is made. `None` is the list as it is.
///
/// # Errors
/// When the text is no such list.
pub fn updated(owners: &[u8], changes: &Changes, writer: Writer<'_>) -> serde_json::Result<Option<Vec<u8>>> {
    let entries: Vec<&RawValue> = serde_json::from_slice(owners)?;
    if changes.is_empty() || entries.is_empty() {
        return Ok(None);
    }
    let gained = changes.gained();
    let mut found = gained.is_empty();
    let mut list: Vec<Cow<'_, str>> = Vec::with_capacity(entries.len() + 1);
    for entry in entries {
        let read: Read<'_> = serde_json::from_str(entry.get())?;
        let own = writer.updated(&read);
        found |= own;
        let (loses, common) = (read.common(&changes.removed).any, read.common(&gained));
        let stays = !loses && if own { common.all } else { !common.any };
        if stays && (!own || gained.is_empty()) {
            list.push(Cow::Borrowed(entry.get()));
            continue;
        }
        let mut entry: Value = serde_json::from_str(entry.get())?;
        if !stays {
            let mut set = fields(&entry).difference(&changes.removed);
            match own {
                true => set.unite(&gained),
                false => set.subtract(&gained),
            }
            if set.is_empty() {
                continue;
            }
            set_fields(&mut entry, &set);
        }
        if own {
            set_time(&mut entry, writer.time);
        }
        list.push(Cow::Owned(entry.to_string()));
    }
    if !found {
        list.push(Cow::Owned(serde_json::to_string(
            &writer.written(Operation::Update, &gained),
        )?));
    }
    in_order(list).map(Some)
}

/// Joins the entries to a list in the right order, with the oldest forgotten where there are too many.
fn in_order(list: Vec<Cow<'_, str>>) -> serde_json::Result<Vec<u8>> {
    let read = list.iter().map(|entry| serde_json::from_str(entry));
    let read: Vec<Read<'_>> = read.collect::<serde_json::Result<_>>()?;
    let updaters = read.iter().filter(|entry| entry.operation == Operation::Update.name());
    if updaters.count() <= UPDATERS_LIMIT && read.is_sorted_by(|a, b| a.rank() <= b.rank()) {
        return Ok([b"[", list.join(",").as_bytes(), b"]"].concat());
    }
    let entries = list.iter().map(|entry| serde_json::from_str(entry));
    let mut entries: Vec<Value> = entries.collect::<serde_json::Result<_>>()?;
    forget_oldest(&mut entries);
    sort(&mut entries);
    serde_json::to_vec(&entries)
}

/// Brings the list into order: what was applied first, then by time and name.
pub(super) fn sort(owners: &mut [Value]) {
    let key = |entry: &Value| {
        ["operation", "time", "manager", "apiVersion", "subresource"].map(|field| object::text(entry, field).to_owned())
    };
    let rank = |entry: &Value| ["operation", "time", "manager"].map(|field| object::text(entry, field).to_owned());
    if owners.len() > 1 && !owners.is_sorted_by_key(rank) {
        owners.sort_by_cached_key(key);
    }
}

/// Joins the oldest updaters of the same API version until there are few enough.
fn forget_oldest(owners: &mut Vec<Value>) {
    let updates = |entry: &Value| object::text(entry, "operation") == Operation::Update.name();
    while owners.iter().filter(|entry| updates(entry)).count() > UPDATERS_LIMIT {
        let mut oldest: Vec<usize> = (0..owners.len())
            .filter(|index| owners.get(*index).is_some_and(updates))
            .collect();
        let age = |index: &usize| {
            owners.get(*index).map(|entry| {
                (
                    object::text(entry, "time").to_owned(),
                    object::text(entry, "manager").to_owned(),
                )
            })
        };
        oldest.sort_by_key(age);
        let version = |index: &usize| {
            owners
                .get(*index)
                .map(|entry| object::text(entry, "apiVersion").to_owned())
        };
        let pair = oldest.iter().enumerate().find_map(|(place, later)| {
            let earlier = oldest
                .iter()
                .take(place)
                .find(|earlier| version(earlier) == version(later))?;
            Some((*earlier, *later))
        });
        // Every entry speaks another version: none can be joined.
        let Some((earlier, later)) = pair else { return };
        let join = |owners: &mut Vec<Value>| {
            let (first, second) = (owners.get(earlier)?, owners.get(later)?);
            let set = fields(first).union(&fields(second));
            let bucket = Writer {
                manager: ANCIENT,
                api_version: object::text(second, "apiVersion"),
                subresource: "",
                time: object::text(second, "time"),
            };
            let bucket = bucket.entry(Operation::Update, &set);
            owners.remove(earlier.max(later));
            owners.remove(earlier.min(later));
            owners.push(bucket);
            Some(())
        };
        if join(owners).is_none() {
            return;
        }
    }
}

/// What a request wants done with the list itself.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Request {
    /// Nothing: it says what is there, or nothing at all.
    #[default]
    Keep,
    /// Forget all owners.
    Reset,
    /// These are the owners.
    Set(Vec<Value>),
}

/// Reads what a request wants from the object that it brings, before empty lists are dropped from it. A list that cannot be
/// read counts as none, so that clients who do not understand it do no harm.
pub fn request(object: &Value) -> Request {
    let Some(list) = object.pointer("/metadata/managedFields").and_then(Value::as_array) else {
        return Request::Keep;
    };
    let blank = |entry: &Value| entry.as_object().is_some_and(Map::is_empty);
    match list.as_slice() {
        [] => Request::Reset,
        [one] if blank(one) => Request::Reset,
        entries => match entries.iter().map(readable).collect::<Option<Vec<Value>>>() {
            Some(entries) => Request::Set(entries),
            None => Request::Keep,
        },
    }
}

fn readable(entry: &Value) -> Option<Value> {
    let known = matches!(object::text(entry, "operation"), "Apply" | "Update")
        && object::text(entry, "fieldsType") == "FieldsV1"
        && !object::text(entry, "apiVersion").is_empty();
    if !known {
        return None;
    }
    let set = match entry.get("fieldsV1") {
        Some(fields) => fields_v1::read(fields)?,
        None => Set::default(),
    };
    let mut entry = entry.clone();
    set_fields(&mut entry, &set);
    Some(entry)
}
