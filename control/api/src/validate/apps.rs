//! Rules of workloads: the selector chooses the template's pods, and never changes.

use super::check::{at_most_all, count_or_percent, label_selector, not_negative};
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

/// Checks a daemon set.
pub fn daemon_set(set: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = set.get("spec").unwrap_or(&nothing);
    let template = spec.get("template").unwrap_or(&nothing);
    match object::get(spec, "selector") {
        None => faults.push(FieldError::required(path.child("selector"), "")),
        Some(found) => selector(found, template, "daemonset", path, faults),
    }
    pod::lasting_template(template, "DaemonSet", path.child("template"), faults);
    not_negative(spec, "minReadySeconds", path, faults);
    not_negative(spec, "revisionHistoryLimit", path, faults);
    let strategy = spec.get("updateStrategy").unwrap_or(&nothing);
    let here = path.child("updateStrategy");
    match object::text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => daemon_set_rolling(strategy, here.child("rollingUpdate"), faults),
        other => faults.push(FieldError::not_supported(
            here.child("type"),
            other,
            &["RollingUpdate", "OnDelete"],
        )),
    }
}

fn daemon_set_rolling(strategy: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let Some(rolling) = object::get(strategy, "rollingUpdate") else {
        faults.push(FieldError::required(path, ""));
        return;
    };
    let [unavailable, surge] = ["maxUnavailable", "maxSurge"].map(|field| {
        let value = object::get(rolling, field)?;
        at_most_all(value, path.child(field), faults);
        count_or_percent(value, path.child(field), faults)
    });
    let value = |field: &str| object::get(rolling, field).cloned().unwrap_or_default();
    match (unavailable.unwrap_or_default(), surge.unwrap_or_default()) {
        (0, 0) => faults.push(FieldError::invalid(
            path.child("maxUnavailable"),
            value("maxUnavailable"),
            "cannot be 0 when maxSurge is 0",
        )),
        (1.., 1..) => faults.push(FieldError::invalid(
            path.child("maxSurge"),
            value("maxSurge"),
            "may not be set when maxUnavailable is non-zero",
        )),
        _ => {}
    }
}

/// Checks a replication controller, whose selector is a plain map.
pub fn replication_controller(controller: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = controller.get("spec").unwrap_or(&nothing);
    not_negative(spec, "minReadySeconds", path, faults);
    let selector = object::map(spec, "selector").filter(|selector| !selector.is_empty());
    if selector.is_none() {
        faults.push(FieldError::required(path.child("selector"), ""));
    }
    not_negative(spec, "replicas", path, faults);
    let Some(template) = object::get(spec, "template") else {
        faults.push(FieldError::required(path.child("template"), ""));
        return;
    };
    let chosen = |(key, value): (&String, &Value)| object::label(template, key) == value.as_str();
    if !selector.into_iter().flatten().all(chosen) {
        mismatch(template, path, faults);
    }
    pod::lasting_template(template, "ReplicationController", path.child("template"), faults);
}

/// Checks a pod template.
pub fn pod_template(template: &Value, faults: &mut Vec<FieldError>) {
    let nothing = Value::Null;
    pod::any_template(
        template.get("template").unwrap_or(&nothing),
        Path::root("template"),
        faults,
    );
}

/// Checks a controller revision.
pub fn controller_revision(revision: &Value, faults: &mut Vec<FieldError>) {
    let count = object::integer(revision, "revision").unwrap_or_default();
    if count < 0 {
        faults.push(FieldError::invalid(
            Path::root("revision"),
            count,
            super::check::NOT_NEGATIVE,
        ));
    }
    if object::get(revision, "data").is_none() {
        faults.push(FieldError::required(Path::root("data"), "data is mandatory"));
    }
}

/// What a revision remembers never changes.
pub fn controller_revision_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    immutable(new.get("data"), old.get("data"), Path::root("data"), faults);
}

fn mismatch(template: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
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

fn workload(workload: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = workload.get("spec").unwrap_or(&nothing);
    not_negative(spec, "replicas", path, faults);
    not_negative(spec, "minReadySeconds", path, faults);
    let template = spec.get("template").unwrap_or(&nothing);
    match object::get(spec, "selector") {
        None => faults.push(FieldError::required(path.child("selector"), "")),
        Some(found) => selector(found, template, "deployment", path, faults),
    }
    pod::template(template, path.child("template"), faults);
}

/// Checks that a selector chooses the template's pods, and not all there are. The words name the kind.
pub(super) fn selector(selector: &Value, template: &Value, kind: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let here = path.child("selector");
    let before = faults.len();
    label_selector(selector, here, faults);
    if faults.len() > before {
        return;
    }
    let Ok(read) = LabelSelector::from_object(selector) else {
        return;
    };
    if read.is_everything() {
        let words = format!("empty selector is invalid for {kind}");
        faults.push(FieldError::invalid(here, selector.clone(), words));
    } else if !read.matches_object(template) {
        mismatch(template, path, faults);
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
    if let Some(value) = rolling.get("maxUnavailable") {
        at_most_all(value, path.child("maxUnavailable"), faults);
    }
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
