//! Rules of ingresses and their classes.

use super::check::{formed, one_of_if_set, port};
use super::{immutable, names};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;
use std::net::IpAddr;

/// Longest name of a controller.
pub const CONTROLLER_LIMIT: usize = 250;

const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];

/// Checks an ingress.
pub fn ingress(ingress: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let nothing = Value::Null;
    let spec = ingress.get("spec").unwrap_or(&nothing);
    let rules = object::list(spec, "rules");
    match object::get(spec, "defaultBackend") {
        Some(found) => backend(found, path.child("defaultBackend"), faults),
        None if rules.is_empty() => faults.push(FieldError::invalid(
            path,
            Value::from(rules),
            "either `defaultBackend` or `rules` must be specified",
        )),
        None => {}
    }
    let list = path.child("rules");
    for (index, rule) in rules.iter().enumerate() {
        let here = list.index(index);
        host(object::text(rule, "host"), here.child("host"), faults);
        if let Some(http) = object::get(rule, "http") {
            paths(http, here.child("http.paths"), faults);
        }
    }
    let list = path.child("tls");
    for (index, tls) in object::list(spec, "tls").iter().enumerate() {
        let here = list.index(index);
        let at = here.child("hosts");
        for (index, name) in object::list(tls, "hosts").iter().filter_map(Value::as_str).enumerate() {
            host_form(name, at.index(index), faults);
        }
        formed(
            object::text(tls, "secretName"),
            names::dns_subdomain,
            here.child("secretName"),
            faults,
        );
    }
    let class = object::text(spec, "ingressClassName");
    formed(class, names::dns_subdomain, path.child("ingressClassName"), faults);
}

fn host(host: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if host.parse::<IpAddr>().is_ok() {
        faults.push(FieldError::invalid(path, host, "must be a DNS name, not an IP address"));
        return;
    }
    host_form(host, path, faults);
}

/// A name, or a name whose first label is a star.
fn host_form(host: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if !host.contains('*') {
        formed(host, names::dns_subdomain, path, faults);
    } else if host
        .strip_prefix("*.")
        .is_none_or(|rest| !names::dns_subdomain(rest).is_empty())
    {
        let words = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        faults.push(FieldError::invalid(path, host, words));
    }
}

fn paths(http: &Value, list: Path<'_>, faults: &mut Vec<FieldError>) {
    let all = object::list(http, "paths");
    if all.is_empty() {
        faults.push(FieldError::required(list, ""));
    }
    for (index, found) in all.iter().enumerate() {
        let here = list.index(index);
        let kind = object::text(found, "pathType");
        let text = object::text(found, "path");
        let at = here.child("path");
        match kind {
            "" => faults.push(FieldError::required(
                here.child("pathType"),
                "pathType must be specified",
            )),
            "Exact" | "Prefix" if !text.starts_with('/') => {
                faults.push(FieldError::invalid(at, text, "must be an absolute path"));
            }
            "Exact" | "Prefix" => sequences(text, at, faults),
            "ImplementationSpecific" if !text.is_empty() && !text.starts_with('/') => {
                faults.push(FieldError::invalid(at, text, "must be an absolute path"));
            }
            _ => one_of_if_set(kind, PATH_TYPES, here.child("pathType"), faults),
        }
        let nothing = Value::Null;
        backend(found.get("backend").unwrap_or(&nothing), here.child("backend"), faults);
    }
}

fn sequences(text: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
        if text.contains(sequence) {
            faults.push(FieldError::invalid(
                path,
                text,
                format!("must not contain '{sequence}'"),
            ));
        }
    }
    for ending in ["/..", "/."] {
        if text.ends_with(ending) {
            faults.push(FieldError::invalid(path, text, format!("cannot end with '{ending}'")));
        }
    }
}

fn backend(backend: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    match (object::get(backend, "service"), object::get(backend, "resource")) {
        (Some(_), Some(_)) => {
            faults.push(FieldError::invalid(
                path,
                "",
                "cannot set both resource and service backends",
            ));
        }
        (None, None) => faults.push(FieldError::required(path, "port or resource are required")),
        (None, Some(resource)) => {
            let here = path.child("resource");
            for field in ["kind", "name"] {
                if object::text(resource, field).is_empty() {
                    faults.push(FieldError::required(here.child(field), ""));
                }
            }
        }
        (Some(service), None) => {
            let here = path.child("service");
            let name = object::name_of(service);
            super::check::named(name, names::service_name, here.child("name"), faults);
            let at = here.child("port");
            let number = object::integer(service, "port.number").unwrap_or_default();
            match (object::text(service, "port.name"), number) {
                ("", 0) => faults.push(FieldError::required(at, "port name or number is required")),
                ("", number) => port(number, at.child("number"), faults),
                (name, 0) => {
                    for fault in names::port_name(name) {
                        faults.push(FieldError::invalid(at.child("name"), name, fault));
                    }
                }
                (_, _) => faults.push(FieldError::invalid(at, "", "cannot set both port name & port number")),
            }
        }
    }
}

/// Checks a class.
pub fn ingress_class(class: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let here = path.child("controller");
    let controller = object::text(class, "spec.controller");
    if controller.len() > CONTROLLER_LIMIT {
        faults.push(FieldError::too_long(here, CONTROLLER_LIMIT));
    }
    domain_path(controller, here, faults);
    let Some(parameters) = object::get(class, "spec.parameters") else {
        return;
    };
    let here = path.child("parameters");
    for field in ["kind", "name"] {
        if object::text(parameters, field).is_empty() {
            faults.push(FieldError::required(here.child(field), ""));
        }
    }
    let namespace = object::text(parameters, "namespace");
    match (object::text(parameters, "scope"), namespace.is_empty()) {
        ("Namespace", true) => {
            let words = "`parameters.scope` is set to 'Namespace'";
            faults.push(FieldError::required(here.child("namespace"), words));
        }
        ("Cluster", false) => {
            let words = "`parameters.scope` is set to 'Cluster'";
            faults.push(FieldError::forbidden(here.child("namespace"), words));
        }
        ("Cluster" | "Namespace", _) => {}
        (other, _) => faults.push(FieldError::not_supported(
            here.child("scope"),
            other,
            &["Cluster", "Namespace"],
        )),
    }
}

/// A name of the form `example.com/ingress`.
fn domain_path(text: &str, path: Path<'_>, faults: &mut Vec<FieldError>) {
    match text.split_once('/') {
        _ if text.is_empty() => faults.push(FieldError::required(path, "")),
        Some((domain, rest)) if !rest.is_empty() => {
            for fault in names::dns_subdomain(domain) {
                faults.push(FieldError::invalid(path, domain, fault));
            }
        }
        _ => {
            let words = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            faults.push(FieldError::invalid(path, text, words));
        }
    }
}

/// Whose class it is never changes.
pub fn ingress_class_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let [after, before] = [new, old].map(|class| object::get(class, "spec.controller"));
    immutable(after, before, path.child("controller"), faults);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ingresses_are_refused_in_the_words_of_kubernetes() {
        let faults_of = |spec: Value| {
            let mut faults = Vec::new();
            ingress(&json!({"spec": spec}), &mut faults);
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let service = json!({"service": {"name": "web", "port": {"number": 80}}});
        let rule = |change: Value| {
            let mut path = json!({"path": "/", "pathType": "Prefix", "backend": service});
            crate::patch::merge(&mut path, &change);
            json!({"rules": [{"host": "*.example.com", "http": {"paths": [path]}}]})
        };
        assert!(faults_of(rule(json!({}))).is_empty());
        let cases = [
            (
                json!({}),
                "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified",
            ),
            (
                rule(json!({"pathType": null})),
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
            ),
            (
                rule(json!({"path": "x"})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
            ),
            (
                rule(json!({"path": "/a//b"})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'",
            ),
            (
                rule(json!({"backend": {"service": {"port": null}}})),
                "spec.rules[0].http.paths[0].backend.service.port: Required value: port name or number is required",
            ),
            (
                json!({"defaultBackend": service, "rules": [{"host": "10.0.0.1"}]}),
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            ),
        ];
        for (spec, wanted) in cases {
            assert_eq!(faults_of(spec.clone()), [wanted], "{spec}");
        }
    }

    #[test]
    fn classes_name_their_controller() {
        let paths = |spec: Value| {
            let mut faults = Vec::new();
            ingress_class(&json!({"spec": spec}), &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        assert!(paths(json!({"controller": "coracle.dev/ingress"})).is_empty());
        assert_eq!(paths(json!({"controller": "x"})), ["spec.controller"]);
        let parameters = json!({"kind": "K", "name": "n", "scope": "Namespace"});
        assert_eq!(
            paths(json!({"controller": "a.b/c", "parameters": parameters})),
            ["spec.parameters.namespace"]
        );
    }
}
