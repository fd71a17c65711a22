//! Rules of webhooks and of admission policies.

use super::check::{label_selector, one_of, one_of_if_set};
use super::names;
use crate::field_error::{FieldError, Path};
use crate::{object, policy};
use serde_json::Value;
use std::collections::HashSet;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const POLICIES: &[&str] = &["Fail", "Ignore"];
const MATCHES: &[&str] = &["Equivalent", "Exact"];
/// How many match conditions there may be, as in Kubernetes.
const CONDITIONS_LIMIT: usize = 64;
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const REINVOCATIONS: &[&str] = &["IfNeeded", "Never"];

/// Checks a validating configuration.
pub fn webhooks(configuration: &Value, faults: &mut Vec<FieldError>) {
    let list = Path::root("webhooks");
    let mut seen = HashSet::new();
    for (index, hook) in object::list(configuration, "webhooks").iter().enumerate() {
        let here = list.index(index);
        webhook(hook, here, faults);
        super::check::unique(&mut seen, object::name_of(hook), here.child("name"), faults);
    }
}

/// Checks a mutating configuration.
pub fn mutating_webhooks(configuration: &Value, faults: &mut Vec<FieldError>) {
    webhooks(configuration, faults);
    let list = Path::root("webhooks");
    for (index, hook) in object::list(configuration, "webhooks").iter().enumerate() {
        let here = list.index(index);
        let policy = object::text(hook, "reinvocationPolicy");
        one_of_if_set(policy, REINVOCATIONS, here.child("reinvocationPolicy"), faults);
    }
}

fn webhook(hook: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let name = object::name_of(hook);
    if name.is_empty() {
        faults.push(FieldError::required(path.child("name"), ""));
    } else {
        let wrong = names::dns_subdomain(name).into_iter();
        faults.extend(wrong.map(|fault| FieldError::invalid(path.child("name"), name, fault)));
        if name.split('.').count() < 3 {
            let words = "should be a domain with at least three segments separated by dots";
            faults.push(FieldError::invalid(path.child("name"), name, words));
        }
    }
    let versions = object::list(hook, "admissionReviewVersions");
    let here = path.child("admissionReviewVersions");
    if versions.is_empty() {
        faults.push(FieldError::required(here, "must specify one of v1, v1beta1"));
    } else if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        let words = "must include at least one of v1, v1beta1";
        faults.push(FieldError::invalid(here, Value::from(versions), words));
    }
    let rules = path.child("rules");
    for (index, rule) in object::list(hook, "rules").iter().enumerate() {
        self::rule(rule, rules.index(index), faults);
    }
    one_of(
        object::text(hook, "sideEffects"),
        &["None", "NoneOnDryRun"],
        path.child("sideEffects"),
        faults,
    );
    one_of_if_set(
        object::text(hook, "failurePolicy"),
        POLICIES,
        path.child("failurePolicy"),
        faults,
    );
    let seconds = object::integer(hook, "timeoutSeconds").unwrap_or(10);
    if !(1..=30).contains(&seconds) {
        let words = "the timeout value must be between 1 and 30 seconds";
        faults.push(FieldError::invalid(path.child("timeoutSeconds"), seconds, words));
    }
    selection(hook, path, faults);
    let conditions = path.child("matchConditions");
    match_conditions(hook, conditions, faults);
    let list = object::list(hook, "matchConditions");
    policy::conditions(list, conditions, &policy::webhook_names(), faults);
    client(hook, path.child("clientConfig"), faults);
}

fn client(hook: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let url = object::get(hook, "clientConfig.url").and_then(Value::as_str);
    match (url, object::get(hook, "clientConfig.service")) {
        (Some(url), None) => {
            if !url.starts_with("https://") {
                let words = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
                faults.push(FieldError::invalid(path.child("url"), url, words));
            }
        }
        (None, Some(service)) => {
            let here = path.child("service");
            for field in ["name", "namespace"] {
                if object::text(service, field).is_empty() {
                    let words = format!("service {field} is required");
                    faults.push(FieldError::required(here.child(field), words));
                }
            }
            let port = object::integer(service, "port").unwrap_or(443);
            super::check::port(port, here.child("port"), faults);
        }
        _ => faults.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

/// What a rule applies to: operations, groups, versions and resources, none of them left out.
fn rule(rule: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for field in ["apiGroups", "apiVersions", "resources", "operations"] {
        let texts = object::list(rule, field);
        let here = path.child(field);
        if texts.is_empty() {
            faults.push(FieldError::required(here, ""));
        }
        if texts.len() > 1 && texts.iter().any(|text| text == "*") && field != "resources" {
            let words = format!("if '*' is present, must not specify other {}", plain(field));
            faults.push(FieldError::invalid(here, Value::from(texts), words));
        }
    }
    let operations = path.child("operations");
    for (index, operation) in object::list(rule, "operations")
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        one_of(operation, OPERATIONS, operations.index(index), faults);
    }
    let scope = object::text(rule, "scope");
    one_of_if_set(scope, &["*", "Cluster", "Namespaced"], path.child("scope"), faults);
}

fn plain(field: &str) -> &str {
    match field {
        "apiGroups" => "API groups",
        "apiVersions" => "API versions",
        other => other,
    }
}

fn selection(owner: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    one_of_if_set(
        object::text(owner, "matchPolicy"),
        MATCHES,
        path.child("matchPolicy"),
        faults,
    );
    for field in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = object::get(owner, field) {
            label_selector(selector, path.child(field), faults);
        }
    }
}

fn match_conditions(owner: &Value, list: Path<'_>, faults: &mut Vec<FieldError>) {
    let conditions = object::list(owner, "matchConditions");
    if conditions.len() > CONDITIONS_LIMIT {
        faults.push(FieldError::too_many(list, conditions.len(), CONDITIONS_LIMIT));
    }
    let mut seen = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let here = list.index(index);
        let name = object::name_of(condition);
        if name.is_empty() {
            faults.push(FieldError::required(here.child("name"), ""));
        }
        super::check::unique(&mut seen, name, here.child("name"), faults);
        if object::text(condition, "expression").trim().is_empty() {
            faults.push(FieldError::required(here.child("expression"), ""));
        }
    }
}

/// Checks a validating policy.
pub fn validating_policy(policy: &Value, faults: &mut Vec<FieldError>) {
    self::policy(policy, faults);
    policy::validating(policy, faults);
    let path = Path::root("spec");
    let validations = object::list(policy, "spec.validations");
    if validations.is_empty() && object::list(policy, "spec.auditAnnotations").is_empty() {
        let words = "validations or auditAnnotations must contain at least one item";
        faults.push(FieldError::required(path.child("validations"), words));
    }
    let list = path.child("validations");
    for (index, validation) in validations.iter().enumerate() {
        let here = list.index(index);
        one_of_if_set(
            object::text(validation, "reason"),
            REASONS,
            here.child("reason"),
            faults,
        );
        if object::text(validation, "expression").trim().is_empty() {
            faults.push(FieldError::required(
                here.child("expression"),
                "expression is not specified",
            ));
        }
    }
}

/// Checks a mutating policy.
pub fn mutating_policy(policy: &Value, faults: &mut Vec<FieldError>) {
    self::policy(policy, faults);
    policy::mutating(policy, faults);
    let path = Path::root("spec");
    let list = path.child("mutations");
    let mutations = object::list(policy, "spec.mutations");
    if mutations.is_empty() {
        faults.push(FieldError::required(list, "mutations must contain at least one item"));
    }
    for (index, mutation) in mutations.iter().enumerate() {
        let here = list.index(index);
        let field = match object::text(mutation, "patchType") {
            "ApplyConfiguration" => "applyConfiguration",
            "JSONPatch" => "jsonPatch",
            other => {
                one_of(
                    other,
                    &["ApplyConfiguration", "JSONPatch"],
                    here.child("patchType"),
                    faults,
                );
                continue;
            }
        };
        if object::text(mutation, &format!("{field}.expression")).trim().is_empty() {
            faults.push(FieldError::required(here.child(field), ""));
        }
    }
    let reinvocation = object::text(policy, "spec.reinvocationPolicy");
    one_of(reinvocation, REINVOCATIONS, path.child("reinvocationPolicy"), faults);
}

fn policy(policy: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = policy.get("spec").unwrap_or(&nothing);
    one_of_if_set(
        object::text(spec, "failurePolicy"),
        POLICIES,
        path.child("failurePolicy"),
        faults,
    );
    if let Some(kind) = object::get(spec, "paramKind") {
        let here = path.child("paramKind");
        for field in ["apiVersion", "kind"] {
            if object::text(kind, field).is_empty() {
                faults.push(FieldError::required(here.child(field), ""));
            }
        }
    }
    match object::get(spec, "matchConstraints") {
        None => faults.push(FieldError::required(path.child("matchConstraints"), "")),
        Some(constraints) => {
            let here = path.child("matchConstraints");
            if object::list(constraints, "resourceRules").is_empty() {
                faults.push(FieldError::required(here.child("resourceRules"), ""));
            }
            resources(constraints, here, faults);
        }
    }
    match_conditions(spec, path.child("matchConditions"), faults);
    let list = path.child("variables");
    let mut seen = HashSet::new();
    for (index, variable) in object::list(spec, "variables").iter().enumerate() {
        let here = list.index(index);
        for field in ["name", "expression"] {
            if object::text(variable, field).trim().is_empty() {
                faults.push(FieldError::required(here.child(field), ""));
            }
        }
        let name = object::name_of(variable);
        if !name.is_empty() && !is_identifier(name) {
            faults.push(FieldError::invalid(
                here.child("name"),
                name,
                "name is not a valid CEL identifier",
            ));
        }
        super::check::unique(&mut seen, name, here.child("name"), faults);
    }
}

fn is_identifier(name: &str) -> bool {
    let letters = name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
    letters
        && !name.starts_with(|char: char| char.is_ascii_digit())
        && coracle_cel::escape(name).as_deref() == Some(name)
}

fn resources(chosen: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    selection(chosen, path, faults);
    for field in ["resourceRules", "excludeResourceRules"] {
        let list = path.child(field);
        for (index, found) in object::list(chosen, field).iter().enumerate() {
            rule(found, list.index(index), faults);
        }
    }
}

/// Checks the binding of a policy.
pub fn binding(binding: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let name = object::text(binding, "spec.policyName");
    super::check::named(name, names::dns_subdomain, path.child("policyName"), faults);
    if let Some(reference) = object::get(binding, "spec.paramRef") {
        let here = path.child("paramRef");
        let named = !object::name_of(reference).is_empty();
        match (named, object::get(reference, "selector")) {
            (true, Some(_)) => {
                let words = "name and selector are mutually exclusive";
                faults.push(FieldError::forbidden(here.child("name"), words));
            }
            (false, None) => faults.push(FieldError::required(here, "one of name or selector must be specified")),
            _ => {}
        }
        one_of(
            object::text(reference, "parameterNotFoundAction"),
            &["Allow", "Deny"],
            here.child("parameterNotFoundAction"),
            faults,
        );
    }
    if let Some(chosen) = object::get(binding, "spec.matchResources") {
        resources(chosen, path.child("matchResources"), faults);
    }
}

/// Checks the binding of a validating policy, which also says what becomes of a violation.
pub fn validating_binding(binding: &Value, faults: &mut Vec<FieldError>) {
    self::binding(binding, faults);
    let path = Path::root("spec");
    let list = path.child("validationActions");
    let actions = object::list(binding, "spec.validationActions");
    if actions.is_empty() {
        faults.push(FieldError::required(list, "at least one validation action is required"));
    }
    for (index, action) in actions.iter().filter_map(Value::as_str).enumerate() {
        one_of(action, &["Audit", "Deny", "Warn"], list.index(index), faults);
        if actions.iter().take(index).any(|earlier| earlier == action) {
            faults.push(FieldError::duplicate(list.index(index), action));
        }
    }
    let has = |action: &str| actions.iter().any(|one| one == action);
    if has("Deny") && has("Warn") {
        let words = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        faults.push(FieldError::invalid(list, Value::from(actions), words));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults;
    use serde_json::json;

    #[test]
    fn webhooks_say_whom_to_call_and_when() {
        let texts = |change: Value| {
            let mut object = json!({"webhooks": [{}]});
            object["webhooks"][0] = json!({
                "name": "a.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
                "clientConfig": {"url": "https://example.com"},
            });
            crate::patch::merge(&mut object["webhooks"][0], &change);
            defaults::admission::mutating_webhooks(&mut object);
            let mut faults = Vec::new();
            mutating_webhooks(&object, &mut faults);
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(texts(json!({})).is_empty());
        let cases = [
            (
                json!({"name": "a"}),
                "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots",
            ),
            (json!({"sideEffects": null}), "webhooks[0].sideEffects: Required value"),
            (
                json!({"timeoutSeconds": 31}),
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ),
            (
                json!({"clientConfig": null}),
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            ),
        ];
        for (change, wanted) in cases {
            assert_eq!(texts(change.clone()), [wanted], "{change}");
        }
    }

    #[test]
    fn policies_and_bindings_are_whole() {
        let paths = |check: fn(&Value, &mut Vec<FieldError>), object: Value| {
            let mut faults = Vec::new();
            check(&object, &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        assert_eq!(
            paths(validating_policy, json!({"spec": {}})),
            ["spec.matchConstraints", "spec.validations"]
        );
        let binding = json!({"spec": {"policyName": "p", "validationActions": ["Deny", "Warn"]}});
        assert_eq!(paths(validating_binding, binding), ["spec.validationActions"]);
        let reference = json!({"spec": {"policyName": "p", "validationActions": ["Deny"], "paramRef": {"parameterNotFoundAction": "Deny"}}});
        assert_eq!(paths(validating_binding, reference), ["spec.paramRef"]);
    }
}
