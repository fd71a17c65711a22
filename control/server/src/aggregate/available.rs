//! Whether a service could answer at all, judged by what is known of it. Pure.

use coracle_api::object;
use serde_json::Value;

/// What a registration's condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) available: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn passed() -> Self {
        Self {
            available: true,
            reason: "Passed",
            message: "all checks passed".to_owned(),
        }
    }

    pub(super) fn failing(url: &str, why: &str) -> Self {
        Self::refused(
            "FailedDiscoveryCheck",
            format!("failing or missing response from {url}: {why}"),
        )
    }

    fn refused(reason: &'static str, message: String) -> Self {
        Self {
            available: false,
            reason,
            message,
        }
    }
}

/// What already stands against asking the server; nothing if it is worth trying.
pub(super) fn obstacle(
    namespace: &str,
    name: &str,
    port: u16,
    service: Option<&Value>,
    slices: &[Value],
) -> Option<Verdict> {
    let Some(service) = service else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Some(Verdict::refused("ServiceNotFound", message));
    };
    if object::text(service, "spec.type") == "ExternalName" {
        return None;
    }
    let mut ports = object::list(service, "spec.ports").iter();
    let Some(found) = ports.find(|entry| object::integer(entry, "port") == Some(i64::from(port))) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(Verdict::refused("ServicePortError", message));
    };
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Verdict::refused("EndpointsNotFound", message));
    }
    let port_name = object::text(found, "name");
    if slices.iter().any(|slice| has_ready(slice, port_name)) {
        return None;
    }
    let message =
        format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}");
    Some(Verdict::refused("MissingEndpoints", message))
}

fn has_ready(slice: &Value, port_name: &str) -> bool {
    let ready = |endpoint: &Value| {
        let unready = object::get(endpoint, "conditions.ready") == Some(&Value::Bool(false));
        !unready && !object::list(endpoint, "addresses").is_empty()
    };
    object::list(slice, "endpoints").iter().any(ready)
        && object::list(slice, "ports")
            .iter()
            .any(|port| object::text(port, "name") == port_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reason(service: Option<Value>, slices: &[Value]) -> Option<&'static str> {
        obstacle("n", "s", 443, service.as_ref(), slices).map(|verdict| verdict.reason)
    }

    #[test]
    fn a_service_needs_a_port_and_somebody_behind_it() {
        let service = || Some(json!({"spec": {"ports": [{"name": "https", "port": 443}]}}));
        let slice = |port: &str, ready: bool| json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}], "ports": [{"name": port, "port": 8443}]});
        assert_eq!(reason(None, &[]), Some("ServiceNotFound"));
        let other = json!({"spec": {"ports": [{"port": 80}]}});
        assert_eq!(reason(Some(other), &[]), Some("ServicePortError"));
        assert_eq!(reason(service(), &[]), Some("EndpointsNotFound"));
        assert_eq!(reason(service(), &[slice("https", false)]), Some("MissingEndpoints"));
        assert_eq!(reason(service(), &[slice("http", true)]), Some("MissingEndpoints"));
        assert_eq!(reason(service(), &[slice("http", true), slice("https", true)]), None);
        assert_eq!(reason(Some(json!({"spec": {"type": "ExternalName"}})), &[]), None);
    }
}
