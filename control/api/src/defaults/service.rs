//! Defaults of services and of the lists of endpoints behind them.

use super::{fill, fill_text, items};
use crate::object;
use serde_json::{Value, json};

/// How long a client stays with its endpoint under `ClientIP` affinity, in seconds: three hours.
const AFFINITY_SECONDS: u32 = 10_800;

/// A service is an address within the cluster, one target for each port. The address itself is the server's to give.
pub fn service(service: &mut Value) {
    let spec = object::child(service, "spec");
    fill_text(spec, "sessionAffinity", "None");
    affinity(spec);
    fill_text(spec, "type", "ClusterIP");
    for port in items(spec, "ports") {
        fill_text(port, "protocol", "TCP");
        let number = object::get(port, "port").cloned().unwrap_or_else(|| json!(0));
        let unset = object::get(port, "targetPort").is_none_or(|target| *target == json!(0) || *target == json!(""));
        if unset {
            object::fields(port).insert("targetPort".to_owned(), number);
        }
    }
    let kind = object::text(spec, "type").to_owned();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind == "ExternalName" {
        return;
    }
    fill_text(spec, "internalTrafficPolicy", "Cluster");
    families(spec);
}

fn affinity(spec: &mut Value) {
    if object::text(spec, "sessionAffinity") == "ClientIP" {
        let client = object::child(object::child(spec, "sessionAffinityConfig"), "clientIP");
        fill(client, "timeoutSeconds", AFFINITY_SECONDS);
    } else {
        object::fields(spec).shift_remove("sessionAffinityConfig");
    }
}

fn families(spec: &mut Value) {
    fill_text(spec, "ipFamilyPolicy", "SingleStack");
    let address = object::text(spec, "clusterIP").to_owned();
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    fill(spec, "ipFamilies", json!([family]));
    if !address.is_empty() {
        fill(spec, "clusterIPs", json!([address]));
    }
}

/// Ports are TCP unless they say otherwise.
pub fn endpoints(endpoints: &mut Value) {
    for subset in items(endpoints, "subsets") {
        items(subset, "ports").for_each(|port| fill_text(port, "protocol", "TCP"));
    }
}

/// Ports are unnamed and TCP; the list of endpoints is always there.
pub fn endpoint_slice(slice: &mut Value) {
    fill(slice, "endpoints", json!([]));
    for port in items(slice, "ports") {
        fill(port, "name", "");
        fill_text(port, "protocol", "TCP");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_completed_by_its_type() {
        let mut service =
            json!({"spec": {"ports": [{"port": 80}, {"port": 90, "targetPort": "web"}], "selector": {"a": "b"}}});
        super::service(&mut service);
        assert_eq!(
            service["spec"],
            json!({
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 90, "targetPort": "web", "protocol": "TCP"}],
                "selector": {"a": "b"}, "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster",
                "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"],
            })
        );
        let mut node_port = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.9"}});
        super::service(&mut node_port);
        assert_eq!(node_port["spec"]["externalTrafficPolicy"], "Cluster");
        assert_eq!(node_port["spec"]["clusterIPs"], json!(["10.96.0.9"]));
        let mut name = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
        super::service(&mut name);
        assert_eq!(
            name["spec"],
            json!({"type": "ExternalName", "externalName": "example.com", "sessionAffinity": "None"})
        );
        let mut sticky = json!({"spec": {"sessionAffinity": "ClientIP"}});
        super::service(&mut sticky);
        assert_eq!(
            sticky["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"],
            10_800
        );
    }
}
