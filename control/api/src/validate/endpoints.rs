//! Rules of the lists of endpoints behind services.

use super::check::{formed, one_of, port, reachable_ip, unique};
use super::{immutable, names};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;
use std::collections::HashSet;

/// Most endpoints in one slice. Kubernetes' own limit: a slice is sent to every node as a whole.
pub const ENDPOINTS_LIMIT: usize = 1000;
/// Most ports in one slice.
pub const PORTS_LIMIT: usize = 20_000;
/// Most addresses of one endpoint.
pub const ADDRESSES_LIMIT: usize = 100;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Checks an Endpoints object.
pub fn endpoints(endpoints: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("subsets");
    for (index, subset) in object::list(endpoints, "subsets").iter().enumerate() {
        let here = path.index(index);
        let mut found = false;
        for field in ["addresses", "notReadyAddresses"] {
            let list = here.child(field);
            for (index, address) in object::list(subset, field).iter().enumerate() {
                found = true;
                let item = list.index(index);
                reachable_ip(object::text(address, "ip"), item.child("ip"), faults);
                formed(
                    object::text(address, "hostname"),
                    names::dns_label,
                    item.child("hostname"),
                    faults,
                );
            }
        }
        if !found {
            faults.push(FieldError::required(
                here,
                "must specify `addresses` or `notReadyAddresses`",
            ));
        }
        let ports = object::list(subset, "ports");
        let list = here.child("ports");
        for (index, item) in ports.iter().enumerate() {
            let at = list.index(index);
            let name = object::name_of(item);
            if name.is_empty() && ports.len() > 1 {
                faults.push(FieldError::required(at.child("name"), ""));
            }
            formed(name, names::dns_label, at.child("name"), faults);
            port(
                object::integer(item, "port").unwrap_or_default(),
                at.child("port"),
                faults,
            );
            one_of(object::text(item, "protocol"), PROTOCOLS, at.child("protocol"), faults);
        }
    }
}

/// Checks an endpoint slice.
pub fn endpoint_slice(slice: &Value, faults: &mut Vec<FieldError>) {
    let kind = object::text(slice, "addressType");
    one_of(kind, &["FQDN", "IPv4", "IPv6"], Path::root("addressType"), faults);
    let path = Path::root("endpoints");
    let all = object::list(slice, "endpoints");
    if all.len() > ENDPOINTS_LIMIT {
        faults.push(FieldError::too_many(path, all.len(), ENDPOINTS_LIMIT));
        return;
    }
    for (index, endpoint) in all.iter().enumerate() {
        self::endpoint(endpoint, kind, path.index(index), faults);
    }
    slice_ports(object::list(slice, "ports"), Path::root("ports"), faults);
}

fn endpoint(endpoint: &Value, kind: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let addresses = object::list(endpoint, "addresses");
    let list = path.child("addresses");
    if addresses.is_empty() {
        faults.push(FieldError::required(list, "must contain at least 1 address"));
    }
    if addresses.len() > ADDRESSES_LIMIT {
        faults.push(FieldError::too_many(list, addresses.len(), ADDRESSES_LIMIT));
    }
    for (index, address) in addresses.iter().enumerate() {
        let text = address.as_str().unwrap_or_default();
        let here = list.index(index);
        match kind {
            "FQDN" => formed(text, names::dns_subdomain, here, faults),
            _ => {
                let read = reachable_ip(text, here, faults);
                if read.is_some_and(|address| address.is_ipv6() != (kind == "IPv6")) {
                    faults.push(FieldError::invalid(here, text, format!("must be an {kind} address")));
                }
            }
        }
    }
    formed(
        object::text(endpoint, "hostname"),
        names::dns_label,
        path.child("hostname"),
        faults,
    );
    formed(
        object::text(endpoint, "nodeName"),
        names::dns_subdomain,
        path.child("nodeName"),
        faults,
    );
}

fn slice_ports(ports: &[Value], path: Path<'_>, faults: &mut Vec<FieldError>) {
    if ports.len() > PORTS_LIMIT {
        faults.push(FieldError::too_many(path, ports.len(), PORTS_LIMIT));
        return;
    }
    let mut seen = HashSet::new();
    for (index, found) in ports.iter().enumerate() {
        let here = path.index(index);
        let name = object::name_of(found);
        if name.is_empty() && !seen.insert("") {
            faults.push(FieldError::duplicate(here.child("name"), ""));
        }
        unique(&mut seen, name, here.child("name"), faults);
        formed(name, names::dns_label, here.child("name"), faults);
        one_of(
            object::text(found, "protocol"),
            PROTOCOLS,
            here.child("protocol"),
            faults,
        );
        if let Some(number) = object::integer(found, "port") {
            port(number, here.child("port"), faults);
        }
    }
}

/// The kind of a slice's addresses never changes.
pub fn endpoint_slice_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    immutable(
        new.get("addressType"),
        old.get("addressType"),
        Path::root("addressType"),
        faults,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(check: fn(&Value, &mut Vec<FieldError>), object: Value) -> Vec<String> {
        let mut faults = Vec::new();
        check(&object, &mut faults);
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn endpoints_have_addresses_that_others_reach() {
        let fine =
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]}]});
        assert!(paths(endpoints, fine).is_empty());
        assert_eq!(paths(endpoints, json!({"subsets": [{}]})), ["subsets[0]"]);
        assert_eq!(
            paths(endpoints, json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}]}]})),
            ["subsets[0].addresses[0].ip"]
        );
    }

    #[test]
    fn slices_hold_addresses_of_their_kind() {
        let fine = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "", "port": 1, "protocol": "TCP"}]});
        assert!(paths(endpoint_slice, fine.clone()).is_empty());
        assert_eq!(
            paths(
                endpoint_slice,
                json!({"addressType": "IPv6", "endpoints": [{"addresses": ["10.0.0.1"]}, {}]})
            ),
            ["endpoints[0].addresses[0]", "endpoints[1].addresses"]
        );
        let inward = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1", "169.254.169.254"]}]});
        assert_eq!(
            paths(endpoint_slice, inward),
            ["endpoints[0].addresses[0]", "endpoints[0].addresses[1]"]
        );
        let port = json!({"name": "a", "protocol": "TCP"});
        assert_eq!(
            paths(endpoint_slice, json!({"addressType": "IPv4", "ports": [port, port]})),
            ["ports[1].name"]
        );
        let mut faults = Vec::new();
        endpoint_slice_update(&json!({"addressType": "IPv6"}), &fine, &mut faults);
        assert_eq!(
            faults[0].to_string(),
            "addressType: Invalid value: \"IPv6\": field is immutable"
        );
    }
}
