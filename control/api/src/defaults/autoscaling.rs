//! Defaults of autoscalers, in both of their versions.

use super::{fill, part};
use crate::object;
use serde_json::{Value, json};

/// The newer version: at least one replica, and 80 % of the requested CPU when no metric is named.
pub fn second(autoscaler: &mut Value) {
    let spec = object::child(autoscaler, "spec");
    fill(spec, "minReplicas", 1);
    if object::list(spec, "metrics").is_empty() {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        object::fields(spec).insert("metrics".to_owned(), json!([metric]));
    }
    if let Some(behavior) = part(spec, "behavior") {
        let up = json!([
            {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15},
        ]);
        let up_rules = object::child(behavior, "scaleUp");
        fill(up_rules, "stabilizationWindowSeconds", 0);
        rules(up_rules, up);
        let down = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
        rules(object::child(behavior, "scaleDown"), down);
    }
}

fn rules(rules: &mut Value, policies: Value) {
    fill(rules, "selectPolicy", "Max");
    fill(rules, "policies", policies);
}

/// The older version: at least one replica.
pub fn first(autoscaler: &mut Value) {
    fill(object::child(autoscaler, "spec"), "minReplicas", 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_is_completed() {
        let mut autoscaler =
            json!({"spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}});
        second(&mut autoscaler);
        let spec = &autoscaler["spec"];
        assert_eq!(spec["minReplicas"], 1);
        assert_eq!(spec["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        assert_eq!(
            spec["behavior"]["scaleUp"]["policies"].as_array().map(Vec::len),
            Some(2)
        );
        assert_eq!(
            spec["behavior"]["scaleDown"],
            json!({"stabilizationWindowSeconds": 60, "selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]})
        );
    }
}
