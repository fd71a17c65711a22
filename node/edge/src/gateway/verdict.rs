//! What the API says of gateways and routes: conditions as the specification names them, and the status made of them. Pure.

use serde_json::{Value, json};

use super::objects::{GROUP, ParentRef};

/// A condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why.
    pub message: String,
}

impl Condition {
    /// It holds.
    pub fn good(kind: &'static str, reason: &'static str) -> Self {
        let message = String::new();
        Self {
            kind,
            holds: true,
            reason,
            message,
        }
    }

    /// It does not hold.
    pub fn bad(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind,
            holds: false,
            reason,
            message,
        }
    }
}

/// What is said of a listener.
#[derive(Debug)]
pub struct ListenerVerdict {
    /// Its name.
    pub name: String,
    /// Whether it takes HTTPRoutes.
    pub takes_http: bool,
    /// How many routes are attached to it.
    pub attached: usize,
    /// Its conditions.
    pub conditions: Vec<Condition>,
}

/// What is said of a route with regard to one parent.
#[derive(Debug)]
pub struct ParentVerdict {
    /// The parent, as the route names it.
    pub parent: ParentRef,
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// The conditions as a status has them; the time of the last change is kept from `before` where nothing has changed.
pub fn conditions(conditions: &[Condition], generation: i64, before: &Value, now: &str) -> Value {
    let one = |condition: &Condition| {
        let status = if condition.holds { "True" } else { "False" };
        let had = before.as_array().into_iter().flatten();
        let mut had = had.filter(|had| had["type"] == condition.kind && had["status"] == status);
        let since = had
            .next()
            .and_then(|had| had["lastTransitionTime"].as_str())
            .unwrap_or(now);
        json!({
            "type": condition.kind, "status": status, "reason": condition.reason, "message": condition.message,
            "observedGeneration": generation, "lastTransitionTime": since,
        })
    };
    conditions.iter().map(one).collect()
}

/// The status of a gateway.
pub fn gateway(
    all: &[Condition],
    listeners: &[ListenerVerdict],
    address: &str,
    generation: i64,
    before: &Value,
    now: &str,
) -> Value {
    let listener = |listener: &ListenerVerdict| {
        let had = before["listeners"].as_array().into_iter().flatten();
        let had = had
            .filter(|had| had["name"] == *listener.name)
            .map(|had| &had["conditions"])
            .next();
        let kinds = match listener.takes_http {
            true => json!([{"group": GROUP, "kind": "HTTPRoute"}]),
            false => json!([]),
        };
        json!({
            "name": listener.name, "supportedKinds": kinds, "attachedRoutes": listener.attached,
            "conditions": conditions(&listener.conditions, generation, had.unwrap_or(&Value::Null), now),
        })
    };
    json!({
        "addresses": [{"type": "IPAddress", "value": address}],
        "conditions": conditions(all, generation, &before["conditions"], now),
        "listeners": listeners.iter().map(listener).collect::<Vec<_>>(),
    })
}

/// The status of a route: ours of its parents, and what other controllers say of theirs.
pub fn route(parents: &[ParentVerdict], controller: &str, generation: i64, before: &Value, now: &str) -> Value {
    let before: Vec<&Value> = before["parents"].as_array().into_iter().flatten().collect();
    let others = before.iter().filter(|had| had["controllerName"] != controller);
    let ours = parents.iter().map(|verdict| {
        let parent = serde_json::to_value(&verdict.parent).unwrap_or_default();
        let had = before
            .iter()
            .find(|had| had["controllerName"] == controller && had["parentRef"] == parent);
        let had = had.map_or(&Value::Null, |had| &had["conditions"]);
        json!({
            "parentRef": parent, "controllerName": controller,
            "conditions": conditions(&verdict.conditions, generation, had, now),
        })
    });
    let parents: Vec<Value> = others.map(|other| (*other).clone()).chain(ours).collect();
    json!({ "parents": parents })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_and_others_their_say() {
        let verdict = |holds| ParentVerdict {
            parent: ParentRef {
                name: "g".into(),
                ..ParentRef::default()
            },
            conditions: vec![Condition {
                kind: "Accepted",
                holds,
                reason: "R",
                message: String::new(),
            }],
        };
        let other = json!({"controllerName": "other", "parentRef": {"name": "g"}, "conditions": []});
        let first = route(&[verdict(true)], "mine", 1, &json!({"parents": [other]}), "then");
        assert_eq!(first["parents"][0], other);
        assert_eq!(first["parents"][1]["conditions"][0]["lastTransitionTime"], "then");
        assert_eq!(route(&[verdict(true)], "mine", 1, &first, "now"), first);
        let changed = route(&[verdict(false)], "mine", 2, &first, "now");
        assert_eq!(changed["parents"][1]["conditions"][0]["lastTransitionTime"], "now");
        assert_eq!(route(&[], "mine", 2, &first, "now"), json!({"parents": [other]}));
    }
}
