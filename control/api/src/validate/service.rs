//! Rules of services: ports, type, addresses.

use super::check::{formed, ip, named, one_of, one_of_if_set, port, port_or_name, reachable_ip, unique};
use super::{metadata, names};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::{Value, json};
use std::collections::HashSet;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Checks a service.
pub fn service(service: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = service.get("spec").unwrap_or(&nothing);
    let text = |field| object::text(spec, field);
    let kind = text("type");
    one_of(kind, TYPES, path.child("type"), faults);
    one_of(
        text("sessionAffinity"),
        &["ClientIP", "None"],
        path.child("sessionAffinity"),
        faults,
    );
    metadata::labels(object::map(spec, "selector"), path.child("selector"), faults);
    if object::list(spec, "ports").is_empty() && kind != "ExternalName" && text("clusterIP") != "None" {
        faults.push(FieldError::required(path.child("ports"), ""));
    }
    ports(spec, kind, path.child("ports"), faults);
    addresses(spec, kind, path, faults);
    traffic(spec, kind, path, faults);
}

fn ports(spec: &Value, kind: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let ports = object::list(spec, "ports");
    let mut seen_names = HashSet::new();
    let mut seen_ports = HashSet::new();
    let mut seen_node_ports = HashSet::new();
    for (index, found) in ports.iter().enumerate() {
        let here = path.index(index);
        let name = object::name_of(found);
        if name.is_empty() && ports.len() > 1 {
            faults.push(FieldError::required(here.child("name"), ""));
        }
        formed(name, names::dns_label, here.child("name"), faults);
        unique(&mut seen_names, name, here.child("name"), faults);
        let number = object::integer(found, "port").unwrap_or_default();
        port(number, here.child("port"), faults);
        let protocol = object::text(found, "protocol");
        one_of(protocol, PROTOCOLS, here.child("protocol"), faults);
        port_or_name(found.get("targetPort"), here.child("targetPort"), faults);
        if !seen_ports.insert((protocol, number)) {
            faults.push(FieldError::duplicate(
                here,
                json!({"protocol": protocol, "port": number}),
            ));
        }
        let node_port = object::integer(found, "nodePort").unwrap_or_default();
        if node_port == 0 {
            continue;
        }
        if !matches!(kind, "NodePort" | "LoadBalancer") {
            let words = format!("may not be used when `type` is '{kind}'");
            faults.push(FieldError::forbidden(here.child("nodePort"), words));
        }
        if !seen_node_ports.insert((protocol, node_port)) {
            faults.push(FieldError::duplicate(here.child("nodePort"), node_port));
        }
    }
}

fn addresses(spec: &Value, kind: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let address = object::text(spec, "clusterIP");
    let list = path.child("clusterIPs");
    match (kind, address) {
        ("ExternalName", "") => {}
        ("ExternalName", _) => {
            faults.push(FieldError::forbidden(list, "may not be set for ExternalName services"));
        }
        ("NodePort" | "LoadBalancer", "None") => {
            let words = format!("may not be set to 'None' for {kind} services");
            faults.push(FieldError::invalid(list.index(0), "None", words));
        }
        (_, "" | "None") => {}
        (_, address) => {
            ip(address, list.index(0), faults);
        }
    }
    if let Some(first) = object::list(spec, "clusterIPs")
        .first()
        .filter(|first| first.as_str() != Some(address))
    {
        let words = "must be the same as the first value of `clusterIP`";
        faults.push(FieldError::invalid(list, json!([first]), words));
    }
    if kind == "ExternalName" {
        let target = object::text(spec, "externalName");
        // A name that ends with a dot is complete; the dot is no part of it.
        let target = target.strip_suffix('.').unwrap_or(target);
        named(target, names::dns_subdomain, path.child("externalName"), faults);
    }
    let externals = path.child("externalIPs");
    for (index, external) in object::list(spec, "externalIPs").iter().enumerate() {
        reachable_ip(external.as_str().unwrap_or_default(), externals.index(index), faults);
    }
}

fn traffic(spec: &Value, kind: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let external = object::text(spec, "externalTrafficPolicy");
    let here = path.child("externalTrafficPolicy");
    let reachable = matches!(kind, "NodePort" | "LoadBalancer") || !object::list(spec, "externalIPs").is_empty();
    if !external.is_empty() && !reachable {
        let words = "may only be set for externally-accessible services";
        faults.push(FieldError::invalid(here, external, words));
    } else {
        one_of_if_set(external, &["Cluster", "Local"], here, faults);
    }
    let internal = object::text(spec, "internalTrafficPolicy");
    one_of_if_set(
        internal,
        &["Cluster", "Local"],
        path.child("internalTrafficPolicy"),
        faults,
    );
    let seconds = object::integer(spec, "sessionAffinityConfig.clientIP.timeoutSeconds");
    if let Some(seconds) = seconds.filter(|seconds| !(1..=86_400).contains(seconds)) {
        let config = path.child("sessionAffinityConfig.clientIP.timeoutSeconds");
        faults.push(FieldError::invalid(
            config,
            seconds,
            "must be greater than 0 and less than 86400",
        ));
    }
}

/// A service keeps its address as long as it has one.
pub fn update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let [after, before] = [new, old].map(|service| object::text(service, "spec.clusterIP"));
    let named = [new, old]
        .iter()
        .any(|service| object::text(service, "spec.type") == "ExternalName");
    if named || before.is_empty() || after == before {
        return;
    }
    let spec = Path::root("spec");
    let list = spec.child("clusterIPs");
    faults.push(FieldError::invalid(
        list.index(0),
        json!([after]),
        "may not change once set",
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults;

    fn faults_of(spec: Value) -> Vec<String> {
        let mut object = json!({"spec": spec});
        defaults::service::service(&mut object);
        let mut faults = Vec::new();
        service(&object, &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn services_are_refused_in_the_words_of_kubernetes() {
        let cases = [
            (json!({}), "spec.ports: Required value"),
            (
                json!({"ports": [{"port": 0, "targetPort": 1}]}),
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                json!({"ports": [{"port": 1, "name": "a"}, {"port": 2}]}),
                "spec.ports[1].name: Required value",
            ),
            (
                json!({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]}),
                "spec.ports[1].name: Duplicate value: \"a\"",
            ),
            (
                json!({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}),
                "spec.ports[1]: Duplicate value: {\"protocol\":\"TCP\",\"port\":1}",
            ),
            (
                json!({"ports": [{"port": 1, "nodePort": 30000}]}),
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            ),
            (
                json!({"ports": [{"port": 1, "targetPort": "a_b"}]}),
                "spec.ports[0].targetPort: Invalid value: \"a_b\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            ),
            (
                json!({"ports": [{"port": 1}], "clusterIP": "here"}),
                "spec.clusterIPs[0]: Invalid value: \"here\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                json!({"ports": [{"port": 1}], "clusterIP": "None", "type": "NodePort"}),
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
            ),
            (json!({"type": "ExternalName"}), "spec.externalName: Required value"),
            (
                json!({"type": "Tunnel", "ports": [{"port": 1}]}),
                "spec.type: Unsupported value: \"Tunnel\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ),
            (
                json!({"ports": [{"port": 1}], "externalTrafficPolicy": "Local"}),
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
            ),
            (
                json!({"ports": [{"port": 1}], "externalIPs": ["127.0.0.1"]}),
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
        ];
        for (spec, wanted) in cases {
            assert_eq!(faults_of(spec.clone()), [wanted], "{spec}");
        }
        for fine in [
            json!({"ports": [{"port": 80}]}),
            json!({"clusterIP": "None"}),
            json!({"type": "ExternalName", "externalName": "a.b."}),
        ] {
            assert_eq!(faults_of(fine), Vec::<String>::new());
        }
    }

    #[test]
    fn an_address_stays() {
        let object = |kind: &str, ip: &str| json!({"spec": {"type": kind, "clusterIP": ip}});
        let count = |new: Value, old: Value| {
            let mut faults = Vec::new();
            update(&new, &old, &mut faults);
            faults.len()
        };
        assert_eq!(
            count(object("ClusterIP", "10.0.0.1"), object("NodePort", "10.0.0.1")),
            0
        );
        assert_eq!(
            count(object("ClusterIP", "10.0.0.2"), object("ClusterIP", "10.0.0.1")),
            1
        );
        assert_eq!(count(object("ExternalName", ""), object("ClusterIP", "10.0.0.1")), 0);
    }
}
