//! The columns of a custom kind's tables.

use serde_json::{Value, json};

use super::jsonpath::JsonPath;
use crate::object;
use crate::time;

/// A column.
#[derive(Debug, Clone)]
pub struct CustomColumn {
    /// The heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// The OpenAPI format.
    pub format: String,
    /// What it shows, for people.
    pub description: String,
    /// 0 is always shown, others only in wide output.
    pub priority: i64,
    path: JsonPath,
}

/// The columns of a version; its age, when it names none.
pub fn columns(version: &Value) -> Vec<CustomColumn> {
    let given = object::list(version, "additionalPrinterColumns");
    if given.is_empty() {
        let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
        return column(&age).into_iter().collect();
    }
    given.iter().filter_map(column).collect()
}

fn column(json: &Value) -> Option<CustomColumn> {
    let text = |field: &str| object::text(json, field).to_owned();
    Some(CustomColumn {
        name: text("name"),
        kind: text("type"),
        format: text("format"),
        description: text("description"),
        priority: object::integer(json, "priority").unwrap_or_default(),
        path: JsonPath::parse(object::text(json, "jsonPath")).ok()?,
    })
}

impl CustomColumn {
    /// The column's definition in a table.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }

    /// The column's cell for an object; null when there is nothing to show.
    pub fn cell(&self, item: &Value, now_micros: i64) -> Value {
        let found = self.path.find(item);
        let Some(first) = found.first() else { return Value::Null };
        match (self.kind.as_str(), first) {
            ("string", _) => Value::from(found.iter().map(|value| printed(value)).collect::<Vec<_>>().join(" ")),
            ("integer", Value::Number(number)) => number
                .as_i64()
                .or_else(|| number.as_f64().map(|number| number as i64))
                .map_or(Value::Null, Value::from),
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (*first).clone(),
            ("date", Value::String(text)) => match time::parse(text) {
                Some(then) => Value::from(time::age(now_micros, then)),
                None => Value::from("<invalid>"),
            },
            _ => Value::Null,
        }
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}
