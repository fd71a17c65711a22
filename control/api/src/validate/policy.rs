//! Rules of disruption budgets.

use super::check::{at_most_all, count_or_percent, label_selector, one_of_if_set};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

/// Checks a budget.
pub fn budget(budget: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = budget.get("spec").unwrap_or(&nothing);
    let amounts = ["minAvailable", "maxUnavailable"];
    if amounts.iter().all(|field| object::get(spec, field).is_some()) {
        let words = "minAvailable and maxUnavailable cannot be both set";
        faults.push(FieldError::invalid(path, spec.clone(), words));
    }
    for field in amounts {
        if let Some(value) = object::get(spec, field) {
            count_or_percent(value, path.child(field), faults);
            at_most_all(value, path.child(field), faults);
        }
    }
    if let Some(selector) = object::get(spec, "selector") {
        label_selector(selector, path.child("selector"), faults);
    }
    one_of_if_set(
        object::text(spec, "unhealthyPodEvictionPolicy"),
        &["AlwaysAllow", "IfHealthyBudget"],
        path.child("unhealthyPodEvictionPolicy"),
        faults,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn budgets_are_refused_in_the_words_of_kubernetes() {
        let cases = [
            (
                json!({"minAvailable": 1, "maxUnavailable": 1}),
                "spec: Invalid value: {\"minAvailable\":1,\"maxUnavailable\":1}: minAvailable and maxUnavailable cannot be both set",
            ),
            (
                json!({"minAvailable": -1}),
                "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"maxUnavailable": "120%"}),
                "spec.maxUnavailable: Invalid value: \"120%\": must not be greater than 100%",
            ),
        ];
        for (spec, wanted) in cases {
            let mut faults = Vec::new();
            budget(&json!({"spec": spec}), &mut faults);
            let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
            assert_eq!(texts, [wanted]);
        }
    }
}
