//! Where a request goes by its host and path. Pure.
//!
//! As the documentation of Ingress says: a host in full before one with a wildcard before rules without a host; an exact
//! path before a prefix, a longer prefix before a shorter, and prefixes end where an element of the path ends. Where several
//! ingresses say different things of the same host and path, the oldest is heard. Default backends come last.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend};

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Namespace of the service.
    pub namespace: String,
    /// Name of the service.
    pub service: String,
    /// Which of its ports.
    pub port: Port,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

/// All rules, in the order in which they are asked.
#[derive(Debug, Default)]
pub struct Table {
    hosts: HashMap<String, Paths>,
    /// By what stands behind the first label: `.example.com`.
    wildcards: HashMap<String, Paths>,
    any: Paths,
    default: Option<Arc<Target>>,
}

#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<String, Arc<Target>>,
    /// Without a slash at the end, so that the root is the empty text.
    prefixes: HashMap<String, Arc<Target>>,
    default: Option<Arc<Target>>,
}

impl Table {
    /// The table of these ingresses, in any order.
    pub fn new<'a>(ingresses: impl IntoIterator<Item = &'a Ingress>) -> Self {
        let mut ingresses: Vec<&Ingress> = ingresses.into_iter().collect();
        ingresses.sort_by_cached_key(|ingress| {
            let metadata = &ingress.metadata;
            let age = metadata.creation_timestamp.as_ref().map(|time| time.0);
            (age, metadata.namespace.clone(), metadata.name.clone())
        });
        let mut table = Self::default();
        for ingress in ingresses {
            table.add(ingress);
        }
        table
    }

    fn add(&mut self, ingress: &Ingress) {
        let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
        let Some(spec) = &ingress.spec else { return };
        let default = spec
            .default_backend
            .as_ref()
            .and_then(|backend| target(namespace, backend));
        for rule in spec.rules.iter().flatten() {
            let paths = self.paths_mut(rule.host.as_deref().unwrap_or_default());
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                if let Some(target) = target(namespace, &path.backend) {
                    paths.add(path, target);
                }
            }
            if paths.default.is_none() {
                paths.default = default.clone();
            }
        }
        if self.default.is_none() {
            self.default = default;
        }
    }

    fn paths_mut(&mut self, host: &str) -> &mut Paths {
        let host = host.to_ascii_lowercase();
        match host.strip_prefix('*') {
            _ if host.is_empty() => &mut self.any,
            Some(rest) => self.wildcards.entry(rest.to_owned()).or_default(),
            None => self.hosts.entry(host).or_default(),
        }
    }

    /// Where a request goes; `host` is as the client sent it, with or without a port.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Target>> {
        let host = bare(host).to_ascii_lowercase();
        let wildcard = host.find('.').and_then(|dot| host.get(dot..));
        let asked = [
            self.hosts.get(&host),
            wildcard.and_then(|rest| self.wildcards.get(rest)),
            Some(&self.any),
        ];
        let asked = || asked.into_iter().flatten();
        asked()
            .find_map(|paths| paths.find(path))
            .or_else(|| asked().find_map(|paths| paths.default.as_ref()))
            .or(self.default.as_ref())
    }
}

impl Paths {
    fn add(&mut self, path: &HTTPIngressPath, target: Arc<Target>) {
        let text = path.path.as_deref().unwrap_or("/");
        if path.path_type == "Exact" {
            self.exact.entry(text.to_owned()).or_insert(target);
        } else {
            // What is left to the implementation is a prefix here, as with most others.
            let prefix = text.trim_end_matches('/').to_owned();
            self.prefixes.entry(prefix).or_insert(target);
        }
    }

    fn find(&self, path: &str) -> Option<&Arc<Target>> {
        if let Some(target) = self.exact.get(path) {
            return Some(target);
        }
        let mut prefix = path.trim_end_matches('/');
        loop {
            if let Some(target) = self.prefixes.get(prefix) {
                return Some(target);
            }
            (prefix, _) = prefix.rsplit_once('/')?;
        }
    }
}

/// A host without its port and without the dot of an absolute name.
pub fn bare(host: &str) -> &str {
    let end_of_v6 = host.find(']').map_or(0, |at| at + 1);
    let end = match host.get(end_of_v6..).and_then(|rest| rest.find(':')) {
        Some(colon) => end_of_v6 + colon,
        None => host.len(),
    };
    let name = host.get(..end).unwrap_or(host);
    name.strip_suffix('.').unwrap_or(name)
}

fn target(namespace: &str, backend: &IngressBackend) -> Option<Arc<Target>> {
    let service = backend.service.as_ref()?;
    let port = service.port.as_ref()?;
    let number = port.number.and_then(|number| u16::try_from(number).ok());
    let named = || port.name.clone().map(Port::Name);
    Some(Arc::new(Target {
        namespace: namespace.to_owned(),
        service: service.name.clone(),
        port: number.map(Port::Number).or_else(named)?,
    }))
}

#[cfg(test)]
mod tests;
