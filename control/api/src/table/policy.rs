//! Rows of disruption budgets.

use super::{NAME, age, count, name, number, text};
use crate::kinds::Column;
use crate::object;
use serde_json::Value;

/// Columns of budgets.
pub const BUDGET: &[Column] = &[
    NAME,
    text("Min Available"),
    text("Max Unavailable"),
    number("Allowed Disruptions"),
    text("Age"),
];

/// Cells of a budget.
pub fn budget(budget: &Value, now: i64) -> Vec<Value> {
    let amount = |path: &str| match object::get(budget, path) {
        Some(Value::String(text)) => Value::from(text.as_str()),
        Some(number) => Value::from(number.to_string()),
        None => Value::from("N/A"),
    };
    vec![
        name(budget),
        amount("spec.minAvailable"),
        amount("spec.maxUnavailable"),
        count(budget, "status.disruptionsAllowed"),
        age(budget, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_budget_prints_what_it_allows() {
        let object =
            json!({"metadata": {"name": "b"}, "spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}});
        assert_eq!(
            Value::from(budget(&object, 0)),
            json!(["b", "50%", "N/A", 1, "<unknown>"])
        );
    }
}
