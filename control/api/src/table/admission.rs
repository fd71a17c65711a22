//! Rows of what extends the API: webhooks, admission policies, API services.

use super::{NAME, age, length, name, number, text};
use crate::kinds::Column;
use crate::object;
use crate::selector::LabelSelector;
use serde_json::Value;

/// Columns of configurations of webhooks.
pub const WEBHOOKS: &[Column] = &[NAME, number("Webhooks"), text("Age")];

/// Cells of a configuration of webhooks.
pub fn webhooks(configuration: &Value, now: i64) -> Vec<Value> {
    vec![
        name(configuration),
        length(configuration, "webhooks"),
        age(configuration, now),
    ]
}

/// Columns of validating policies.
pub const VALIDATING_POLICY: &[Column] = &[NAME, number("Validations"), text("ParamKind"), text("Age")];

/// Cells of a validating policy.
pub fn validating_policy(policy: &Value, now: i64) -> Vec<Value> {
    policy_cells(policy, "spec.validations", now)
}

/// Columns of mutating policies.
pub const MUTATING_POLICY: &[Column] = &[NAME, number("Mutations"), text("ParamKind"), text("Age")];

/// Cells of a mutating policy.
pub fn mutating_policy(policy: &Value, now: i64) -> Vec<Value> {
    policy_cells(policy, "spec.mutations", now)
}

fn policy_cells(policy: &Value, list: &str, now: i64) -> Vec<Value> {
    let parameters = object::get(policy, "spec.paramKind").map_or_else(
        || "<unset>".to_owned(),
        |kind| format!("{}/{}", object::text(kind, "apiVersion"), object::text(kind, "kind")),
    );
    vec![
        name(policy),
        length(policy, list),
        Value::from(parameters),
        age(policy, now),
    ]
}

/// Columns of the bindings of policies.
pub const POLICY_BINDING: &[Column] = &[NAME, text("PolicyName"), text("ParamRef"), text("Age")];

/// Cells of the binding of a policy.
pub fn policy_binding(binding: &Value, now: i64) -> Vec<Value> {
    let reference = object::get(binding, "spec.paramRef").map_or_else(|| "<unset>".to_owned(), parameter);
    vec![
        name(binding),
        Value::from(object::text(binding, "spec.policyName")),
        Value::from(reference),
        age(binding, now),
    ]
}

fn parameter(reference: &Value) -> String {
    match (object::text(reference, "namespace"), object::text(reference, "name")) {
        ("", "") => object::get(reference, "selector")
            .and_then(|selector| LabelSelector::from_object(selector).ok())
            .map_or_else(|| "<unset>".to_owned(), |selector| selector.to_string()),
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

/// Columns of API services.
pub const API_SERVICE: &[Column] = &[NAME, text("Service"), text("Available"), text("Age")];

/// Cells of an API service.
pub fn api_service(service: &Value, now: i64) -> Vec<Value> {
    let target = object::get(service, "spec.service").map_or_else(
        || "Local".to_owned(),
        |target| format!("{}/{}", object::text(target, "namespace"), object::text(target, "name")),
    );
    let condition = object::list(service, "status.conditions")
        .iter()
        .find(|one| object::text(one, "type") == "Available");
    let available = condition.map_or_else(
        || "Unknown".to_owned(),
        |one| match (object::text(one, "status"), object::text(one, "reason")) {
            ("True", _) => "True".to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        },
    );
    vec![
        name(service),
        Value::from(target),
        Value::from(available),
        age(service, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_api_service_prints_whether_it_answers() {
        let mut object = json!({"metadata": {"name": "v1.x"}, "spec": {"service": {"namespace": "n", "name": "s"}},
            "status": {"conditions": [{"type": "Available", "status": "False", "reason": "MissingEndpoints"}]}});
        assert_eq!(
            Value::from(api_service(&object, 0)),
            json!(["v1.x", "n/s", "False (MissingEndpoints)", "<unknown>"])
        );
        object["spec"] = json!({});
        object["status"]["conditions"][0]["status"] = json!("True");
        assert_eq!(api_service(&object, 0)[1..3], [json!("Local"), json!("True")]);
    }

    #[test]
    fn a_binding_prints_its_parameter() {
        let parameter = |reference: Value| policy_binding(&json!({"spec": {"paramRef": reference}}), 0)[2].clone();
        assert_eq!(parameter(json!({"name": "p"})), "*/p");
        assert_eq!(parameter(json!({"name": "p", "namespace": "n"})), "n/p");
        assert_eq!(policy_binding(&json!({}), 0)[2], "<unset>");
    }
}
