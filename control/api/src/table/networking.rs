//! Rows of ingresses, network policies and addresses.

use super::{NAME, age, joined, name, selector, text};
use crate::kinds::Column;
use crate::object;
use serde_json::Value;

/// How many hosts are shown; more are counted.
const HOSTS: usize = 3;

/// Columns of ingresses.
pub const INGRESS: &[Column] = &[
    NAME,
    text("Class"),
    text("Hosts"),
    text("Address"),
    text("Ports"),
    text("Age"),
];

/// Cells of an ingress.
pub fn ingress(ingress: &Value, now: i64) -> Vec<Value> {
    let class = match object::text(ingress, "spec.ingressClassName") {
        "" => object::annotation(ingress, "kubernetes.io/ingress.class").unwrap_or("<none>"),
        class => class,
    };
    let secure = !object::list(ingress, "spec.tls").is_empty();
    vec![
        name(ingress),
        Value::from(class),
        Value::from(hosts(object::list(ingress, "spec.rules"))),
        Value::from(addresses(object::list(ingress, "status.loadBalancer.ingress"))),
        Value::from(if secure { "80, 443" } else { "80" }),
        age(ingress, now),
    ]
}

fn hosts(rules: &[Value]) -> String {
    let hosts: Vec<&str> = rules
        .iter()
        .map(|rule| object::text(rule, "host"))
        .filter(|host| !host.is_empty())
        .collect();
    let shown = hosts.get(..HOSTS).unwrap_or(&hosts).join(",");
    match hosts.len() {
        0 => "*".to_owned(),
        count if count > HOSTS => format!("{shown} + {} more...", count - HOSTS),
        _ => shown,
    }
}

fn addresses(points: &[Value]) -> String {
    let texts: Vec<&str> = points
        .iter()
        .flat_map(|point| [object::text(point, "ip"), object::text(point, "hostname")])
        .filter(|text| !text.is_empty())
        .collect();
    texts.join(",")
}

/// Columns of ingress classes.
pub const INGRESS_CLASS: &[Column] = &[NAME, text("Controller"), text("Parameters"), text("Age")];

/// Cells of an ingress class.
pub fn ingress_class(class: &Value, now: i64) -> Vec<Value> {
    let parameters = object::get(class, "spec.parameters").map_or_else(
        || "<none>".to_owned(),
        |parameters| {
            let (kind, name) = (object::text(parameters, "kind"), object::text(parameters, "name"));
            match object::text(parameters, "apiGroup") {
                "" => format!("{kind}/{name}"),
                group => format!("{kind}.{group}/{name}"),
            }
        },
    );
    vec![
        name(class),
        Value::from(object::text(class, "spec.controller")),
        Value::from(parameters),
        age(class, now),
    ]
}

/// Columns of network policies.
pub const NETWORK_POLICY: &[Column] = &[NAME, text("Pod-Selector"), text("Age")];

/// Cells of a network policy.
pub fn network_policy(policy: &Value, now: i64) -> Vec<Value> {
    vec![
        name(policy),
        selector(object::get(policy, "spec.podSelector")),
        age(policy, now),
    ]
}

/// Columns of the ranges that services get their addresses from.
pub const SERVICE_CIDR: &[Column] = &[NAME, text("CIDRs"), text("Age")];

/// Cells of a range.
pub fn service_cidr(range: &Value, now: i64) -> Vec<Value> {
    vec![
        name(range),
        Value::from(joined(object::list(range, "spec.cidrs"))),
        age(range, now),
    ]
}

/// Columns of addresses.
pub const IP_ADDRESS: &[Column] = &[NAME, text("ParentRef")];

/// Cells of an address.
pub fn ip_address(address: &Value, _: i64) -> Vec<Value> {
    let Some(parent) = object::get(address, "spec.parentRef") else {
        return vec![name(address), Value::from("<none>")];
    };
    let mut path = object::text(parent, "resource").to_lowercase();
    let group = object::text(parent, "group");
    if !group.is_empty() {
        path = format!("{path}.{}", group.to_lowercase());
    }
    for part in ["namespace", "name"].map(|part| object::text(parent, part)) {
        if !part.is_empty() {
            path = format!("{path}/{part}");
        }
    }
    vec![name(address), Value::from(path)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_ingress_prints_hosts_and_addresses() {
        let rule = |host: &str| json!({"host": host});
        let object = json!({
            "metadata": {"name": "i"}, "spec": {"rules": [rule("a"), rule("b"), rule("c"), rule("d")], "tls": [{}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}, {"hostname": "h"}]}},
        });
        assert_eq!(
            Value::from(ingress(&object, 0)),
            json!(["i", "<none>", "a,b,c + 1 more...", "10.0.0.1,h", "80, 443", "<unknown>"])
        );
        assert_eq!(ingress(&json!({}), 0)[2], "*");
    }

    #[test]
    fn an_address_names_its_owner() {
        let object = json!({"metadata": {"name": "10.96.0.1"}, "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}}});
        assert_eq!(
            Value::from(ip_address(&object, 0)),
            json!(["10.96.0.1", "services/default/kubernetes"])
        );
        assert_eq!(ip_address(&json!({}), 0)[1], "<none>");
    }
}
