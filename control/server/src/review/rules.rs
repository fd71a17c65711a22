//! Everything that the asker may do in a namespace, as rules.

use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::{Value, json};

use crate::authz::Subject;
use crate::core::Core;
use crate::identity::Identity;

/// The status of a review of rules.
pub(super) fn answer(core: &Core, identity: &Identity, review: &Value) -> Result<Value, ApiError> {
    let namespace = object::text(review, "spec.namespace");
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    if identity.is_master() {
        resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    let policy = core.policies.current();
    for rule in policy.rules_in(&Subject::of(identity), namespace) {
        let rule = rule.to_value();
        let list = if object::get(&rule, "nonResourceURLs").is_some() {
            &mut paths
        } else {
            &mut resources
        };
        if !list.contains(&rule) {
            list.push(rule);
        }
    }
    // A node's rights do not all come from rules.
    let incomplete = identity.node().is_some();
    Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": incomplete}))
}
