//! Defaults of what limits a namespace.

use super::items;
use crate::object;
use serde_json::Value;

/// For containers, what is not said follows from what is: the default from the maximum, the default request from the
/// default or else from the minimum.
pub fn limit_range(range: &mut Value) {
    let spec = object::child(range, "spec");
    for item in items(spec, "limits") {
        if object::text(item, "type") != "Container" {
            continue;
        }
        for (from, to) in [
            ("max", "default"),
            ("default", "defaultRequest"),
            ("min", "defaultRequest"),
        ] {
            follow(item, from, to);
        }
    }
}

fn follow(item: &mut Value, from: &str, to: &str) {
    let Some(amounts) = object::map(item, from).filter(|amounts| !amounts.is_empty()).cloned() else {
        return;
    };
    let target = object::fields(object::child(item, to));
    for (resource, amount) in amounts {
        target.entry(resource).or_insert(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn container_limits_follow_from_each_other() {
        let mut range = json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Mi"}}, {"type": "Pod", "max": {"cpu": "2"}},
        ]}});
        limit_range(&mut range);
        assert_eq!(
            range["spec"]["limits"][0],
            json!({
                "type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Mi"},
                "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"},
            })
        );
        assert_eq!(range["spec"]["limits"][1], json!({"type": "Pod", "max": {"cpu": "2"}}));
    }
}
