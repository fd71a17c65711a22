//! Rules of workloads: the selector chooses the template's pods, and never changes.

use super::check::not_negative;
use super::{immutable, pod};
use crate::field_error::{FieldError, Path};
use crate::object;
use crate::selector::LabelSelector;
use serde_json::Value;

/// Checks a deployment.
pub fn deployment(deployment: &Value, faults: &mut Vec<FieldError>) {
    workload(deployment, faults);
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = deployment.get("spec").unwrap_or(&nothing);
    strategy(spec.get("strategy").unwrap_or(&nothing), path.child("strategy"), faults);
    not_negative(spec, "revisionHistoryLimit", path, faults);
    not_negative(spec, "progressDeadlineSeconds", path, faults);
    let least = object::integer(spec, "minReadySeconds").unwrap_or_default();
    if let Some(deadline) = object::integer(spec, "progressDeadlineSeconds").filter(|deadline| *deadline <= least) {
        let here = path.child("progressDeadlineSeconds");
        faults.push(FieldError::invalid(
            here,
            deadline,
            "must be greater than minReadySeconds",
        ));
    }
}

/// Checks a replica set.
pub fn replica_set(set: &Value, faults: &mut Vec<FieldError>) {
    workload(set, faults);
}

fn workload(workload: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = workload.get("spec").unwrap_or(&nothing);
    not_negative(spec, "replicas", path, faults);
    not_negative(spec, "minReadySeconds", path, faults);
    let template = spec.get("template").unwrap_or(&nothing);
    match object::get(spec, "selector") {
        None => faults.push(FieldError::required(path.child("selector"), "")),
        Some(found) => selector(found, template, path, faults),
    }
    pod::template(template, path.child("template"), faults);
}

fn selector(selector: &Value, template: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let here = path.child("selector");
    let read = match LabelSelector::from_object(selector) {
        Ok(read) => read,
        Err(error) => {
            faults.push(FieldError::invalid(here, selector.clone(), error.message));
            return;
        }
    };
    if read.is_everything() {
        faults.push(FieldError::invalid(
            here,
            selector.clone(),
            "empty selector is invalid for deployment",
        ));
    } else if !read.matches_object(template) {
        let labels = object::get(template, "metadata.labels")
            .cloned()
            .unwrap_or_else(|| serde_json::json!({}));
        let at = path.child("template.metadata.labels");
        faults.push(FieldError::invalid(
            at,
            labels,
            "`selector` does not match template `labels`",
        ));
    }
}

fn strategy(strategy: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let rolling = object::get(strategy, "rollingUpdate");
    match (object::text(strategy, "type"), rolling) {
        ("Recreate", Some(_)) => {
            let words = "may not be specified when strategy `type` is 'Recreate'";
            faults.push(FieldError::forbidden(path.child("rollingUpdate"), words));
        }
        ("RollingUpdate", Some(rolling)) => rolling_update(rolling, path.child("rollingUpdate"), faults),
        ("RollingUpdate", None) => {
            let words = "this should be defaulted and never be nil";
            faults.push(FieldError::required(path.child("rollingUpdate"), words));
        }
        ("Recreate", None) => {}
        (other, _) => {
            faults.push(FieldError::not_supported(
                path.child("type"),
                other,
                &["Recreate", "RollingUpdate"],
            ));
        }
    }
}

fn rolling_update(rolling: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let mut amounts = [None, None];
    for (slot, field) in amounts.iter_mut().zip(["maxUnavailable", "maxSurge"]) {
        let Some(value) = object::get(rolling, field) else {
            continue;
        };
        *slot = count_or_percent(value, path.child(field), faults);
    }
    let [unavailable, surge] = amounts;
    if unavailable == Some(0) && surge == Some(0) {
        let here = path.child("maxUnavailable");
        let value = rolling.get("maxUnavailable").cloned().unwrap_or_default();
        faults.push(FieldError::invalid(here, value, "may not be 0 when `maxSurge` is 0"));
    }
    if rolling.get("maxUnavailable").is_some_and(Value::is_string) && unavailable.is_some_and(|percent| percent > 100) {
        let value = rolling.get("maxUnavailable").cloned().unwrap_or_default();
        faults.push(FieldError::invalid(
            path.child("maxUnavailable"),
            value,
            "must not be greater than 100%",
        ));
    }
}

fn count_or_percent(value: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) -> Option<i64> {
    if let Some(text) = value.as_str() {
        let digits = text
            .strip_suffix('%')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let percent = digits.and_then(|digits| digits.parse().ok());
        if percent.is_none() {
            let words = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            faults.push(FieldError::invalid(path, text, words));
        }
        return percent;
    }
    let count = value.as_i64()?;
    if count < 0 {
        faults.push(FieldError::invalid(path, count, super::check::NOT_NEGATIVE));
    }
    Some(count)
}

/// A workload's selector never changes: it would leave its pods behind.
pub fn selector_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let [after, before] = [new, old].map(|workload| object::get(workload, "spec.selector"));
    immutable(after, before, path.child("selector"), faults);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults;
    use serde_json::json;

    fn faults_of(change: Value) -> Vec<String> {
        let template =
            json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
        let mut object = json!({"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template}});
        crate::patch::merge(&mut object, &json!({"spec": change}));
        defaults::apps::deployment(&mut object);
        let mut faults = Vec::new();
        deployment(&object, &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn deployments_are_refused_in_the_words_of_kubernetes() {
        let cases = [
            (
                json!({"replicas": -1}),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (json!({"selector": null}), "spec.selector: Required value"),
            (
                json!({"selector": {"matchLabels": null}}),
                "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
            ),
            (
                json!({"template": {"metadata": {"labels": {"app": "b"}}}}),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`",
            ),
            (
                json!({"template": {"spec": {"restartPolicy": "Never"}}}),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                json!({"template": {"spec": {"containers": [{"name": "a"}]}}}),
                "spec.template.spec.containers[0].image: Required value",
            ),
            (
                json!({"strategy": {"type": "Blue"}}),
                "spec.strategy.type: Unsupported value: \"Blue\": supported values: \"Recreate\", \"RollingUpdate\"",
            ),
            (
                json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ),
            (
                json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
            ),
            (
                json!({"strategy": {"rollingUpdate": {"maxUnavailable": "120%"}}}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"120%\": must not be greater than 100%",
            ),
            (
                json!({"minReadySeconds": 600}),
                "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
            ),
        ];
        for (change, wanted) in cases {
            assert_eq!(faults_of(change.clone()), [wanted], "{change}");
        }
        assert!(faults_of(json!({})).is_empty());
        assert!(faults_of(json!({"strategy": {"type": "Recreate"}, "replicas": 0})).is_empty());
    }

    #[test]
    fn a_selector_never_changes() {
        let object = |app: &str| json!({"spec": {"selector": {"matchLabels": {"app": app}}}});
        let mut faults = Vec::new();
        selector_update(&object("a"), &object("a"), &mut faults);
        assert!(faults.is_empty());
        selector_update(&object("b"), &object("a"), &mut faults);
        assert_eq!(
            faults[0].to_string(),
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"
        );
    }
}
