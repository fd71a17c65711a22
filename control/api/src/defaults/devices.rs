//! Defaults of claims to devices.

use super::{fill, fill_text, items, part};
use crate::object;
use serde_json::Value;

/// A request is for exactly one device.
pub fn claim(claim: &mut Value) {
    requests(object::child(claim, "spec"));
}

/// The same within a template.
pub fn claim_template(template: &mut Value) {
    let spec = object::child(template, "spec");
    if let Some(inner) = part(spec, "spec") {
        requests(inner);
    }
}

fn requests(spec: &mut Value) {
    let Some(devices) = part(spec, "devices") else { return };
    for request in items(devices, "requests") {
        if let Some(exactly) = part(request, "exactly") {
            amount(exactly);
        }
        items(request, "firstAvailable").for_each(amount);
    }
}

fn amount(request: &mut Value) {
    fill_text(request, "allocationMode", "ExactCount");
    if object::text(request, "allocationMode") == "ExactCount"
        && object::integer(request, "count").unwrap_or_default() == 0
    {
        object::fields(request).insert("count".to_owned(), Value::from(1));
    }
    items(request, "tolerations").for_each(|toleration| fill(toleration, "operator", "Equal"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_for_one_device() {
        let mut object = json!({"spec": {"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "gpu"}}, {"exactly": {"allocationMode": "All"}}]}}});
        claim(&mut object);
        let requests = &object["spec"]["devices"]["requests"];
        assert_eq!(
            requests[0]["exactly"],
            json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1})
        );
        assert_eq!(requests[1]["exactly"], json!({"allocationMode": "All"}));
    }
}
