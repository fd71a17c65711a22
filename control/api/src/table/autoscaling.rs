//! Rows of autoscalers, and of what they set.

use super::{NAME, age, count, name, text};
use crate::kinds::Column;
use crate::object;
use serde_json::Value;

/// How many targets are shown; more are counted.
const SHOWN: usize = 2;

/// Columns of autoscalers.
pub const COLUMNS: &[Column] = &[
    NAME,
    text("Reference"),
    text("Targets"),
    text("MinPods"),
    super::number("MaxPods"),
    super::number("Replicas"),
    text("Age"),
];

/// Columns of scales.
pub const SCALE_COLUMNS: &[Column] = &[NAME, super::number("Desired"), super::number("Available"), text("Age")];

/// Cells of a scale.
pub fn scale(scale: &Value, now: i64) -> Vec<Value> {
    vec![
        name(scale),
        count(scale, "spec.replicas"),
        count(scale, "status.replicas"),
        age(scale, now),
    ]
}

/// Cells of a stored autoscaler.
pub fn cells(autoscaler: &Value, now: i64) -> Vec<Value> {
    let reference = format!(
        "{}/{}",
        object::text(autoscaler, "spec.scaleTargetRef.kind"),
        object::text(autoscaler, "spec.scaleTargetRef.name")
    );
    let least = object::integer(autoscaler, "spec.minReplicas");
    vec![
        name(autoscaler),
        Value::from(reference),
        Value::from(targets(autoscaler)),
        Value::from(least.map_or_else(|| "<unset>".to_owned(), |least| least.to_string())),
        count(autoscaler, "spec.maxReplicas"),
        count(autoscaler, "status.currentReplicas"),
        age(autoscaler, now),
    ]
}

/// Cells of an autoscaler of the older version.
pub fn first(autoscaler: &Value, now: i64) -> Vec<Value> {
    let mut stored = autoscaler.clone();
    crate::convert::autoscaling::to_stored(&mut stored);
    cells(&stored, now)
}

fn targets(autoscaler: &Value) -> String {
    let metrics = object::list(autoscaler, "spec.metrics");
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let current = object::list(autoscaler, "status.currentMetrics");
    let shown: Vec<String> = metrics
        .iter()
        .take(SHOWN)
        .enumerate()
        .map(|(at, metric)| target(metric, current.get(at).unwrap_or(&Value::Null)))
        .collect();
    let shown = shown.join(", ");
    match metrics.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn target(metric: &Value, current: &Value) -> String {
    let (field, named, average_mark) = match object::text(metric, "type") {
        "Resource" => ("resource", true, ""),
        "ContainerResource" => ("containerResource", true, ""),
        "Pods" => ("pods", false, ""),
        "Object" => ("object", false, " (avg)"),
        "External" => ("external", false, " (avg)"),
        _ => return "<unknown type>".to_owned(),
    };
    let (metric, current) = (metric.get(field), current.get(field));
    let read = |owner: Option<&Value>, side: &str, form: &str| {
        let value = object::get(object::get(owner?, side)?, form)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let unknown = || "<unknown>".to_owned();
    let text = if let Some(wanted) = read(metric, "target", "averageValue") {
        let now = read(current, "current", "averageValue").unwrap_or_else(unknown);
        format!("{now}/{wanted}{average_mark}")
    } else if named {
        let wanted =
            read(metric, "target", "averageUtilization").map_or_else(|| "<auto>".to_owned(), |at| format!("{at}%"));
        let now = read(current, "current", "averageUtilization").map_or_else(unknown, |at| format!("{at}%"));
        format!("{now}/{wanted}")
    } else {
        let wanted = read(metric, "target", "value").unwrap_or_default();
        let now = read(current, "current", "value").unwrap_or_else(unknown);
        format!("{now}/{wanted}")
    };
    match metric.map(|metric| object::text(metric, "name")).filter(|_| named) {
        Some(resource) => format!("{resource}: {text}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn targets_read_as_known() {
        let cpu = |side: &str, percent: u32| json!({"type": "Resource", "resource": {"name": "cpu", side: {"averageUtilization": percent}}});
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "x"}, "target": {"averageValue": "10"}}});
        let mut autoscaler = json!({"spec": {"metrics": [cpu("target", 80)]}, "status": {}});
        assert_eq!(targets(&autoscaler), "cpu: <unknown>/80%");
        autoscaler["status"]["currentMetrics"] = json!([cpu("current", 12)]);
        assert_eq!(targets(&autoscaler), "cpu: 12%/80%");
        autoscaler["spec"]["metrics"] = json!([cpu("target", 80), pods, pods]);
        assert_eq!(targets(&autoscaler), "cpu: 12%/80%, <unknown>/10 + 1 more...");
        assert_eq!(targets(&json!({})), "<none>");
    }

    #[test]
    fn both_versions_print_the_same() {
        let stored = json!({
            "metadata": {"name": "a"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 3,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]},
            "status": {"currentReplicas": 2, "desiredReplicas": 2, "currentMetrics": null},
        });
        let mut older = stored.clone();
        crate::convert::autoscaling::from_stored(&mut older);
        assert_eq!(first(&older, 0), cells(&stored, 0));
        assert_eq!(
            Value::from(cells(&stored, 0)),
            json!(["a", "Deployment/web", "cpu: <unknown>/80%", "1", 3, 2, "<unknown>"])
        );
    }
}
