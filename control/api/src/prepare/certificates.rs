//! Who may change what of a request for a certificate: its maker nothing after it is made, an approver the decision, a
//! signer the certificate and why there is none.

use super::{keep, keep_in};
use crate::object;
use serde_json::{Value, json};

/// The types of conditions that are a decision.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];

fn is_decision(condition: &Value) -> bool {
    DECISIONS.contains(&object::text(condition, "type"))
}

/// A request stays what was asked for.
pub fn update(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
}

/// Makes a write to `approval` change nothing but the decision.
pub fn approve(new: &mut Value, old: &Value) {
    let decisions = object::list(new, "status.conditions")
        .iter()
        .filter(|one| is_decision(one));
    let others = object::list(old, "status.conditions")
        .iter()
        .filter(|one| !is_decision(one));
    let conditions: Vec<Value> = decisions.chain(others).cloned().collect();
    let mut kept = old.clone();
    set_conditions(&mut kept, conditions);
    keep_in(&mut kept, new, "metadata", "managedFields");
    keep_in(&mut kept, new, "metadata", "resourceVersion");
    *new = kept;
}

/// Says when a decision was taken, where its taker has not.
pub fn stamp(request: &mut Value, now: &str) {
    let conditions = request
        .get_mut("status")
        .and_then(|status| status.get_mut("conditions"));
    for condition in conditions.and_then(Value::as_array_mut).into_iter().flatten() {
        for field in ["lastUpdateTime", "lastTransitionTime"] {
            let found = object::fields(condition).entry(field).or_insert(Value::Null);
            if found.is_null() {
                *found = Value::from(now);
            }
        }
    }
}

/// Makes a write to `status` leave the decision as it is.
pub fn update_status(new: &mut Value, old: &Value) {
    let others = object::list(new, "status.conditions")
        .iter()
        .filter(|one| !is_decision(one));
    let decisions = object::list(old, "status.conditions")
        .iter()
        .filter(|one| is_decision(one));
    let conditions: Vec<Value> = decisions.chain(others).cloned().collect();
    set_conditions(new, conditions);
}

fn set_conditions(request: &mut Value, conditions: Vec<Value>) {
    if conditions.is_empty() {
        object::remove(request, "status.conditions");
    } else {
        object::set(request, "status.conditions", json!(conditions));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn approver_and_signer_write_what_is_theirs() {
        let old = json!({"metadata": {"name": "a"}, "spec": {"request": "x"}, "status": {"conditions": [{"type": "Failed"}]}});
        let mut decided = json!({"metadata": {"name": "a"}, "spec": {"request": "y"}, "status": {"certificate": "mine", "conditions": [{"type": "Approved", "status": "True"}]}});
        approve(&mut decided, &old);
        assert_eq!(
            decided,
            json!({"metadata": {"name": "a"}, "spec": {"request": "x"}, "status": {"conditions": [{"type": "Approved", "status": "True"}, {"type": "Failed"}]}})
        );
        let mut signed = json!({"status": {"certificate": "c", "conditions": [{"type": "Denied"}]}});
        update_status(&mut signed, &decided);
        assert_eq!(
            signed,
            json!({"status": {"certificate": "c", "conditions": [{"type": "Approved", "status": "True"}]}})
        );
    }
}
