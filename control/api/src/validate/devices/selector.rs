//! Rules of the expressions that select devices.

use super::at_most;
use crate::field_error::{FieldError, Path};
use crate::object;
use crate::policy::devices::{EXPRESSION_LIMIT_BYTES, Selector};
use serde_json::Value;

/// Most selectors of a request or class. Kubernetes' limit.
pub const SELECTORS_LIMIT: usize = 32;

/// Checks the selectors of a request or class.
pub(super) fn selectors(owner: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let list = path.child("selectors");
    let all = object::list(owner, "selectors");
    at_most(SELECTORS_LIMIT, all, list, faults);
    for (index, selector) in all.iter().enumerate() {
        let here = list.index(index);
        let expression = object::text(selector, "cel.expression");
        let at = here.child("cel.expression");
        if expression.is_empty() {
            faults.push(FieldError::required(here.child("cel"), ""));
        } else if expression.len() > EXPRESSION_LIMIT_BYTES {
            faults.push(FieldError::too_long(at, EXPRESSION_LIMIT_BYTES));
        } else if let Err(wrong) = Selector::compile(expression) {
            faults.push(FieldError::invalid(at, expression, wrong));
        }
    }
}
