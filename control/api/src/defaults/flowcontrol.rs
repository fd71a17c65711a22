//! Defaults of flow schemas and priority levels.

use super::{fill, part};
use crate::object;
use serde_json::Value;

/// A schema stands in the middle of the order.
pub fn schema(schema: &mut Value) {
    let spec = object::child(schema, "spec");
    if object::integer(spec, "matchingPrecedence").unwrap_or_default() == 0 {
        object::fields(spec).insert("matchingPrecedence".to_owned(), Value::from(1000));
    }
}

/// A limited level has 30 shares; its queues are the usual ones.
pub fn level(level: &mut Value) {
    let spec = object::child(level, "spec");
    if let Some(exempt) = part(spec, "exempt") {
        fill(exempt, "nominalConcurrencyShares", 0);
        fill(exempt, "lendablePercent", 0);
    }
    let Some(limited) = part(spec, "limited") else { return };
    fill(limited, "nominalConcurrencyShares", 30);
    fill(limited, "lendablePercent", 0);
    if let Some(queuing) = part(limited, "limitResponse").and_then(|response| part(response, "queuing")) {
        for (field, number) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
            if object::integer(queuing, field).unwrap_or_default() == 0 {
                object::fields(queuing).insert(field.to_owned(), Value::from(number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_level_is_completed() {
        let mut object = json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 0}}}}});
        level(&mut object);
        let limited = &object["spec"]["limited"];
        assert_eq!(limited["nominalConcurrencyShares"], 30);
        assert_eq!(
            limited["limitResponse"]["queuing"],
            json!({"queues": 64, "handSize": 8, "queueLengthLimit": 50})
        );
    }
}
