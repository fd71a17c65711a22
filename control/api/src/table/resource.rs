//! Rows of devices and of claims to them.

use super::{NAME, age, name, text};
use crate::kinds::Column;
use crate::object;
use serde_json::Value;

/// Columns of kinds that have nothing to show but their age.
pub const CREATED: &[Column] = &[NAME, text("Age")];

/// Cells of such kinds.
pub fn created(object: &Value, now: i64) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

/// Columns of claims.
pub const CLAIM: &[Column] = &[NAME, text("State"), text("Age")];

/// Cells of a claim.
pub fn claim(claim: &Value, now: i64) -> Vec<Value> {
    let leaving = object::deletion_timestamp(claim).is_some();
    let allocated = object::get(claim, "status.allocation").is_some();
    let reserved = !object::list(claim, "status.reservedFor").is_empty();
    let states = [
        (leaving, "deleted"),
        (!allocated && !leaving, "pending"),
        (allocated, "allocated"),
        (reserved, "reserved"),
    ];
    let states: Vec<&str> = states
        .into_iter()
        .filter_map(|(holds, state)| holds.then_some(state))
        .collect();
    vec![name(claim), Value::from(states.join(",")), age(claim, now)]
}

/// Columns of slices.
pub const SLICE: &[Column] = &[NAME, text("Node"), text("Driver"), text("Pool"), text("Age")];

/// Cells of a slice.
pub fn slice(slice: &Value, now: i64) -> Vec<Value> {
    vec![
        name(slice),
        super::text_or(slice, "spec.nodeName", "<unset>"),
        Value::from(object::text(slice, "spec.driver")),
        Value::from(object::text(slice, "spec.pool.name")),
        age(slice, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_prints_its_state() {
        let state = |status: Value| claim(&json!({"status": status}), 0)[1].clone();
        assert_eq!(state(json!({})), "pending");
        assert_eq!(
            state(json!({"allocation": {}, "reservedFor": [{}]})),
            "allocated,reserved"
        );
    }
}
