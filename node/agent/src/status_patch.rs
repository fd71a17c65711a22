//! The difference between two statuses as the smallest strategic merge patch.
//!
//! Pure. Only members that changed are sent, so that a write costs little and two writers of different conditions do not
//! overwrite each other; the uid travels along as a precondition, so that a patch never hits a later pod of the same name.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// The patch that makes `after` of `before`, or none when nothing differs.
pub fn patch(uid: &str, before: Option<&PodStatus>, after: &PodStatus) -> Option<Value> {
    if before == Some(after) {
        return None;
    }
    let old = before.map(members).unwrap_or_default();
    let mut new = members(after);
    let mut changed = Map::new();
    for name in old.keys() {
        if !new.contains_key(name) {
            changed.insert(name.clone(), Value::Null);
        }
    }
    for (name, value) in std::mem::take(&mut new) {
        match old.get(&name) {
            Some(old_value) if *old_value == value => {}
            Some(old_value) => {
                if let Some(value) = replacing(&name, old_value, value) {
                    changed.insert(name, value);
                }
            }
            None => {
                changed.insert(name, value);
            }
        }
    }
    (!changed.is_empty()).then(|| json!({ "metadata": { "uid": uid }, "status": changed }))
}

/// Members of a status that others write, and that the node has no part in: which claims to devices were made for the pod.
const OTHERS: [&str; 2] = ["resourceClaimStatuses", "extendedResourceClaimStatus"];

fn members(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(mut members)) => {
            members.retain(|name, _| !OTHERS.contains(&name.as_str()));
            members
        }
        // A status is a struct of plain fields; it always serialises to an object.
        _ => Map::new(),
    }
}

/// Conditions merge by type and are in no order, so only those that changed go out; addresses merge too and have to be told to
/// replace.
fn replacing(name: &str, old: &Value, new: Value) -> Option<Value> {
    match (name, old, new) {
        ("conditions", Value::Array(old), Value::Array(new)) => {
            let over = old.iter().filter(|before| is_passing(before));
            let over = over.filter(|before| !new.iter().any(|after| after["type"] == before["type"]));
            let over: Vec<Value> = over
                .map(|before| json!({ "type": before["type"], "$patch": "delete" }))
                .collect();
            let changed: Vec<Value> = new
                .into_iter()
                .filter(|condition| !old.contains(condition))
                .map(with_nulls)
                .chain(over)
                .collect();
            (!changed.is_empty()).then_some(Value::Array(changed))
        }
        ("podIPs" | "hostIPs", _, Value::Array(mut new)) => {
            new.push(json!({ "$patch": "replace" }));
            Some(Value::Array(new))
        }
        (_, _, new) => Some(new),
    }
}

/// Conditions that go away when they no longer hold. Those of other writers, which the node does not know, stay.
fn is_passing(condition: &Value) -> bool {
    let type_ = condition.get("type").and_then(Value::as_str).unwrap_or_default();
    matches!(type_, "PodResizePending" | "PodResizeInProgress")
}

/// A merged condition keeps members that the patch does not name, so reason and message are taken back explicitly.
fn with_nulls(mut condition: Value) -> Value {
    if let Value::Object(members) = &mut condition {
        for name in ["reason", "message"] {
            members.entry(name).or_insert(Value::Null);
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodIP};

    fn condition(type_: &str, status: &str, reason: Option<&str>) -> PodCondition {
        PodCondition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.map(str::to_owned),
            ..PodCondition::default()
        }
    }

    #[test]
    fn what_others_write_is_left_alone() {
        let told: PodStatus = serde_json::from_value(json!({"phase": "Pending",
            "resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}]}))
        .unwrap();
        let status = PodStatus {
            phase: Some("Running".into()),
            ..PodStatus::default()
        };
        let patch = patch("u", Some(&told), &status).unwrap();
        assert_eq!(patch["status"], json!({"phase": "Running"}));
    }

    #[test]
    fn nothing_changed_nothing_sent() {
        let status = PodStatus {
            phase: Some("Running".into()),
            ..PodStatus::default()
        };
        assert_eq!(patch("u", Some(&status), &status), None);
    }

    #[test]
    fn conditions_in_another_order_are_the_same() {
        let (ready, scheduled) = (
            condition("Ready", "True", None),
            condition("PodScheduled", "True", None),
        );
        let of = |conditions| PodStatus {
            conditions: Some(conditions),
            ..PodStatus::default()
        };
        let before = of(vec![
            scheduled.clone(),
            condition("example.com/gate", "True", None),
            ready.clone(),
        ]);
        assert_eq!(patch("u", Some(&before), &of(vec![ready, scheduled])), None);
    }

    #[test]
    fn a_resize_that_is_over_is_taken_back_and_nothing_else() {
        let of = |conditions| PodStatus {
            conditions: Some(conditions),
            ..PodStatus::default()
        };
        let ready = condition("Ready", "True", None);
        let before = of(vec![
            condition("example.com/gate", "True", None),
            condition("PodResizePending", "True", Some("Deferred")),
            ready.clone(),
        ]);
        let patch = patch("u", Some(&before), &of(vec![ready])).unwrap();
        assert_eq!(
            patch["status"],
            json!({"conditions": [{"type": "PodResizePending", "$patch": "delete"}]})
        );
    }

    #[test]
    fn only_what_changed_is_sent() {
        let before = PodStatus {
            phase: Some("Pending".into()),
            reason: Some("Why".into()),
            host_ip: Some("10.0.0.1".into()),
            pod_ips: Some(vec![PodIP { ip: "10.1.0.1".into() }]),
            conditions: Some(vec![
                condition("Ready", "False", Some("ContainersNotReady")),
                condition("PodScheduled", "True", None),
            ]),
            ..PodStatus::default()
        };
        let after = PodStatus {
            phase: Some("Running".into()),
            reason: None,
            pod_ips: Some(vec![PodIP { ip: "10.1.0.2".into() }]),
            conditions: Some(vec![
                condition("Ready", "True", None),
                condition("PodScheduled", "True", None),
            ]),
            ..before.clone()
        };
        assert_eq!(
            patch("u", Some(&before), &after),
            Some(json!({
                "metadata": { "uid": "u" },
                "status": {
                    "reason": null,
                    "phase": "Running",
                    "podIPs": [{ "ip": "10.1.0.2" }, { "$patch": "replace" }],
                    "conditions": [{ "type": "Ready", "status": "True", "reason": null, "message": null }],
                }
            }))
        );
    }
}
