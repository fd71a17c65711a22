//! Rules of flow schemas and priority levels.

use super::check::{not_negative, one_of};
use super::names;
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

/// The last place in the order of schemas.
pub const PRECEDENCE_LIMIT: i64 = 10_000;
/// Most queues of a level. Kubernetes' limit.
pub const QUEUES_LIMIT: i64 = 10_000_000;

/// Checks a schema.
pub fn schema(schema: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = schema.get("spec").unwrap_or(&nothing);
    let place = object::integer(spec, "matchingPrecedence").unwrap_or_default();
    if place <= 0 {
        let words = "must be a positive value";
        faults.push(FieldError::invalid(path.child("matchingPrecedence"), place, words));
    } else if place > PRECEDENCE_LIMIT {
        let words = "must not be greater than 10000";
        faults.push(FieldError::invalid(path.child("matchingPrecedence"), place, words));
    } else if place == 1 && object::name(schema) != "exempt" {
        let words = "only the schema named 'exempt' may have matchingPrecedence 1";
        faults.push(FieldError::invalid(path.child("matchingPrecedence"), place, words));
    }
    if let Some(method) = object::get(spec, "distinguisherMethod") {
        let here = path.child("distinguisherMethod");
        one_of(
            object::text(method, "type"),
            &["ByNamespace", "ByUser"],
            here.child("type"),
            faults,
        );
    }
    let level = path.child("priorityLevelConfiguration");
    let name = object::text(spec, "priorityLevelConfiguration.name");
    if name.is_empty() {
        faults.push(FieldError::required(
            level.child("name"),
            "must reference a priority level",
        ));
    } else {
        super::check::formed(name, names::dns_subdomain, level.child("name"), faults);
    }
    let list = path.child("rules");
    for (index, rule) in object::list(spec, "rules").iter().enumerate() {
        let here = list.index(index);
        if object::list(rule, "subjects").is_empty() {
            let words = "subjects must contain at least one value";
            faults.push(FieldError::required(here.child("subjects"), words));
        }
        let about = ["resourceRules", "nonResourceRules"];
        if about.iter().all(|field| object::list(rule, field).is_empty()) {
            let words = "at least one of resourceRules and nonResourceRules has to be non-empty";
            faults.push(FieldError::required(here, words));
        }
    }
}

/// Checks a level.
pub fn level(level: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = level.get("spec").unwrap_or(&nothing);
    let kind = object::text(spec, "type");
    one_of(kind, &["Exempt", "Limited"], path.child("type"), faults);
    match (kind, object::get(spec, "limited"), object::get(spec, "exempt")) {
        ("Exempt", Some(_), _) => {
            let words = "must be nil if the type is not Limited";
            faults.push(FieldError::forbidden(path.child("limited"), words));
        }
        ("Limited", _, Some(_)) => {
            let words = "must be nil if the type is Limited";
            faults.push(FieldError::forbidden(path.child("exempt"), words));
        }
        ("Limited", None, None) => {
            let words = "must not be empty when type is Limited";
            faults.push(FieldError::required(path.child("limited"), words));
        }
        ("Limited", Some(found), None) => limited(found, path.child("limited"), faults),
        _ => {}
    }
}

fn limited(limited: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    not_negative(limited, "nominalConcurrencyShares", path, faults);
    let lent = object::integer(limited, "lendablePercent").unwrap_or_default();
    if !(0..=100).contains(&lent) {
        let words = "must be between 0 and 100, inclusive";
        faults.push(FieldError::invalid(path.child("lendablePercent"), lent, words));
    }
    let here = path.child("limitResponse");
    let kind = object::text(limited, "limitResponse.type");
    one_of(kind, &["Queue", "Reject"], here.child("type"), faults);
    let at = here.child("queuing");
    match (kind, object::get(limited, "limitResponse.queuing")) {
        ("Reject", Some(_)) => {
            let words = "must be nil if limited.limitResponse.type is not Limited";
            faults.push(FieldError::forbidden(at, words));
        }
        ("Queue", None) => {
            let words = "must not be empty if limited.limitResponse.type is Limited";
            faults.push(FieldError::required(at, words));
        }
        ("Queue", Some(queuing)) => {
            for field in ["queueLengthLimit", "queues", "handSize"] {
                let number = object::integer(queuing, field).unwrap_or_default();
                if number <= 0 {
                    faults.push(FieldError::invalid(at.child(field), number, "must be positive"));
                }
            }
            let queues = object::integer(queuing, "queues").unwrap_or_default();
            let hand = object::integer(queuing, "handSize").unwrap_or_default();
            if queues > QUEUES_LIMIT {
                let words = "must not be greater than 10000000";
                faults.push(FieldError::invalid(at.child("queues"), queues, words));
            }
            if hand > queues {
                let words = format!("should not be greater than queues ({queues})");
                faults.push(FieldError::invalid(at.child("handSize"), hand, words));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn levels_and_schemas_are_whole() {
        let paths = |check: fn(&Value, &mut Vec<FieldError>), spec: Value| {
            let mut faults = Vec::new();
            check(&json!({"metadata": {"name": "a"}, "spec": spec}), &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        let fine = json!({"matchingPrecedence": 9, "priorityLevelConfiguration": {"name": "l"}});
        assert!(paths(schema, fine).is_empty());
        assert_eq!(
            paths(schema, json!({"matchingPrecedence": 1})),
            ["spec.matchingPrecedence", "spec.priorityLevelConfiguration.name"]
        );
        let queued = json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 4, "handSize": 8, "queueLengthLimit": 1}}}});
        assert_eq!(paths(level, queued), ["spec.limited.limitResponse.queuing.handSize"]);
        assert_eq!(paths(level, json!({"type": "Limited"})), ["spec.limited"]);
    }
}
