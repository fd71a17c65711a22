//! Rows of flow schemas and priority levels.

use super::{NAME, age, count, name, number, text, text_or_none};
use crate::kinds::Column;
use crate::object;
use serde_json::Value;

/// Columns of flow schemas.
pub const SCHEMA: &[Column] = &[
    NAME,
    text("PriorityLevel"),
    number("MatchingPrecedence"),
    text("DistinguisherMethod"),
    text("Age"),
    text("MissingPL"),
];

/// Cells of a flow schema.
pub fn schema(schema: &Value, now: i64) -> Vec<Value> {
    let dangling = object::list(schema, "status.conditions")
        .iter()
        .find(|one| object::text(one, "type") == "Dangling");
    vec![
        name(schema),
        Value::from(object::text(schema, "spec.priorityLevelConfiguration.name")),
        count(schema, "spec.matchingPrecedence"),
        text_or_none(schema, "spec.distinguisherMethod.type"),
        age(schema, now),
        Value::from(dangling.map_or("?", |one| object::text(one, "status"))),
    ]
}

/// Columns of priority levels.
pub const LEVEL: &[Column] = &[
    NAME,
    text("Type"),
    text("NominalConcurrencyShares"),
    text("Queues"),
    text("HandSize"),
    text("QueueLengthLimit"),
    text("Age"),
];

/// Cells of a priority level.
pub fn level(level: &Value, now: i64) -> Vec<Value> {
    let amount = |path: &str| {
        object::integer(level, path).map_or_else(|| Value::from("<none>"), |amount| Value::from(amount.to_string()))
    };
    vec![
        name(level),
        Value::from(object::text(level, "spec.type")),
        amount("spec.limited.nominalConcurrencyShares"),
        amount("spec.limited.limitResponse.queuing.queues"),
        amount("spec.limited.limitResponse.queuing.handSize"),
        amount("spec.limited.limitResponse.queuing.queueLengthLimit"),
        age(level, now),
    ]
}
