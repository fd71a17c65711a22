//! The quality-of-service class of a pod: which pods a node gives up first.

use crate::object;
use crate::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeSet;

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed` when every container limits cpu and memory and requests just that, `BestEffort` when none asks for
/// anything, `Burstable` between.
pub fn class(pod: &Value) -> &'static str {
    let containers = ["spec.containers", "spec.initContainers"]
        .map(|path| object::list(pod, path))
        .concat();
    let asked = |container: &Value, kind: &str| -> BTreeSet<(&'static str, Quantity)> {
        COUNTED
            .iter()
            .filter_map(|name| Some((*name, amount(container, kind, name)?)))
            .collect()
    };
    let mut guaranteed = !containers.is_empty();
    let mut asks = false;
    for container in &containers {
        let (requests, limits) = (asked(container, "requests"), asked(container, "limits"));
        asks |= !requests.is_empty() || !limits.is_empty();
        guaranteed &= limits.len() == COUNTED.len() && requests == limits;
    }
    match (asks, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn amount(container: &Value, kind: &str, resource: &str) -> Option<Quantity> {
    let text = container.get("resources")?.get(kind)?.get(resource)?.as_str()?;
    Quantity::parse(text).ok().filter(|quantity| *quantity > Quantity::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes_follow_requests_and_limits() {
        let all = json!({"cpu": "1", "memory": "64Mi"});
        let cases = [
            (json!([{}]), "BestEffort"),
            (
                json!([{"resources": {"requests": {"coracle.dev/fuel": "1k"}}}]),
                "BestEffort",
            ),
            (json!([{"resources": {"requests": {"cpu": "0"}}}]), "BestEffort"),
            (json!([{"resources": {"requests": {"cpu": "100m"}}}]), "Burstable"),
            (json!([{"resources": {"limits": all, "requests": all}}]), "Guaranteed"),
            (
                json!([{"resources": {"limits": all, "requests": {"cpu": "1000m", "memory": "64Mi"}}}]),
                "Guaranteed",
            ),
            (
                json!([{"resources": {"limits": all, "requests": all}}, {}]),
                "Burstable",
            ),
            (
                json!([{"resources": {"limits": all, "requests": {"cpu": "1"}}}]),
                "Burstable",
            ),
        ];
        for (containers, wanted) in cases {
            assert_eq!(
                class(&json!({"spec": {"containers": containers}})),
                wanted,
                "{containers}"
            );
        }
    }
}
