//! Objects as rows of text, the form that kubectl shows. Columns and cells are each kind's own; the frame is here.
//!
//! Cells never fail: what is missing in an object prints as kubectl users know it, `<none>` or `<unknown>`.

pub mod admission;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod core;
pub mod event;
pub mod flowcontrol;
pub mod networking;
pub mod node;
pub mod pod;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod service;
pub mod storage;

use crate::custom::column::CustomColumn;
use crate::kinds::{Column, Kind, Printer};
use crate::object;
use crate::selector::LabelSelector;
use crate::time;
use serde_json::{Map, Value, json};

/// What each row carries of the object itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The metadata, as a `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter `includeObject`; `None` when the value is unknown. Empty means metadata.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "None" => Some(Self::None),
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

const GENERIC: &[Column] = &[NAME, column("Created At", "date")];

/// A `meta.k8s.io/v1 Table` of objects, with the list's metadata (resource version, continue token) as it stands.
pub fn table(kind: &Kind, items: &[&Value], include: IncludeObject, now_micros: i64, list_metadata: Value) -> Value {
    let rows: Vec<Value> = items.iter().map(|item| row(kind, item, include, now_micros)).collect();
    frame(columns(kind), rows, list_metadata)
}

/// A table of one `autoscaling/v1 Scale`, which is a view of an object and no row in the table of kinds.
pub fn scale(item: &Value, include: IncludeObject, now_micros: i64) -> Value {
    let columns = autoscaling::SCALE_COLUMNS.iter().map(definition).collect();
    let row = with_object(autoscaling::scale(item, now_micros), item, include);
    let metadata = json!({"resourceVersion": object::resource_version(item)});
    frame(columns, vec![row], metadata)
}

fn frame(columns: Value, rows: Vec<Value>, list_metadata: Value) -> Value {
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata,
        "columnDefinitions": columns, "rows": rows,
    })
}

/// The column definitions of a kind's tables.
pub fn columns(kind: &Kind) -> Value {
    if let Some(custom) = &kind.custom {
        let own = custom.columns.iter().map(CustomColumn::definition);
        return std::iter::once(definition(&NAME)).chain(own).collect();
    }
    let columns = match kind.printer {
        Printer::Generic => GENERIC,
        Printer::Cells { columns, .. } => columns,
    };
    columns.iter().map(definition).collect()
}

/// One object as a row.
pub fn row(kind: &Kind, item: &Value, include: IncludeObject, now_micros: i64) -> Value {
    let cells = match kind.printer {
        _ if kind.custom.is_some() => custom_cells(kind, item, now_micros),
        Printer::Generic => vec![name(item), Value::from(object::creation_timestamp(item))],
        Printer::Cells { cells, .. } => cells(item, now_micros),
    };
    with_object(cells, item, include)
}

fn with_object(cells: Vec<Value>, item: &Value, include: IncludeObject) -> Value {
    match include {
        IncludeObject::None => json!({"cells": cells}),
        IncludeObject::Metadata => json!({"cells": cells, "object": partial(item)}),
        IncludeObject::Object => json!({"cells": cells, "object": item}),
    }
}

fn custom_cells(kind: &Kind, item: &Value, now_micros: i64) -> Vec<Value> {
    let columns = kind.custom.iter().flat_map(|custom| &custom.columns);
    std::iter::once(name(item))
        .chain(columns.map(|column| column.cell(item, now_micros)))
        .collect()
}

/// An object's metadata alone, as a `PartialObjectMetadata`.
pub fn partial(item: &Value) -> Value {
    let metadata = item.get("metadata").cloned().unwrap_or_default();
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

fn definition(column: &Column) -> Value {
    let Column {
        name,
        kind,
        format,
        priority,
    } = column;
    json!({"name": name, "type": kind, "format": format, "description": "", "priority": priority})
}

const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    priority: 0,
};

const fn column(name: &'static str, kind: &'static str) -> Column {
    Column {
        name,
        kind,
        format: "",
        priority: 0,
    }
}

const fn text(name: &'static str) -> Column {
    column(name, "string")
}

const fn number(name: &'static str) -> Column {
    column(name, "integer")
}

const fn wide(name: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        priority: 1,
    }
}

fn name(item: &Value) -> Value {
    Value::from(object::name(item))
}

fn age(item: &Value, now: i64) -> Value {
    Value::from(time::age_of(now, object::creation_timestamp(item)))
}

/// A text field; `<none>` when it is empty.
fn text_or_none(object: &Value, path: &str) -> Value {
    text_or(object, path, "<none>")
}

/// A text field, or something else when it is empty.
fn text_or(object: &Value, path: &str, absent: &str) -> Value {
    match object::text(object, path) {
        "" => Value::from(absent),
        found => Value::from(found),
    }
}

/// The texts of a list with commas between.
fn joined(list: &[Value]) -> String {
    let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    texts.join(",")
}

/// A number field; zero when it is missing.
fn count(object: &Value, path: &str) -> Value {
    Value::from(object::integer(object, path).unwrap_or_default())
}

/// How many items a list has.
fn length(object: &Value, path: &str) -> Value {
    Value::from(object::list(object, path).len())
}

/// Whether an object has a condition of this type that is true.
fn is_true(object: &Value, condition: &str) -> bool {
    object::list(object, "status.conditions")
        .iter()
        .any(|one| object::text(one, "type") == condition && object::text(one, "status") == "True")
}

/// How long ago something was; `absent` when it never was.
fn since(object: &Value, path: &str, now: i64, absent: &str) -> Value {
    match object::text(object, path) {
        "" => Value::from(absent),
        then => Value::from(time::age_of(now, then)),
    }
}

fn or_none(text: String) -> Value {
    Value::from(if text.is_empty() { "<none>".to_owned() } else { text })
}

/// Labels as `a=1,b=2`, sorted.
fn labels(labels: Option<&Map<String, Value>>) -> Value {
    let pairs = labels.into_iter().flatten();
    let mut pairs: Vec<String> = pairs
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort_unstable();
    or_none(pairs.join(","))
}

/// A label selector object in its text form.
fn selector(selector: Option<&Value>) -> Value {
    let read = selector.map(LabelSelector::from_object);
    match read {
        None => or_none(String::new()),
        Some(Ok(selector)) => or_none(selector.to_string()),
        Some(Err(_)) => Value::from("<error>"),
    }
}

/// The names of a pod spec's containers.
fn containers(spec: &Value) -> Value {
    each_container(spec, "name")
}

/// The images of a pod spec's containers.
fn images(spec: &Value) -> Value {
    each_container(spec, "image")
}

fn each_container(spec: &Value, field: &str) -> Value {
    let texts: Vec<&str> = object::list(spec, "containers")
        .iter()
        .map(|container| object::text(container, field))
        .collect();
    Value::from(texts.join(","))
}
