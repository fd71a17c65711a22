//! Rules of network policies.

use super::check::{label_selector, one_of, port, port_or_name};
use super::networking::{cidr, holds};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

/// Checks a policy.
pub fn network_policy(policy: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = policy.get("spec").unwrap_or(&nothing);
    if let Some(selector) = object::get(spec, "podSelector") {
        label_selector(selector, path.child("podSelector"), faults);
    }
    for (field, peers) in [("ingress", "from"), ("egress", "to")] {
        let list = path.child(field);
        for (index, rule) in object::list(spec, field).iter().enumerate() {
            let here = list.index(index);
            ports(rule, here.child("ports"), faults);
            let at = here.child(peers);
            for (index, found) in object::list(rule, peers).iter().enumerate() {
                peer(found, at.index(index), faults);
            }
        }
    }
    let list = path.child("policyTypes");
    let types = object::list(spec, "policyTypes");
    if types.len() > 2 {
        let words = "may not specify more than two policyTypes";
        faults.push(FieldError::invalid(list, Value::from(types), words));
        return;
    }
    for (index, found) in types.iter().filter_map(Value::as_str).enumerate() {
        one_of(found, &["Egress", "Ingress"], list.index(index), faults);
    }
}

fn ports(rule: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for (index, found) in object::list(rule, "ports").iter().enumerate() {
        let here = path.index(index);
        one_of(
            object::text(found, "protocol"),
            &["SCTP", "TCP", "UDP"],
            here.child("protocol"),
            faults,
        );
        let number = object::get(found, "port");
        if number.is_some() {
            port_or_name(number, here.child("port"), faults);
        }
        let Some(end) = object::integer(found, "endPort") else {
            continue;
        };
        let at = here.child("endPort");
        match number {
            None => faults.push(FieldError::invalid(
                at,
                end,
                "may not be specified when `port` is not specified",
            )),
            Some(Value::String(_)) => {
                let words = "may not be specified when `port` is non-numeric";
                faults.push(FieldError::invalid(at, end, words));
            }
            Some(start) => {
                if start.as_i64().is_some_and(|start| end < start) {
                    faults.push(FieldError::invalid(at, end, "must be greater than or equal to `port`"));
                }
                port(end, at, faults);
            }
        }
    }
}

fn peer(peer: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let mut given = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = object::get(peer, field) {
            given += 1;
            label_selector(selector, path.child(field), faults);
        }
    }
    match (object::get(peer, "ipBlock"), given) {
        (None, 0) => faults.push(FieldError::required(path, "must specify a peer")),
        (Some(_), 1..) => {
            let words = "may not specify both ipBlock and another peer";
            faults.push(FieldError::forbidden(path, words));
        }
        (Some(block), 0) => self::block(block, path.child("ipBlock"), faults),
        _ => {}
    }
}

fn block(block: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let text = object::text(block, "cidr");
    if text.is_empty() {
        faults.push(FieldError::required(path.child("cidr"), ""));
        return;
    }
    let Some(whole) = cidr(text, path.child("cidr"), faults) else {
        return;
    };
    let list = path.child("except");
    for (index, inner) in object::list(block, "except")
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        let here = list.index(index);
        let Some((address, bits)) = cidr(inner, here, faults) else {
            continue;
        };
        if !holds(whole, address) || bits <= whole.1 {
            let words = format!("must be a strict subset of `cidr` {text}");
            faults.push(FieldError::invalid(here, inner, words));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults;
    use serde_json::json;

    #[test]
    fn policies_are_refused_in_the_words_of_kubernetes() {
        let faults_of = |spec: Value| {
            let mut object = json!({"spec": spec});
            defaults::networking::network_policy(&mut object);
            let mut faults = Vec::new();
            network_policy(&object, &mut faults);
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let from = |peer: Value| json!({"podSelector": {}, "ingress": [{"from": [peer]}]});
        assert!(
            faults_of(from(
                json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}})
            ))
            .is_empty()
        );
        assert_eq!(
            faults_of(from(json!({}))),
            ["spec.ingress[0].from[0]: Required value: must specify a peer"]
        );
        assert_eq!(
            faults_of(from(
                json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}})
            )),
            [
                "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr` 10.0.0.0/8"
            ]
        );
        assert_eq!(
            faults_of(json!({"ingress": [{"ports": [{"port": 90, "endPort": 80}]}]})),
            ["spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`"]
        );
    }
}
