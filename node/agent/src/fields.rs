//! What a pod may be told about itself: the downward API, for variables and for files.
//!
//! Pure. A path that is not listed here is an error and never an empty value.

use crate::quantity;
use crate::spec;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

/// A reference that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// No such field, or one that pods may not be told.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// No such resource.
    #[error("unsupported resource: {0}")]
    Resource(String),
    /// No such container.
    #[error("container {0} not found")]
    Container(String),
    /// No quantity.
    #[error("{0:?} is not a quantity")]
    Quantity(String),
}

/// The node's own amounts, which count where a container has no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes of the disk that its pods' files lie on. None where the system does not say.
    pub disk_bytes: Option<u64>,
    /// How many pods may run.
    pub pods: u64,
}

/// A pod with what only its node knows.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its addresses.
    pub pod_ips: &'a [IpAddr],
    /// The node's name.
    pub node_name: &'a str,
    /// The node's address.
    pub host_ip: IpAddr,
    /// The node's allocatable amounts.
    pub allocatable: Capacity,
}

impl Facts<'_> {
    /// The pod's namespace.
    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Whether the pod wants variables for services; the default is yes.
    pub fn service_links(&self) -> bool {
        self.pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false)
    }

    /// The name of the pod's host: `hostname`, or the pod's name; a label has at most 63 bytes.
    pub fn hostname(&self) -> String {
        let own = self.pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
        let mut name = own
            .filter(|name| !name.is_empty())
            .or_else(|| self.pod.metadata.name.clone())
            .unwrap_or_default();
        name.truncate(63);
        name.trim_end_matches(['-', '.']).to_owned()
    }

    /// The text of a field.
    ///
    /// # Errors
    /// When pods are not told this field.
    pub fn field(&self, path: &str) -> Result<String, FieldError> {
        let metadata = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let joined = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        if let Some((field, key)) = subscript(path) {
            let map = match field {
                "metadata.labels" => metadata.labels.as_ref(),
                "metadata.annotations" => metadata.annotations.as_ref(),
                _ => return Err(FieldError::Field(path.to_owned())),
            };
            return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
        }
        Ok(match path {
            "metadata.name" => metadata.name.clone().unwrap_or_default(),
            "metadata.namespace" => self.namespace().to_owned(),
            "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
            "metadata.labels" => lines(metadata.labels.as_ref()),
            "metadata.annotations" => lines(metadata.annotations.as_ref()),
            "spec.nodeName" => self.node_name.to_owned(),
            "spec.serviceAccountName" => spec
                .and_then(|spec| spec.service_account_name.clone())
                .unwrap_or_else(|| "default".to_owned()),
            "status.hostIP" | "status.hostIPs" => self.host_ip.to_string(),
            "status.podIP" => self.pod_ips.first().map(ToString::to_string).unwrap_or_default(),
            "status.podIPs" => joined(self.pod_ips),
            _ => return Err(FieldError::Field(path.to_owned())),
        })
    }

    /// The amount of a resource of a container, divided and rounded up.
    ///
    /// # Errors
    /// When there is no such container or resource.
    pub fn resource(&self, selector: &ResourceFieldSelector, own: Option<&Container>) -> Result<String, FieldError> {
        let container = match selector.container_name.as_deref() {
            Some(name) if !name.is_empty() => spec::containers(self.pod)
                .find(|container| container.name == name)
                .ok_or_else(|| FieldError::Container(name.to_owned()))?,
            _ => own.ok_or_else(|| FieldError::Container(String::new()))?,
        };
        let unsupported = || FieldError::Resource(selector.resource.clone());
        let (list, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
        let resources = container.resources.as_ref();
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        let amount = match list {
            "limits" => limits.and_then(|limits| limits.get(resource)),
            "requests" => requests.and_then(|requests| requests.get(resource)),
            _ => return Err(unsupported()),
        };
        let milli = match (amount, list, resource) {
            (Some(amount), _, _) => quantity::milli(&amount.0).ok_or_else(|| FieldError::Quantity(amount.0.clone()))?,
            (None, "limits", "cpu") => i128::from(self.allocatable.cpu_milli),
            (None, "limits", "memory") => i128::from(self.allocatable.memory_bytes) * 1000,
            (None, _, "cpu" | "memory" | "ephemeral-storage") => 0,
            _ => return Err(unsupported()),
        };
        let divisor = match selector.divisor.as_ref().map(|divisor| divisor.0.as_str()) {
            None | Some("0" | "") => 1000,
            Some(text) => quantity::milli(text)
                .filter(|milli| *milli > 0)
                .ok_or_else(|| FieldError::Quantity(text.to_owned()))?,
        };
        Ok(((milli + divisor - 1) / divisor).to_string())
    }
}

/// `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (field, rest) = path.split_once('[')?;
    let key = rest.strip_suffix(']')?.trim_matches(['\'', '"']);
    Some((field, key))
}

/// One `key="value"` a line, sorted, the value quoted as Go quotes.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let mut text = String::new();
    for (key, value) in map.into_iter().flatten() {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = write!(text, "{key}={value:?}");
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A pod's facts on a node of four cores.
    pub(crate) fn facts(pod: &Pod) -> Facts<'_> {
        const IPS: &[IpAddr] = &[IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 0, 7))];
        let allocatable = Capacity {
            cpu_milli: 4000,
            memory_bytes: 8 << 30,
            disk_bytes: None,
            pods: 100,
        };
        Facts {
            pod,
            pod_ips: IPS,
            node_name: "n1",
            host_ip: [192, 168, 0, 1].into(),
            allocatable,
        }
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u1", "labels": {"a": "1", "b": "x\"y"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}}]}
        }))
        .unwrap()
    }

    #[test]
    fn fields_that_pods_are_told() {
        let pod = pod();
        let facts = facts(&pod);
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.uid", "u1"),
            ("metadata.labels['a']", "1"),
            ("metadata.annotations['none']", ""),
            ("metadata.labels", "a=\"1\"\nb=\"x\\\"y\""),
            ("spec.nodeName", "n1"),
            ("spec.serviceAccountName", "default"),
            ("status.podIP", "10.244.0.7"),
            ("status.hostIP", "192.168.0.1"),
        ] {
            assert_eq!(facts.field(path).as_deref(), Ok(expected), "{path}");
        }
        assert!(facts.field("spec.containers").is_err());
    }

    #[test]
    fn resources_divide_and_round_up() {
        let pod = pod();
        let container = spec::container(&pod, 0);
        let ask = |resource: &str, divisor: Option<&str>| {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({"resource": resource, "divisor": divisor})).unwrap();
            facts(&pod).resource(&selector, container)
        };
        assert_eq!(ask("limits.memory", None).as_deref(), Ok("67108864"));
        assert_eq!(ask("limits.memory", Some("1Mi")).as_deref(), Ok("64"));
        assert_eq!(ask("requests.cpu", None).as_deref(), Ok("1"));
        assert_eq!(ask("requests.cpu", Some("1m")).as_deref(), Ok("250"));
        assert_eq!(ask("limits.cpu", None).as_deref(), Ok("4"));
        assert!(ask("limits.gpu", None).is_err());
    }

    #[test]
    fn long_names_make_valid_host_names() {
        let mut pod = pod();
        pod.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b".repeat(20)));
        assert_eq!(facts(&pod).hostname(), "a".repeat(62));
    }
}
