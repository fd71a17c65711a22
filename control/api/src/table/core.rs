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

/// Columns of the parts of the control plane.
pub const COMPONENT_STATUS: &[Column] = &[NAME, text("Status"), text("Message"), text("Error")];

/// Cells of a part of the control plane.
pub fn component_status(component: &Value, _: i64) -> Vec<Value> {
    let healthy = |condition: &&Value| object::text(condition, "type") == "Healthy";
    let condition = object::list(component, "conditions").iter().find(healthy);
    let told = |field: &str| {
        condition
            .map_or("", |condition| object::text(condition, field))
            .to_owned()
    };
    let status = match told("status").as_str() {
        "True" => "Healthy",
        "False" => "Unhealthy",
        _ => "Unknown",
    };
    vec![
        name(component),
        Value::from(status),
        Value::from(told("message")),
        Value::from(told("error")),
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

/// Columns of resource quotas.
pub const RESOURCE_QUOTA: &[Column] = &[NAME, text("Request"), text("Limit"), text("Age")];

/// Cells of a resource quota: what is used of what there is, limits apart from the rest.
pub fn resource_quota(quota: &Value, now: i64) -> Vec<Value> {
    let mut hard: Vec<(&String, &Value)> = object::map(quota, "status.hard").into_iter().flatten().collect();
    hard.sort_unstable_by_key(|(resource, _)| *resource);
    let used = object::map(quota, "status.used");
    let share = |limits: bool| {
        let of_kind = hard
            .iter()
            .filter(|(resource, _)| resource.starts_with("limits.") == limits);
        let shares: Vec<String> = of_kind
            .map(|(resource, amount)| {
                let used = used.and_then(|used| used.get(*resource)).and_then(Value::as_str);
                format!(
                    "{resource}: {}/{}",
                    used.unwrap_or("0"),
                    amount.as_str().unwrap_or_default()
                )
            })
            .collect();
        Value::from(shares.join(", "))
    };
    vec![name(quota), share(false), share(true), age(quota, now)]
}

/// Columns of priority classes.
pub const PRIORITY_CLASS: &[Column] = &[
    NAME,
    number("Value"),
    text("Global-Default"),
    text("Age"),
    text("PreemptionPolicy"),
];

/// Cells of a priority class.
pub fn priority_class(class: &Value, now: i64) -> Vec<Value> {
    vec![
        name(class),
        Value::from(object::integer(class, "value").unwrap_or_default()),
        Value::from(object::truth(class, "globalDefault")),
        age(class, now),
        Value::from(object::text(class, "preemptionPolicy")),
    ]
}

/// Columns of runtime classes.
pub const RUNTIME_CLASS: &[Column] = &[NAME, text("Handler"), text("Age")];

/// Cells of a runtime class.
pub fn runtime_class(class: &Value, now: i64) -> Vec<Value> {
    vec![
        name(class),
        Value::from(object::text(class, "handler")),
        age(class, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_quota_prints_what_is_used() {
        let quota = json!({
            "metadata": {"name": "q"},
            "status": {"hard": {"pods": "4", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "1", "limits.cpu": "500m"}},
        });
        let cells = json!(["q", "cpu: 0/1, pods: 1/4", "limits.cpu: 500m/2", "<unknown>"]);
        assert_eq!(Value::from(resource_quota(&quota, 0)), cells);
    }
}
