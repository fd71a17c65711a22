//! Defaults of what extends admission and of what adds whole groups: webhooks, policies, API services.

use super::{fill, fill_text, items, part};
use crate::object;
use serde_json::{Value, json};

/// How long a webhook may take, in seconds.
const TIMEOUT_SECONDS: u32 = 10;

/// The webhooks of a validating configuration.
pub fn webhooks(configuration: &mut Value) {
    items(configuration, "webhooks").for_each(webhook);
}

/// The webhooks of a mutating configuration: besides, none is called twice.
pub fn mutating_webhooks(configuration: &mut Value) {
    for hook in items(configuration, "webhooks") {
        webhook(hook);
        fill(hook, "reinvocationPolicy", "Never");
    }
}

fn webhook(webhook: &mut Value) {
    fill(webhook, "failurePolicy", "Fail");
    selection(webhook);
    fill(webhook, "timeoutSeconds", TIMEOUT_SECONDS);
    items(webhook, "rules").for_each(|rule| fill(rule, "scope", "*"));
    if let Some(service) = part(webhook, "clientConfig").and_then(|client| part(client, "service")) {
        fill(service, "port", 443);
    }
}

/// Everything that is not narrowed is chosen, under all of its versions.
fn selection(owner: &mut Value) {
    fill(owner, "matchPolicy", "Equivalent");
    fill(owner, "namespaceSelector", json!({}));
    fill(owner, "objectSelector", json!({}));
}

/// An admission policy fails closed.
pub fn policy(policy: &mut Value) {
    let spec = object::child(policy, "spec");
    fill(spec, "failurePolicy", "Fail");
    if let Some(constraints) = part(spec, "matchConstraints") {
        resources(constraints);
    }
}

/// The binding of a policy.
pub fn policy_binding(binding: &mut Value) {
    let spec = object::child(binding, "spec");
    if let Some(chosen) = part(spec, "matchResources") {
        resources(chosen);
    }
}

fn resources(chosen: &mut Value) {
    selection(chosen);
    for list in ["resourceRules", "excludeResourceRules"] {
        items(chosen, list).for_each(|rule| fill_text(rule, "scope", "*"));
    }
}

/// An aggregated API listens where HTTPS does.
pub fn api_service(service: &mut Value) {
    let spec = object::child(service, "spec");
    if let Some(service) = part(spec, "service") {
        fill(service, "port", 443);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_completed() {
        let mut configuration = json!({"webhooks": [{"rules": [{"operations": ["*"]}], "clientConfig": {"service": {"name": "s"}}, "timeoutSeconds": 3}]});
        mutating_webhooks(&mut configuration);
        assert_eq!(
            configuration["webhooks"][0],
            json!({
                "rules": [{"operations": ["*"], "scope": "*"}], "clientConfig": {"service": {"name": "s", "port": 443}},
                "timeoutSeconds": 3, "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {},
                "objectSelector": {}, "reinvocationPolicy": "Never",
            })
        );
    }
}
