//! Defaults of network policies and ingress classes.

use super::{fill, fill_text, items, part};
use crate::object;
use serde_json::{Value, json};

/// A policy is about what it has rules for, and always about what comes in; ports are TCP.
pub fn network_policy(policy: &mut Value) {
    let spec = object::child(policy, "spec");
    for list in ["ingress", "egress"] {
        for rule in items(spec, list) {
            items(rule, "ports").for_each(|port| fill_text(port, "protocol", "TCP"));
        }
    }
    let leaves = !object::list(spec, "egress").is_empty();
    let types = if leaves {
        json!(["Ingress", "Egress"])
    } else {
        json!(["Ingress"])
    };
    if object::list(spec, "policyTypes").is_empty() {
        object::fields(spec).insert("policyTypes".to_owned(), types);
    }
}

/// The parameters of a class are cluster-wide.
pub fn ingress_class(class: &mut Value) {
    let spec = object::child(class, "spec");
    if let Some(parameters) = part(spec, "parameters") {
        fill(parameters, "scope", "Cluster");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_about_what_it_has_rules_for() {
        let mut policy = json!({"spec": {"egress": [{"ports": [{"port": 53}]}]}});
        network_policy(&mut policy);
        assert_eq!(
            policy["spec"],
            json!({"egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}], "policyTypes": ["Ingress", "Egress"]})
        );
    }
}
