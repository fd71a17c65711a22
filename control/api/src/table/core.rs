//! Rows of the small kinds.

use super::{NAME, age, name, number, text};
use crate::kinds::Column;
use crate::object;
use serde_json::Value;

/// Columns of namespaces.
pub const NAMESPACE: &[Column] = &[NAME, text("Status"), text("Age")];

/// Cells of a namespace.
pub fn namespace(namespace: &Value, now: i64) -> Vec<Value> {
    vec![
        name(namespace),
        Value::from(object::text(namespace, "status.phase")),
        age(namespace, now),
    ]
}

/// Columns of config maps.
pub const CONFIG_MAP: &[Column] = &[NAME, number("Data"), text("Age")];

/// Cells of a config map.
pub fn config_map(map: &Value, now: i64) -> Vec<Value> {
    vec![
        name(map),
        Value::from(entries(map, "data") + entries(map, "binaryData")),
        age(map, now),
    ]
}

/// Columns of secrets.
pub const SECRET: &[Column] = &[NAME, text("Type"), number("Data"), text("Age")];

/// Cells of a secret.
pub fn secret(secret: &Value, now: i64) -> Vec<Value> {
    let kind = Value::from(object::text(secret, "type"));
    vec![
        name(secret),
        kind,
        Value::from(entries(secret, "data")),
        age(secret, now),
    ]
}

/// Columns of service accounts.
pub const SERVICE_ACCOUNT: &[Column] = &[NAME, text("Age")];

/// Cells of a service account.
pub fn service_account(account: &Value, now: i64) -> Vec<Value> {
    vec![name(account), age(account, now)]
}

/// Columns of leases.
pub const LEASE: &[Column] = &[NAME, text("Holder"), text("Age")];

/// Cells of a lease.
pub fn lease(lease: &Value, now: i64) -> Vec<Value> {
    vec![
        name(lease),
        Value::from(object::text(lease, "spec.holderIdentity")),
        age(lease, now),
    ]
}

fn entries(object: &Value, field: &str) -> usize {
    object::map(object, field).map_or(0, serde_json::Map::len)
}
