//! Rules of stateful sets.

use super::check::{at_most_all, count_or_percent, not_negative, one_of_if_set};
use super::{apps, pod};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

const RETENTION: &[&str] = &["Delete", "Retain"];
/// What of the spec may change.
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// Checks a stateful set.
pub fn stateful_set(set: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = set.get("spec").unwrap_or(&nothing);
    match object::text(spec, "podManagementPolicy") {
        "" => faults.push(FieldError::required(path.child("podManagementPolicy"), "")),
        "OrderedReady" | "Parallel" => {}
        other => {
            let words = "must be 'OrderedReady' or 'Parallel'";
            faults.push(FieldError::invalid(path.child("podManagementPolicy"), other, words));
        }
    }
    strategy(
        spec.get("updateStrategy").unwrap_or(&nothing),
        path.child("updateStrategy"),
        faults,
    );
    let retention = path.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let value = object::get(spec, "persistentVolumeClaimRetentionPolicy").unwrap_or(&nothing);
        one_of_if_set(object::text(value, field), RETENTION, retention.child(field), faults);
    }
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        not_negative(spec, field, path, faults);
    }
    if let Some(ordinals) = object::get(spec, "ordinals") {
        not_negative(ordinals, "start", path.child("ordinals"), faults);
    }
    let template = spec.get("template").unwrap_or(&nothing);
    match object::get(spec, "selector") {
        None => faults.push(FieldError::required(path.child("selector"), "")),
        Some(found) => apps::selector(found, template, "statefulset", path, faults),
    }
    // Volumes that claims are made for have the claims' names, and stand in no template.
    let with_claims = with_claimed_volumes(spec, template);
    pod::lasting_template(&with_claims, "StatefulSet", path.child("template"), faults);
}

fn with_claimed_volumes(spec: &Value, template: &Value) -> Value {
    let mut template = template.clone();
    let claims = object::list(spec, "volumeClaimTemplates");
    if claims.is_empty() {
        return template;
    }
    let volumes = object::child(object::child(&mut template, "spec"), "volumes");
    let own = volumes.as_array().cloned().unwrap_or_default();
    let named = |name: &str| own.iter().any(|volume| object::name_of(volume) == name);
    let claimed: Vec<Value> = claims
        .iter()
        .map(object::name)
        .filter(|name| !named(name))
        .map(|name| serde_json::json!({"name": name, "emptyDir": {}}))
        .collect();
    *volumes = own.into_iter().chain(claimed).collect();
    template
}

fn strategy(strategy: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let rolling = object::get(strategy, "rollingUpdate");
    match (object::text(strategy, "type"), rolling) {
        ("", _) => faults.push(FieldError::required(path, "")),
        ("OnDelete", Some(rolling)) => {
            let words = "only allowed for updateStrategy 'RollingUpdate'";
            faults.push(FieldError::invalid(path.child("rollingUpdate"), rolling.clone(), words));
        }
        ("RollingUpdate", Some(rolling)) => {
            let here = path.child("rollingUpdate");
            not_negative(rolling, "partition", here, faults);
            let Some(value) = object::get(rolling, "maxUnavailable") else {
                return;
            };
            let at = here.child("maxUnavailable");
            at_most_all(value, at, faults);
            if count_or_percent(value, at, faults) == Some(0) {
                faults.push(FieldError::invalid(at, value.clone(), "cannot be 0"));
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => {
            let words = "must be 'RollingUpdate' or 'OnDelete'";
            faults.push(FieldError::invalid(path, strategy.clone(), words));
        }
    }
}

/// Most of a stateful set never changes: pods and claims that exist were made by it.
pub fn update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let rest = |set: &Value| {
        let mut spec = set.get("spec").cloned().unwrap_or_default();
        for field in CHANGEABLE {
            object::fields(&mut spec).shift_remove(field);
        }
        spec
    };
    if rest(new) != rest(old) {
        let words = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        faults.push(FieldError::forbidden(Path::root("spec"), words));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults;
    use serde_json::json;

    fn set(change: &Value) -> Value {
        let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}});
        let mut object = json!({"spec": {
            "serviceName": "s", "selector": {"matchLabels": {"app": "a"}}, "template": template,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        }});
        crate::patch::merge(&mut object, &json!({"spec": change}));
        defaults::apps::stateful_set(&mut object);
        object
    }

    #[test]
    fn stateful_sets_are_refused_in_the_words_of_kubernetes() {
        let cases = [
            (
                json!({"podManagementPolicy": "Fast"}),
                "spec.podManagementPolicy: Invalid value: \"Fast\": must be 'OrderedReady' or 'Parallel'",
            ),
            (
                json!({"replicas": -1}),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"selector": {"matchLabels": null}}),
                "spec.selector: Invalid value: {}: empty selector is invalid for statefulset",
            ),
            (
                json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}}),
                "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
            ),
        ];
        for (change, wanted) in cases {
            let mut faults = Vec::new();
            stateful_set(&set(&change), &mut faults);
            let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
            assert_eq!(texts, [wanted], "{change}");
        }
        let mut faults = Vec::new();
        stateful_set(&set(&json!({})), &mut faults);
        assert_eq!(faults, []);
    }

    #[test]
    fn only_some_fields_change() {
        let old = set(&json!({}));
        let mut faults = Vec::new();
        update(&set(&json!({"replicas": 3, "minReadySeconds": 1})), &old, &mut faults);
        assert_eq!(faults, []);
        update(&set(&json!({"serviceName": "other"})), &old, &mut faults);
        assert_eq!(faults.len(), 1);
    }
}
