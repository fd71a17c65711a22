//! The environment and the arguments of a container.
//!
//! Pure: what the specification refers to is looked up in values that the caller brings. Later sources win: services, the
//! image, `envFrom`, `env`. `$(NAME)` refers to variables that stand before it; `$$` is a dollar.

use crate::fields::{self, Facts};
use crate::objects::{Kind, Payload};
use coracle_images::ImageConfig;
use coracle_net::{Protocol, Service};
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, EnvVarSource};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Variables by name.
pub type Env = BTreeMap<String, String>;

/// Why an environment cannot be made. Texts follow the kubelet's, which people search for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The object is not there.
    #[error("{kind} {name:?} not found")]
    Missing {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The object has no such key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// What it is.
        kind: Kind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// The value is not text.
    #[error("key {key} in {kind} {name:?} is not UTF-8 text and cannot be a variable")]
    NotText {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// The reference names nothing that a node knows.
    #[error(transparent)]
    Field(#[from] fields::FieldError),
    /// The source is of a kind that this node does not have.
    #[error("the source of variable {0:?} is not supported by this node")]
    Unsupported(String),
}

/// Finds the objects that an environment refers to.
pub trait Lookup {
    /// The object, if it exists.
    fn find(&self, kind: Kind, name: &str) -> Option<Arc<Payload>>;
}

/// What a container is started with.
#[derive(Debug, PartialEq, Eq)]
pub struct Launch {
    /// The whole argument vector.
    pub args: Vec<String>,
    /// Its variables.
    pub env: Vec<(String, String)>,
}

/// Puts together arguments and environment.
///
/// # Errors
/// When something that is not optional is missing.
pub fn launch(
    facts: &Facts<'_>,
    container: &Container,
    image: &ImageConfig,
    services: &[Service],
    lookup: &impl Lookup,
) -> Result<Launch, EnvError> {
    let mut env: Env = image
        .env_pairs()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    env.insert("HOSTNAME".to_owned(), facts.hostname());
    env.extend(variables(facts, container, services, lookup)?);
    let args = arguments(container, image, &env);
    Ok(Launch {
        args,
        env: env.into_iter().collect(),
    })
}

/// `command` replaces the entry point and drops the image's arguments; `args` replaces those.
fn arguments(container: &Container, image: &ImageConfig, env: &Env) -> Vec<String> {
    let command = container.command.as_deref().filter(|command| !command.is_empty());
    let own = container.args.as_deref().filter(|args| !args.is_empty());
    let expanded = |words: &[String]| words.iter().map(|word| expand(word, &[env])).collect::<Vec<_>>();
    let mut args = command.map_or_else(|| image.entrypoint.clone(), &expanded);
    match (own, command) {
        (Some(own), _) => args.extend(expanded(own)),
        (None, None) => args.extend(image.cmd.iter().cloned()),
        (None, Some(_)) => {}
    }
    if args.is_empty() {
        args.push(container.name.clone());
    }
    args
}

fn variables(
    facts: &Facts<'_>,
    container: &Container,
    services: &[Service],
    lookup: &impl Lookup,
) -> Result<Env, EnvError> {
    let from_services = service_variables(facts, services);
    let mut env = from_services.clone();
    for source in container.env_from.as_deref().unwrap_or_default() {
        add_all(&mut env, source, lookup)?;
    }
    let mut own = Env::new();
    for variable in container.env.as_deref().unwrap_or_default() {
        let value = match &variable.value_from {
            None => Some(expand(
                variable.value.as_deref().unwrap_or_default(),
                &[&own, &from_services],
            )),
            Some(source) => referred(facts, container, variable, source, lookup)?,
        };
        if let Some(value) = value {
            own.insert(variable.name.clone(), value);
        }
    }
    env.extend(own);
    Ok(env)
}

fn add_all(env: &mut Env, source: &EnvFromSource, lookup: &impl Lookup) -> Result<(), EnvError> {
    let (kind, name, optional) = match (&source.config_map_ref, &source.secret_ref) {
        (Some(reference), _) => (Kind::ConfigMap, &reference.name, reference.optional),
        (None, Some(reference)) => (Kind::Secret, &reference.name, reference.optional),
        (None, None) => return Ok(()),
    };
    let prefix = source.prefix.as_deref().unwrap_or_default();
    match lookup.find(kind, name) {
        Some(payload) => {
            for (key, value) in &payload.data {
                // A value that is no text cannot be a variable; a whole object with one such key is still useful.
                if let Ok(value) = std::str::from_utf8(value) {
                    env.insert(format!("{prefix}{key}"), value.to_owned());
                }
            }
            Ok(())
        }
        None if optional == Some(true) => Ok(()),
        None => Err(EnvError::Missing {
            kind,
            name: name.clone(),
        }),
    }
}

fn referred(
    facts: &Facts<'_>,
    container: &Container,
    variable: &EnvVar,
    source: &EnvVarSource,
    lookup: &impl Lookup,
) -> Result<Option<String>, EnvError> {
    if let Some(field) = &source.field_ref {
        return Ok(Some(facts.field(&field.field_path)?));
    }
    if let Some(resource) = &source.resource_field_ref {
        return Ok(Some(facts.resource(resource, Some(container))?));
    }
    if let Some(selector) = &source.config_map_key_ref {
        return key(
            facts,
            Kind::ConfigMap,
            &selector.name,
            &selector.key,
            selector.optional,
            lookup,
        );
    }
    if let Some(selector) = &source.secret_key_ref {
        return key(
            facts,
            Kind::Secret,
            &selector.name,
            &selector.key,
            selector.optional,
            lookup,
        );
    }
    Err(EnvError::Unsupported(variable.name.clone()))
}

fn key(
    facts: &Facts<'_>,
    kind: Kind,
    name: &str,
    key: &str,
    optional: Option<bool>,
    lookup: &impl Lookup,
) -> Result<Option<String>, EnvError> {
    let optional = optional == Some(true);
    let Some(payload) = lookup.find(kind, name) else {
        return if optional {
            Ok(None)
        } else {
            Err(EnvError::Missing {
                kind,
                name: name.to_owned(),
            })
        };
    };
    match payload.data.get(key) {
        Some(value) => match std::str::from_utf8(value) {
            Ok(value) => Ok(Some(value.to_owned())),
            Err(_) => Err(EnvError::NotText {
                kind,
                name: name.to_owned(),
                key: key.to_owned(),
            }),
        },
        None if optional => Ok(None),
        None => Err(EnvError::NoKey {
            kind,
            namespace: facts.namespace().to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
        }),
    }
}

/// The variables that tell where services are. The API server's own service is told to every pod.
fn service_variables(facts: &Facts<'_>, services: &[Service]) -> Env {
    let mut env = Env::new();
    for service in services {
        let api_server = service.namespace == "default" && service.name == "kubernetes";
        let wanted = api_server || (facts.service_links() && service.namespace == facts.namespace());
        if let (true, Some(ip)) = (wanted, service.cluster_ips.first()) {
            add_service(&mut env, service, &ip.to_string());
        }
    }
    env
}

fn add_service(env: &mut Env, service: &Service, ip: &str) {
    let variable = |text: &str| text.to_ascii_uppercase().replace(['-', '.'], "_");
    let name = variable(&service.name);
    env.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
    for (index, port) in service.ports.iter().enumerate() {
        let (protocol, upper) = match port.protocol {
            Protocol::Tcp => ("tcp", "TCP"),
            Protocol::Udp => ("udp", "UDP"),
        };
        let number = port.port;
        let url = format!("{protocol}://{ip}:{number}");
        if index == 0 {
            env.insert(format!("{name}_SERVICE_PORT"), number.to_string());
            env.insert(format!("{name}_PORT"), url.clone());
        }
        if !port.name.is_empty() {
            env.insert(
                format!("{name}_SERVICE_PORT_{}", variable(&port.name)),
                number.to_string(),
            );
        }
        let prefix = format!("{name}_PORT_{number}_{upper}");
        env.insert(format!("{prefix}_PROTO"), protocol.to_owned());
        env.insert(format!("{prefix}_PORT"), number.to_string());
        env.insert(format!("{prefix}_ADDR"), ip.to_owned());
        env.insert(prefix, url);
    }
}

/// Replaces `$(NAME)` by the first value found; what is not found stays as it is.
pub fn expand(text: &str, scopes: &[&Env]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            after
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|after| after.split_once(')')) {
            match scopes.iter().find_map(|scope| scope.get(name)) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            after
        } else {
            out.push('$');
            after
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
