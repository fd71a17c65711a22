//! Rows of requests for certificates.

use super::{NAME, age, name, text};
use crate::kinds::Column;
use crate::{object, time};
use serde_json::Value;

/// Columns of requests.
pub const COLUMNS: &[Column] = &[
    NAME,
    text("Age"),
    text("SignerName"),
    text("Requestor"),
    text("RequestedDuration"),
    text("Condition"),
];

/// Cells of a request.
pub fn cells(request: &Value, now: i64) -> Vec<Value> {
    let duration = object::integer(request, "spec.expirationSeconds").map_or_else(
        || "<none>".to_owned(),
        |seconds| time::duration(seconds.saturating_mul(time::SECOND)),
    );
    let signer = match object::text(request, "spec.signerName") {
        "" => "<none>",
        signer => signer,
    };
    vec![
        name(request),
        age(request, now),
        Value::from(signer),
        Value::from(object::text(request, "spec.username")),
        Value::from(duration),
        Value::from(condition(request)),
    ]
}

fn condition(request: &Value) -> String {
    let conditions = object::list(request, "status.conditions");
    let has = |kind: &str| conditions.iter().any(|one| object::text(one, "type") == kind);
    let decision = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = !object::text(request, "status.certificate").is_empty();
    format!("{decision}{failed}{}", if issued { ",Issued" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_prints_how_it_was_decided() {
        let mut object =
            json!({"metadata": {"name": "r"}, "spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600}});
        assert_eq!(
            Value::from(cells(&object, 0)),
            json!(["r", "<unknown>", "s", "u", "60m", "Pending"])
        );
        object["status"] = json!({"conditions": [{"type": "Approved"}], "certificate": "x"});
        assert_eq!(condition(&object), "Approved,Issued");
    }
}
