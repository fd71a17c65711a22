//! Drops what a schema does not know, says what it dropped, and fills in defaults.
//!
//! Both are idempotent: pruning twice is pruning once, and so is defaulting.

use serde_json::{Map, Value};

use super::schema::{Additional, Schema};
use crate::normalise::{self, Problem};
use crate::status::ApiError;

const METADATA: &str = "k8s.io/apimachinery/pkg/apis/meta/v1.ObjectMeta";

/// Brings an object into its stored form: metadata as Kubernetes writes it, unknown fields dropped, keys in byte order.
///
/// # Errors
/// When metadata has the wrong types.
pub fn object(schema: &Schema, value: &mut Value) -> Result<Vec<Problem>, ApiError> {
    let mut walk = Walk::default();
    walk.resource(schema, value, true)?;
    value.sort_all_objects();
    Ok(walk.problems)
}

#[derive(Default)]
struct Walk {
    path: String,
    problems: Vec<Problem>,
}

impl Walk {
    fn resource(&mut self, schema: &Schema, value: &mut Value, root: bool) -> Result<(), ApiError> {
        let Some(fields) = value.as_object_mut() else {
            return Ok(());
        };
        let kept: Vec<(String, Value)> = ["apiVersion", "kind", "metadata"]
            .into_iter()
            .filter_map(|name| fields.shift_remove_entry(name))
            .collect();
        self.fields(schema, fields)?;
        for (name, mut value) in kept {
            if name == "metadata" && value.is_object() {
                // The problems below metadata of an embedded object are told with a leading dot, those of the object
                // itself without.
                let prefix = self.at("metadata");
                let prefix = if root { prefix } else { format!(".{prefix}") };
                for problem in normalise::normalise(METADATA, &mut value)? {
                    self.problems.push(match problem {
                        Problem::UnknownField(path) => Problem::UnknownField(format!("{prefix}.{path}")),
                        Problem::DuplicateField(path) => Problem::DuplicateField(format!("{prefix}.{path}")),
                        other => other,
                    });
                }
                if let Some(metadata) = value.as_object_mut() {
                    metadata.retain(|_, value| !value.is_null());
                }
            }
            fields.insert(name, value);
        }
        Ok(())
    }

    fn value(&mut self, schema: &Schema, value: &mut Value) -> Result<(), ApiError> {
        if schema.embedded && value.is_object() {
            return self.resource(schema, value, false);
        }
        match value {
            Value::Object(fields) => self.fields(schema, fields),
            Value::Array(items) => match &schema.items {
                Some(inner) => self.items(inner, items),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn items(&mut self, schema: &Schema, items: &mut [Value]) -> Result<(), ApiError> {
        let length = self.path.len();
        for (index, item) in items.iter_mut().enumerate() {
            self.path.push_str(&format!("[{index}]"));
            self.value(schema, item)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn fields(&mut self, schema: &Schema, fields: &mut Map<String, Value>) -> Result<(), ApiError> {
        if !schema.keeps_unknown() && !matches!(schema.additional, Additional::Schema(_)) {
            let unknown: Vec<String> = fields
                .keys()
                .filter(|name| !schema.properties.contains_key(*name))
                .cloned()
                .collect();
            for name in unknown {
                fields.shift_remove(&name);
                self.problems.push(Problem::UnknownField(self.at(&name)));
            }
        }
        for (name, value) in fields.iter_mut() {
            if let Some(inner) = schema.field(name) {
                let length = self.path.len();
                self.path = self.at(name);
                self.value(inner, value)?;
                self.path.truncate(length);
            }
        }
        Ok(())
    }

    fn at(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

/// Fills in what is missing, everywhere in a value. A null where none may stand counts as missing.
pub fn default(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in &schema.properties {
                let Some(default) = &inner.default else { continue };
                let missing = fields.get(name).is_none_or(|value| value.is_null() && !inner.nullable);
                if missing {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                if let Some(inner) = schema.field(name) {
                    replace_null(inner, value);
                    self::default(inner, value);
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = &schema.items else { return };
            for item in items {
                replace_null(inner, item);
                self::default(inner, item);
            }
        }
        _ => {}
    }
}

fn replace_null(schema: &Schema, value: &mut Value) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
}
