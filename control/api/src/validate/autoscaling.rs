//! Rules of autoscalers, in the stored version.

use super::check::{NOT_NEGATIVE, one_of};
use super::names;
use crate::field_error::{FieldError, Path};
use crate::object;
use crate::quantity::Quantity;
use serde_json::Value;

/// The longest time that a scaling rule may look back, in seconds: an hour.
pub const WINDOW_LIMIT_SECONDS: i64 = 3600;
/// The longest time that a scaling policy may speak of, in seconds: half an hour.
pub const PERIOD_LIMIT_SECONDS: i64 = 1800;

/// The types of metrics, and the fields that belong to them.
const METRICS: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

/// Checks an autoscaler.
pub fn autoscaler(autoscaler: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = autoscaler.get("spec").unwrap_or(&nothing);
    let least = object::integer(spec, "minReplicas").unwrap_or(1);
    if least < 1 {
        let words = "must be greater than or equal to 1";
        faults.push(FieldError::invalid(path.child("minReplicas"), least, words));
    }
    let most = object::integer(spec, "maxReplicas").unwrap_or_default();
    if most < 1 {
        faults.push(FieldError::invalid(
            path.child("maxReplicas"),
            most,
            "must be greater than 0",
        ));
    } else if most < least {
        let words = "must be greater than or equal to `minReplicas`";
        faults.push(FieldError::invalid(path.child("maxReplicas"), most, words));
    }
    target_reference(spec, path.child("scaleTargetRef"), faults);
    let list = path.child("metrics");
    for (index, found) in object::list(spec, "metrics").iter().enumerate() {
        metric(found, list.index(index), faults);
    }
    if let Some(behavior) = object::get(spec, "behavior") {
        for side in ["scaleUp", "scaleDown"] {
            if let Some(found) = object::get(behavior, side) {
                let here = path.child("behavior");
                rules(found, here.child(side), faults);
            }
        }
    }
}

fn target_reference(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let nothing = Value::Null;
    let reference = spec.get("scaleTargetRef").unwrap_or(&nothing);
    for field in ["kind", "name"] {
        let text = object::text(reference, field);
        if text.is_empty() {
            faults.push(FieldError::required(path.child(field), ""));
        }
        for fault in names::path_segment(text) {
            faults.push(FieldError::invalid(path.child(field), text, fault));
        }
    }
}

fn metric(metric: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let kind = object::text(metric, "type");
    if kind.is_empty() {
        faults.push(FieldError::required(
            path.child("type"),
            "must specify a metric source type",
        ));
        return;
    }
    let Some((_, field)) = METRICS.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = METRICS.iter().map(|(known, _)| *known).collect();
        faults.push(FieldError::not_supported(path.child("type"), kind, &known));
        return;
    };
    for (_, other) in METRICS.iter().filter(|(known, _)| *known != kind) {
        if object::get(metric, other).is_some() {
            let words = "must populate the given metric source only";
            faults.push(FieldError::forbidden(path.child(other), words));
        }
    }
    let here = path.child(field);
    let Some(source) = object::get(metric, field) else {
        faults.push(FieldError::required(
            here,
            "must populate information for the given metric source",
        ));
        return;
    };
    if matches!(kind, "Resource" | "ContainerResource") {
        if object::name_of(source).is_empty() {
            faults.push(FieldError::required(here.child("name"), "must specify a resource name"));
        }
    } else if object::text(source, "metric.name").is_empty() {
        let metric = here.child("metric");
        faults.push(FieldError::required(metric.child("name"), "must specify a metric name"));
    }
    let nothing = Value::Null;
    target(
        source.get("target").unwrap_or(&nothing),
        kind,
        here.child("target"),
        faults,
    );
}

fn target(target: &Value, metric: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    one_of(
        object::text(target, "type"),
        &["AverageValue", "Utilization", "Value"],
        path.child("type"),
        faults,
    );
    if let Some(percent) = object::integer(target, "averageUtilization").filter(|percent| *percent < 1) {
        let words = "must be greater than 0";
        faults.push(FieldError::invalid(path.child("averageUtilization"), percent, words));
    }
    for field in ["value", "averageValue"] {
        let read = Quantity::parse(object::text(target, field)).ok();
        if let Some(read) = read.filter(|read| *read <= Quantity::ZERO) {
            faults.push(FieldError::invalid(
                path.child(field),
                read.to_string(),
                "must be positive",
            ));
        }
    }
    let given = |field: &str| object::get(target, field).is_some();
    let (needed, words): (&[&str], &str) = match metric {
        "Resource" | "ContainerResource" => (
            &["averageUtilization", "averageValue"],
            "must set either a target raw value or a target utilization",
        ),
        "Pods" => (&["averageValue"], "must specify a positive target averageValue"),
        _ => (
            &["value", "averageValue"],
            "must set either a target value for metric or a per-pod target",
        ),
    };
    match needed.iter().filter(|field| given(field)).count() {
        0 => faults.push(FieldError::required(
            path.child(needed.first().unwrap_or(&"value")),
            words,
        )),
        1 => {}
        _ => {
            let words = "may not set both a target raw value and a target utilization";
            faults.push(FieldError::forbidden(
                path.child(needed.first().unwrap_or(&"value")),
                words,
            ));
        }
    }
}

fn rules(rules: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if let Some(seconds) = object::integer(rules, "stabilizationWindowSeconds") {
        let here = path.child("stabilizationWindowSeconds");
        if seconds < 0 {
            faults.push(FieldError::invalid(
                here,
                seconds,
                "must be greater than or equal to zero",
            ));
        } else if seconds > WINDOW_LIMIT_SECONDS {
            faults.push(FieldError::invalid(here, seconds, "must be less than or equal to 3600"));
        }
    }
    one_of(
        object::text(rules, "selectPolicy"),
        &["Disabled", "Max", "Min"],
        path.child("selectPolicy"),
        faults,
    );
    let list = path.child("policies");
    let policies = object::list(rules, "policies");
    if policies.is_empty() {
        faults.push(FieldError::required(list, "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        let here = list.index(index);
        one_of(
            object::text(policy, "type"),
            &["Percent", "Pods"],
            here.child("type"),
            faults,
        );
        for field in ["value", "periodSeconds"] {
            let number = object::integer(policy, field).unwrap_or_default();
            if number <= 0 {
                faults.push(FieldError::invalid(
                    here.child(field),
                    number,
                    "must be greater than zero",
                ));
            }
        }
        let period = object::integer(policy, "periodSeconds").unwrap_or_default();
        if period > PERIOD_LIMIT_SECONDS {
            let words = "must be less than or equal to 1800";
            faults.push(FieldError::invalid(here.child("periodSeconds"), period, words));
        }
    }
    let tolerance = Quantity::parse(object::text(rules, "tolerance")).ok();
    if let Some(tolerance) = tolerance.filter(|tolerance| tolerance.is_negative()) {
        faults.push(FieldError::invalid(
            path.child("tolerance"),
            tolerance.to_string(),
            NOT_NEGATIVE,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults;
    use serde_json::json;

    #[test]
    fn autoscalers_are_refused_in_the_words_of_kubernetes() {
        let faults_of = |change: Value| {
            let mut object =
                json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
            crate::patch::merge(&mut object, &json!({"spec": change}));
            defaults::autoscaling::second(&mut object);
            let mut faults = Vec::new();
            autoscaler(&object, &mut faults);
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(faults_of(json!({"behavior": {}})).is_empty());
        let cases = [
            (
                json!({"maxReplicas": 0}),
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
            ),
            (
                json!({"minReplicas": 5}),
                "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
            ),
            (
                json!({"scaleTargetRef": {"kind": null}}),
                "spec.scaleTargetRef.kind: Required value",
            ),
            (
                json!({"metrics": [{"type": "Resource"}]}),
                "spec.metrics[0].resource: Required value: must populate information for the given metric source",
            ),
            (
                json!({"behavior": {"scaleUp": {"stabilizationWindowSeconds": 4000}}}),
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600",
            ),
        ];
        for (change, wanted) in cases {
            assert_eq!(faults_of(change.clone()), [wanted], "{change}");
        }
    }
}
