//! Autoscalers of `autoscaling/v1`, which know one metric, and those of `autoscaling/v2`, which are stored.
//!
//! What the older version has no field for, it carries in annotations under Kubernetes' own names, in the newer one's form.

use crate::object;
use serde_json::{Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const TARGET: &str = "targetCPUUtilizationPercentage";
const CURRENT: &str = "currentCPUUtilizationPercentage";

/// A stored autoscaler as the older version shows it.
pub fn from_stored(autoscaler: &mut Value) {
    set_version(autoscaler, "autoscaling/v1");
    let spec = object::child(autoscaler, "spec");
    let (percent, others) = take_percent(spec, "metrics", "target");
    set_number(spec, TARGET, percent);
    let behavior = object::remove(spec, "behavior");
    let status = object::child(autoscaler, "status");
    let (percent, current) = take_percent(status, "currentMetrics", "current");
    set_number(status, CURRENT, percent);
    object::fields(status).entry("currentReplicas").or_insert(json!(0));
    let conditions = object::remove(status, "conditions");
    for (key, value) in [
        (METRICS, others),
        (CURRENT_METRICS, current),
        (CONDITIONS, conditions),
        (BEHAVIOR, behavior),
    ] {
        if let Some(value) = value {
            object::set_annotation(autoscaler, key, &value.to_string());
        }
    }
}

/// An autoscaler of the older version in the stored form.
pub fn to_stored(autoscaler: &mut Value) {
    set_version(autoscaler, "autoscaling/v2");
    let [metrics, current, conditions, behavior] =
        [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR].map(|key| take_annotation(autoscaler, key));
    let spec = object::child(autoscaler, "spec");
    let percent = object::fields(spec).shift_remove(TARGET);
    put_percent(spec, "metrics", "target", percent, metrics);
    if let Some(behavior) = behavior {
        object::set(spec, "behavior", behavior);
    }
    if object::get(autoscaler, "status").is_none() {
        return;
    }
    let status = object::child(autoscaler, "status");
    let percent = object::fields(status).shift_remove(CURRENT);
    put_percent(status, "currentMetrics", "current", percent, current);
    object::fields(status).entry("currentMetrics").or_insert(Value::Null);
    if let Some(conditions) = conditions {
        object::set(status, "conditions", conditions);
    }
}

/// Takes the metrics out: the percentage of CPU that the older version has a field for, and a list of the others.
fn take_percent(owner: &mut Value, list: &str, side: &str) -> (Option<Value>, Option<Value>) {
    let Some(Value::Array(mut metrics)) = object::fields(owner).shift_remove(list) else {
        return (None, None);
    };
    let percent = |metric: &Value| {
        let cpu = object::text(metric, "type") == "Resource" && object::text(metric, "resource.name") == "cpu";
        let path = format!("resource.{side}.averageUtilization");
        object::get(metric, &path).filter(|_| cpu).cloned()
    };
    let found = metrics
        .iter()
        .enumerate()
        .find_map(|(at, metric)| Some((at, percent(metric)?)));
    let Some((at, percent)) = found else {
        return (None, (!metrics.is_empty()).then_some(Value::Array(metrics)));
    };
    // How much CPU is used at present has more fields than the percentage; then all of it is kept aside as well.
    let whole = metrics
        .get(at)
        .is_some_and(|metric| object::map(metric, "resource.current").is_some_and(|now| now.len() > 1));
    if !whole {
        metrics.remove(at);
    }
    (Some(percent), (!metrics.is_empty()).then_some(Value::Array(metrics)))
}

fn put_percent(owner: &mut Value, list: &str, side: &str, percent: Option<Value>, others: Option<Value>) {
    let mut metrics = match others {
        Some(Value::Array(others)) => others,
        _ => Vec::new(),
    };
    let known = |metric: &Value| {
        object::text(metric, "resource.name") == "cpu"
            && object::get(metric, &format!("resource.{side}.averageUtilization")).is_some()
    };
    if let Some(percent) = percent.filter(|percent| !percent.is_null())
        && !metrics.iter().any(known)
    {
        let mut amount = json!({"averageUtilization": percent});
        if side == "target" {
            object::fields(&mut amount).shift_insert(0, "type".to_owned(), Value::from("Utilization"));
        }
        metrics.insert(
            0,
            json!({"type": "Resource", "resource": {"name": "cpu", side: amount}}),
        );
    }
    if !metrics.is_empty() {
        object::fields(owner).insert(list.to_owned(), Value::Array(metrics));
    }
}

fn set_number(owner: &mut Value, field: &str, number: Option<Value>) {
    if let Some(number) = number {
        object::fields(owner).insert(field.to_owned(), number);
    }
}

/// Takes an annotation out that holds JSON; one that does not is left where it is.
fn take_annotation(object: &mut Value, key: &str) -> Option<Value> {
    let value = serde_json::from_str(object::annotation(object, key)?).ok()?;
    let annotations = object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?;
    annotations.shift_remove(key);
    if annotations.is_empty() {
        object::remove(object, "metadata.annotations");
    }
    Some(value)
}

fn set_version(object: &mut Value, api_version: &str) {
    object::fields(object).insert("apiVersion".to_owned(), Value::from(api_version));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(percent: u32) -> Value {
        json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}})
    }

    fn round(stored: &Value) -> Value {
        let mut object = stored.clone();
        from_stored(&mut object);
        to_stored(&mut object);
        object
    }

    #[test]
    fn the_older_version_shows_the_percentage() {
        let mut object = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "metrics": [cpu(50)]}, "status": {"desiredReplicas": 0, "currentMetrics": null}});
        from_stored(&mut object);
        assert_eq!(
            object["spec"],
            json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50})
        );
        assert_eq!(object["status"], json!({"desiredReplicas": 0, "currentReplicas": 0}));
        assert!(object["metadata"].get("annotations").is_none());
    }

    #[test]
    fn a_round_trip_keeps_everything() {
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
        let now = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40, "averageValue": "40m"}}});
        let stored = json!({
            "apiVersion": "autoscaling/v2", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "metrics": [cpu(50), memory], "behavior": {"scaleUp": {"selectPolicy": "Max"}}},
            "status": {"currentReplicas": 1, "desiredReplicas": 1, "currentMetrics": [now], "conditions": [{"type": "AbleToScale"}]},
        });
        assert_eq!(round(&stored), stored);
        let alone = json!({
            "apiVersion": "autoscaling/v2", "metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "metrics": [memory]},
            "status": {"currentReplicas": 1, "desiredReplicas": 1, "currentMetrics": [json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40}}})]},
        });
        assert_eq!(round(&alone), alone);
    }
}
