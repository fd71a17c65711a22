//! Rows of services and of the lists of endpoints behind them.

use super::{NAME, age, labels, name, or_none, text, wide};
use crate::kinds::Column;
use crate::object;
use serde_json::Value;

/// Most endpoints or ports in one cell; the others are counted. It is what kubectl's users know.
const SHOWN_LIMIT: usize = 3;

/// Columns of services.
pub const SERVICE: &[Column] = &[
    NAME,
    text("Type"),
    text("Cluster-IP"),
    text("External-IP"),
    text("Port(s)"),
    text("Age"),
    wide("Selector"),
];

/// Cells of a service.
pub fn service(service: &Value, now: i64) -> Vec<Value> {
    let ports: Vec<String> = object::list(service, "spec.ports").iter().map(port).collect();
    vec![
        name(service),
        Value::from(object::text(service, "spec.type")),
        or_none(object::text(service, "spec.clusterIP").to_owned()),
        Value::from(external(service)),
        or_none(ports.join(",")),
        age(service, now),
        labels(object::map(service, "spec.selector")),
    ]
}

fn port(port: &Value) -> String {
    let number = |field| object::integer(port, field).unwrap_or_default();
    let protocol = object::text(port, "protocol");
    match number("nodePort") {
        0 => format!("{}/{protocol}", number("port")),
        node_port => format!("{}:{node_port}/{protocol}", number("port")),
    }
}

fn external(service: &Value) -> String {
    let addresses = object::list(service, "spec.externalIPs")
        .iter()
        .filter_map(Value::as_str);
    let balanced = object::list(service, "status.loadBalancer.ingress")
        .iter()
        .map(|ingress| {
            let address = object::text(ingress, "ip");
            if address.is_empty() {
                object::text(ingress, "hostname")
            } else {
                address
            }
        });
    let (found, none): (Vec<&str>, &str) = match object::text(service, "spec.type") {
        "ExternalName" => return object::text(service, "spec.externalName").to_owned(),
        "LoadBalancer" => (balanced.chain(addresses).collect(), "<pending>"),
        _ => (addresses.collect(), "<none>"),
    };
    if found.is_empty() {
        none.to_owned()
    } else {
        found.join(",")
    }
}

/// Columns of endpoints.
pub const ENDPOINTS: &[Column] = &[NAME, text("Endpoints"), text("Age")];

/// Cells of endpoints.
pub fn endpoints(endpoints: &Value, now: i64) -> Vec<Value> {
    let mut shown = Vec::new();
    for subset in object::list(endpoints, "subsets") {
        let addresses = object::list(subset, "addresses")
            .iter()
            .map(|address| object::text(address, "ip"));
        let ports = object::list(subset, "ports");
        if ports.is_empty() {
            shown.extend(addresses.map(str::to_owned));
            continue;
        }
        for port in ports {
            let number = object::integer(port, "port").unwrap_or_default();
            shown.extend(addresses.clone().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{number}")
                } else {
                    format!("{ip}:{number}")
                }
            }));
        }
    }
    vec![name(endpoints), or_none(first_few(&shown)), age(endpoints, now)]
}

/// Columns of endpoint slices.
pub const ENDPOINT_SLICE: &[Column] = &[NAME, text("AddressType"), text("Ports"), text("Endpoints"), text("Age")];

/// Cells of an endpoint slice.
pub fn endpoint_slice(slice: &Value, now: i64) -> Vec<Value> {
    let unset = |text: String| Value::from(if text.is_empty() { "<unset>".to_owned() } else { text });
    let ports = object::list(slice, "ports").iter();
    let ports: Vec<String> = ports
        .map(|port| object::integer(port, "port").map_or_else(|| "*".to_owned(), |n| n.to_string()))
        .collect();
    let endpoints = object::list(slice, "endpoints").iter();
    let addresses = endpoints
        .flat_map(|endpoint| object::list(endpoint, "addresses"))
        .filter_map(Value::as_str);
    let addresses: Vec<String> = addresses.map(str::to_owned).collect();
    let kind = Value::from(object::text(slice, "addressType"));
    vec![
        name(slice),
        kind,
        unset(first_few(&ports)),
        unset(first_few(&addresses)),
        age(slice, now),
    ]
}

fn first_few(all: &[String]) -> String {
    let shown: Vec<&str> = all.iter().take(SHOWN_LIMIT).map(String::as_str).collect();
    let text = shown.join(",");
    if all.len() > SHOWN_LIMIT {
        format!("{text} + {} more...", all.len() - SHOWN_LIMIT)
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cell(spec: Value, at: usize) -> Value {
        super::service(&json!({"spec": spec}), 0).remove(at)
    }

    #[test]
    fn services_print_addresses_and_ports() {
        let ports = json!([{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]);
        assert_eq!(cell(json!({"ports": ports}), 4), "80:30080/TCP,53/UDP");
        assert_eq!(cell(json!({}), 4), "<none>");
        assert_eq!(cell(json!({"type": "ClusterIP"}), 3), "<none>");
        assert_eq!(cell(json!({"type": "LoadBalancer"}), 3), "<pending>");
        assert_eq!(
            cell(json!({"type": "LoadBalancer", "externalIPs": ["1.2.3.4"]}), 3),
            "1.2.3.4"
        );
        assert_eq!(
            cell(json!({"type": "ExternalName", "externalName": "example.com"}), 3),
            "example.com"
        );
        assert_eq!(cell(json!({"clusterIP": "None"}), 2), "None");
        assert_eq!(cell(json!({"selector": {"b": "2", "a": "1"}}), 6), "a=1,b=2");
    }

    #[test]
    fn many_endpoints_are_counted() {
        let addresses: Vec<Value> = (1..6).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
        let object = json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]});
        assert_eq!(
            endpoints(&object, 0)[1],
            "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."
        );
        assert_eq!(endpoints(&json!({}), 0)[1], "<none>");
        let slice =
            json!({"addressType": "IPv4", "ports": [{"port": 80}, {}], "endpoints": [{"addresses": ["10.0.0.1"]}]});
        assert_eq!(
            Value::from(endpoint_slice(&slice, 0)),
            json!(["", "IPv4", "80,*", "10.0.0.1", "<unknown>"])
        );
    }
}
