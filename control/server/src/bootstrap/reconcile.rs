//! What a start does to a role or binding that is there already: it adds what is missing and takes nothing away.
//!
//! Whoever wants to keep a change sets the annotation `rbac.authorization.kubernetes.io/autoupdate` to `false`.

use coracle_api::object;
use serde_json::Value;

use super::AUTO_UPDATE;
use crate::authz::rules::{self, Rule, uncovered};

/// The object as it should be, if that is something else than it is.
pub(super) fn reconcile(present: &Value, wanted: &Value) -> Option<Value> {
    if object::annotation(present, AUTO_UPDATE) == Some("false") {
        return None;
    }
    let mut next = present.clone();
    for (key, value) in object::labels(wanted) {
        object::set_label(&mut next, key, value);
    }
    for (key, value) in object::annotations(wanted) {
        object::set_annotation(&mut next, key, value);
    }
    if let Some(aggregation) = object::get(wanted, "aggregationRule") {
        // The rules of an aggregated role are its parts'; the controller sees to them.
        object::set(&mut next, "aggregationRule", aggregation.clone());
    } else if object::get(wanted, "rules").is_some() {
        add_rules(&mut next, wanted);
    }
    add_subjects(&mut next, wanted);
    (next != *present).then_some(next)
}

fn add_rules(next: &mut Value, wanted: &Value) {
    let present = rules::rules(next);
    let own: Vec<&Rule> = present.iter().collect();
    let mut list = object::list(next, "rules").to_vec();
    let compiled = rules::rules(wanted);
    for (rule, text) in compiled.iter().zip(object::list(wanted, "rules")) {
        if !uncovered(&own, std::slice::from_ref(rule)).is_empty() {
            list.push(text.clone());
        }
    }
    object::set(next, "rules", Value::Array(list));
}

fn add_subjects(next: &mut Value, wanted: &Value) {
    let mut subjects = object::list(next, "subjects").to_vec();
    let count = subjects.len();
    for subject in object::list(wanted, "subjects") {
        if !subjects.contains(subject) {
            subjects.push(subject.clone());
        }
    }
    if subjects.len() > count {
        object::set(next, "subjects", Value::Array(subjects));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn role(annotations: Value, rules: Value) -> Value {
        json!({"metadata": {"name": "r", "annotations": annotations}, "rules": rules})
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_more_stays() {
        let get = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        let list = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]});
        let more = json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["*"]});
        let wanted = role(json!({AUTO_UPDATE: "true"}), json!([get, list]));
        let present = role(json!({}), json!([get, more]));
        let next = reconcile(&present, &wanted).unwrap();
        assert_eq!(next["rules"], json!([get, more, list]));
        assert_eq!(reconcile(&next, &wanted), None);
        assert_eq!(
            reconcile(&role(json!({AUTO_UPDATE: "false"}), json!([])), &wanted),
            None
        );
    }

    #[test]
    fn a_binding_gets_its_subjects_back() {
        let group = |name: &str| json!({"kind": "Group", "name": name});
        let wanted = json!({"metadata": {"name": "b"}, "subjects": [group("a")]});
        let next = reconcile(&json!({"metadata": {"name": "b"}, "subjects": [group("b")]}), &wanted).unwrap();
        assert_eq!(next["subjects"], json!([group("b"), group("a")]));
    }
}
