//! Where a proxied request goes: `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`, and what the object says.
//!
//! Pure.

use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::Value;

/// The port of a node's own API.
const KUBELET: u16 = 10_250;

/// A server in the pod network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// Set for services, whose missing endpoints have words of their own.
    service: Option<String>,
}

impl Target {
    /// Why it cannot be reached.
    pub(super) fn refused(&self, error: &ApiError) -> ApiError {
        ApiError::service_unavailable(match &self.service {
            Some(name) if error.message.contains("endpoint") => format!("no endpoints available for service {name:?}"),
            _ => format!(
                "error trying to reach service: dial tcp {}:{}: {}",
                self.host, self.port, error.message
            ),
        })
    }
}

/// Scheme, name and port of a reference; an empty scheme or port was not given.
pub(super) fn split(text: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = text.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    (matches!(scheme, "" | "http" | "https") && !name.is_empty()).then_some((scheme, name, port))
}

fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

/// A pod, at a port by number; without one at the first that a container names.
pub(super) fn pod(pod: &Value, scheme: &str, port: &str) -> Result<Target, ApiError> {
    let name = object::name(pod);
    let ip = object::text(pod, "status.podIP");
    if ip.is_empty() {
        return Err(ApiError::service_unavailable(format!(
            "address not allowed: pod {name} has none yet"
        )));
    }
    let first = || {
        let containers = object::list(pod, "spec.containers").iter();
        let mut ports = containers.flat_map(|container| object::list(container, "ports"));
        ports.find_map(|port| u16::try_from(port.get("containerPort")?.as_u64()?).ok())
    };
    let port = match port {
        "" => first().unwrap_or(if scheme == "https" { 443 } else { 80 }),
        text => number(text).ok_or_else(|| ApiError::bad_request(format!("invalid port {text:?} of pod {name}")))?,
    };
    Ok(Target {
        host: ip.to_owned(),
        port,
        tls: scheme == "https",
        service: None,
    })
}

/// A service, at a port by number or name; without one at its only port, or the one without a name.
pub(super) fn service(service: &Value, scheme: &str, port: &str) -> Result<Target, ApiError> {
    let name = object::name(service);
    let ports = object::list(service, "spec.ports");
    let of = |entry: &Value| u16::try_from(entry.get("port")?.as_u64()?).ok();
    let wanted = number(port);
    let found = ports.iter().find(|entry| match (port, wanted) {
        ("", _) => ports.len() == 1 || object::text(entry, "name").is_empty(),
        (_, Some(number)) => of(entry) == Some(number),
        (text, None) => object::text(entry, "name") == text,
    });
    let Some(number) = found.and_then(of) else {
        let message = format!("no service port {port:?} found for service {name:?}");
        return Err(ApiError::service_unavailable(message));
    };
    Ok(Target {
        host: format!("{name}.{}.svc", object::namespace(service)),
        port: number,
        tls: scheme == "https",
        service: Some(name.to_owned()),
    })
}

/// A node's own API, or another port of the node.
pub(super) fn node(node: &Value, scheme: &str, port: &str) -> Result<Target, ApiError> {
    let name = object::name(node);
    let address = |kind: &str| {
        let mut addresses = object::list(node, "status.addresses").iter();
        addresses
            .find(|address| object::text(address, "type") == kind)
            .map(|address| object::text(address, "address").to_owned())
    };
    let host = address("InternalIP").or_else(|| address("Hostname"));
    let host = host.ok_or_else(|| ApiError::service_unavailable(format!("node {name} has no address")))?;
    let own = object::get(node, "status.daemonEndpoints.kubeletEndpoint.Port").and_then(Value::as_u64);
    let own = own
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .unwrap_or(KUBELET);
    let (port, tls) = match port {
        "" => (own, scheme != "http"),
        text => {
            let invalid = || ApiError::bad_request(format!("invalid port {text:?} of node {name}"));
            let port = number(text).ok_or_else(invalid)?;
            (port, scheme == "https" || (scheme.is_empty() && port == own))
        }
    };
    Ok(Target {
        host,
        port,
        tls,
        service: None,
    })
}

/// A redirect within the target, as it is reached from outside; nothing for one that leads elsewhere or is relative.
pub(super) fn location(location: &str, prefix: &str, target: &Target) -> Option<String> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{prefix}{location}"));
    }
    let rest = location.split_once("://")?.1;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let own = [target.host.clone(), format!("{}:{}", target.host, target.port)];
    own.iter()
        .any(|own| own == authority)
        .then(|| format!("{prefix}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references() {
        assert_eq!(split("web"), Some(("", "web", "")));
        assert_eq!(split("web:80"), Some(("", "web", "80")));
        assert_eq!(split("https:web:"), Some(("https", "web", "")));
        assert_eq!(split("ftp:web:21"), None);
        assert_eq!(split("a:b:c:d"), None);
    }

    #[test]
    fn a_service_is_found_by_number_and_name() {
        let object = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"ports": [
            {"name": "http", "port": 80}, {"name": "admin", "port": 9000},
        ]}});
        let port = |text| service(&object, "", text).map(|target| (target.host, target.port));
        assert_eq!(port("80").unwrap(), ("web.n.svc".to_owned(), 80));
        assert_eq!(port("admin").unwrap().1, 9000);
        assert_eq!(port("81").unwrap_err().code, 503);
        assert!(port("").is_err(), "which of the two?");
    }

    #[test]
    fn a_pod_is_found_by_its_first_port() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"ports": [{"containerPort": 8080}]}]},
            "status": {"podIP": "10.0.0.1"}});
        assert_eq!(pod(&object, "", "").unwrap().port, 8080);
        assert_eq!(pod(&object, "https", "8443").unwrap().port, 8443);
        assert!(pod(&object, "", "http").is_err());
    }

    #[test]
    fn redirects_lead_back() {
        let target = Target {
            host: "10.0.0.1".into(),
            port: 80,
            tls: false,
            service: None,
        };
        let back = |text| location(text, "/p", &target);
        assert_eq!(back("/x").as_deref(), Some("/p/x"));
        assert_eq!(back("http://10.0.0.1:80/y").as_deref(), Some("/p/y"));
        assert_eq!(back("https://example.com/y"), None);
        assert_eq!(back("next"), None);
    }
}
