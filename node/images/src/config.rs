//! The defaults that an image gives its containers.
//!
//! The JSON names are those of the `config` part of an OCI image configuration, so that a configuration written by
//! other tools is read as it is. Unknown members are ignored and never an error.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a container gets from its image where the pod says nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// The program and its first arguments; a pod's `command` replaces it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    /// The further arguments; a pod's `args` replaces them.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    /// Environment variables as `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// The working directory inside the guest; empty means `/`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub working_dir: String,
    /// Ports that the program listens on by itself, as `8080/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Free labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

impl ImageConfig {
    /// The environment as pairs; an entry without `=` has an empty value.
    pub fn env_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env
            .iter()
            .map(|entry| entry.split_once('=').unwrap_or((entry.as_str(), "")))
    }

    /// The TCP ports among the exposed ones, lowest first.
    pub fn tcp_ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self
            .exposed_ports
            .keys()
            .filter_map(|key| match key.split_once('/') {
                Some((port, "tcp")) => port.parse().ok(),
                Some(_) => None,
                None => key.parse().ok(),
            })
            .collect();
        ports.sort_unstable();
        ports
    }
}

/// Go programs write an absent list as `null`.
pub fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_other_tools_write() {
        let config: ImageConfig = serde_json::from_str(
            r#"{"Entrypoint":["/app.wasm"],"Cmd":null,"Env":["A=1","B=x=y","C"],"WorkingDir":"/srv",
                "ExposedPorts":{"8080/tcp":{},"53/udp":{},"80":{}},"Volumes":null}"#,
        )
        .unwrap();
        assert_eq!(config.entrypoint, ["/app.wasm"]);
        assert!(config.cmd.is_empty());
        assert_eq!(
            config.env_pairs().collect::<Vec<_>>(),
            [("A", "1"), ("B", "x=y"), ("C", "")]
        );
        assert_eq!(config.tcp_ports(), [80, 8080]);
    }

    #[test]
    fn an_empty_config_is_an_empty_object() {
        assert_eq!(serde_json::to_string(&ImageConfig::default()).unwrap(), "{}");
    }
}
