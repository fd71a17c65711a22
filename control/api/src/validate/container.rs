//! Rules of containers: names, image, ports, environment, mounts, probes.

use super::check::{formed, named, one_of, one_of_if_set, port, relative_path, unique};
use super::{names, probe, resources};
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;
use std::collections::HashSet;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: &[&str] = &["FallbackToLogsOnError", "File"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const ENV_SOURCES: &[&str] = &[
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];
const FIELD_PATHS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Checks all containers of a pod spec. `volumes` are the names of its volumes.
pub(super) fn containers(spec: &Value, volumes: &HashSet<&str>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if object::list(spec, "containers").is_empty() {
        faults.push(FieldError::required(path.child("containers"), ""));
    }
    let mut seen = HashSet::new();
    let mut host_ports = HashSet::new();
    for (field, init) in [("containers", false), ("initContainers", true)] {
        let list = path.child(field);
        for (index, found) in object::list(spec, field).iter().enumerate() {
            let here = list.index(index);
            unique(&mut seen, object::name_of(found), here.child("name"), faults);
            container(found, volumes, here, faults);
            if init {
                init_container(found, here, faults);
            } else {
                // The containers run at the same time, so they share the host's ports.
                taken_host_ports(found, &mut host_ports, here, faults);
            }
        }
    }
    let list = path.child("ephemeralContainers");
    for (index, found) in object::list(spec, "ephemeralContainers").iter().enumerate() {
        let here = list.index(index);
        unique(&mut seen, object::name_of(found), here.child("name"), faults);
        container(found, volumes, here, faults);
        ephemeral_container(found, spec, here, faults);
    }
}

/// A container for debugging joins a pod that runs, so it has no part in the pod's life.
fn ephemeral_container(container: &Value, spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    for field in [
        "ports",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resizePolicy",
        "restartPolicy",
    ] {
        if object::get(container, field).is_some_and(|value| !matches!(value, Value::Array(list) if list.is_empty())) {
            let words = "cannot be set for an Ephemeral Container";
            faults.push(FieldError::forbidden(path.child(field), words));
        }
    }
    if object::map(container, "resources").is_some_and(|resources| !resources.is_empty()) {
        let words = "cannot be set for an Ephemeral Container";
        faults.push(FieldError::forbidden(path.child("resources"), words));
    }
    let target = object::text(container, "targetContainerName");
    let others = ["containers", "initContainers"];
    let mut known = others.iter().flat_map(|field| object::list(spec, field));
    if !target.is_empty() && !known.any(|other| object::name_of(other) == target) {
        faults.push(FieldError::not_found(path.child("targetContainerName"), target));
    }
}

fn container(container: &Value, volumes: &HashSet<&str>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let text = |field| object::text(container, field);
    named(text("name"), names::dns_label, path.child("name"), faults);
    match text("image") {
        "" => faults.push(FieldError::required(path.child("image"), "")),
        image if image.trim() != image => {
            let words = "must not have leading or trailing whitespace";
            faults.push(FieldError::invalid(path.child("image"), image, words));
        }
        _ => {}
    }
    one_of(
        text("imagePullPolicy"),
        PULL_POLICIES,
        path.child("imagePullPolicy"),
        faults,
    );
    one_of_if_set(
        text("terminationMessagePolicy"),
        MESSAGE_POLICIES,
        path.child("terminationMessagePolicy"),
        faults,
    );
    ports(container, path.child("ports"), faults);
    environment(container, path, faults);
    mounts(container, volumes, path.child("volumeMounts"), faults);
    resources::requirements(container, path.child("resources"), faults);
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = object::get(container, field) {
            probe::probe(found, field != "readinessProbe", path.child(field), faults);
        }
    }
    for field in ["postStart", "preStop"] {
        let lifecycle = path.child("lifecycle");
        if let Some(hook) = object::get(container, "lifecycle").and_then(|lifecycle| object::get(lifecycle, field)) {
            probe::handler(
                hook,
                &["exec", "httpGet", "sleep", "tcpSocket"],
                lifecycle.child(field),
                faults,
            );
        }
    }
}

/// An init container runs to its end before the others start, unless it is a sidecar.
fn init_container(container: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    if object::text(container, "restartPolicy") == "Always" {
        return;
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
        if object::get(container, field).is_some() {
            let words = "may not be set for init containers without restartPolicy=Always";
            faults.push(FieldError::forbidden(path.child(field), words));
        }
    }
}

fn ports(container: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (index, found) in object::list(container, "ports").iter().enumerate() {
        let here = path.index(index);
        let name = object::name_of(found);
        formed(name, names::port_name, here.child("name"), faults);
        unique(&mut seen, name, here.child("name"), faults);
        match object::integer(found, "containerPort").unwrap_or_default() {
            0 => faults.push(FieldError::required(here.child("containerPort"), "")),
            number => port(number, here.child("containerPort"), faults),
        }
        if let Some(number) = object::integer(found, "hostPort").filter(|number| *number != 0) {
            port(number, here.child("hostPort"), faults);
        }
        one_of(
            object::text(found, "protocol"),
            PROTOCOLS,
            here.child("protocol"),
            faults,
        );
    }
}

fn taken_host_ports(container: &Value, taken: &mut HashSet<String>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let list = path.child("ports");
    for (index, found) in object::list(container, "ports").iter().enumerate() {
        let number = object::integer(found, "hostPort").unwrap_or_default();
        let here = list.index(index);
        let text = format!(
            "{}/{}/{number}",
            object::text(found, "protocol"),
            object::text(found, "hostIP")
        );
        if number != 0 && !taken.insert(text.clone()) {
            faults.push(FieldError::duplicate(here.child("hostPort"), text));
        }
    }
}

fn environment(container: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let list = path.child("env");
    for (index, variable) in object::list(container, "env").iter().enumerate() {
        let here = list.index(index);
        named(object::name_of(variable), names::env_name, here.child("name"), faults);
        if let Some(source) = object::get(variable, "valueFrom") {
            let has_value = !object::text(variable, "value").is_empty();
            value_from(source, has_value, here.child("valueFrom"), faults);
        }
    }
    let list = path.child("envFrom");
    for (index, source) in object::list(container, "envFrom").iter().enumerate() {
        env_from(source, list.index(index), faults);
    }
}

fn value_from(source: &Value, has_value: bool, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let given: Vec<&str> = ENV_SOURCES
        .iter()
        .copied()
        .filter(|field| object::get(source, field).is_some())
        .collect();
    for kind in &given {
        let here = path.child(kind);
        let found = object::get(source, kind).unwrap_or(&Value::Null);
        match *kind {
            "fieldRef" => field_ref(found, here, faults),
            "resourceFieldRef" => resource_ref(found, here, faults),
            _ => {
                if object::text(found, "key").is_empty() {
                    faults.push(FieldError::required(here.child("key"), ""));
                } else {
                    formed(object::text(found, "key"), names::config_key, here.child("key"), faults);
                }
            }
        }
    }
    let words = match given.len() {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if has_value => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    faults.push(FieldError::invalid(path, "", words));
}

/// A reference to a field of the pod itself.
fn field_ref(reference: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let field = object::text(reference, "fieldPath");
    let here = path.child("fieldPath");
    if field.is_empty() {
        faults.push(FieldError::required(here, ""));
        return;
    }
    let keyed = ["metadata.labels['", "metadata.annotations['"];
    let known = FIELD_PATHS.contains(&field)
        || keyed
            .iter()
            .any(|start| field.starts_with(start) && field.ends_with("']"));
    if !known {
        faults.push(FieldError::not_supported(here, field, FIELD_PATHS));
    }
}

/// A reference to what a container requests or may use at most.
pub(super) fn resource_ref(reference: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let supported = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = object::text(reference, "resource");
    if !resource.contains('/') {
        one_of(resource, &supported, path.child("resource"), faults);
    }
}

fn env_from(source: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    formed(
        object::text(source, "prefix"),
        names::env_name,
        path.child("prefix"),
        faults,
    );
    let given: Vec<&str> = ["configMapRef", "secretRef"]
        .into_iter()
        .filter(|field| object::get(source, field).is_some())
        .collect();
    for field in &given {
        let here = path.child(field);
        if object::get(source, field).is_some_and(|reference| object::name_of(reference).is_empty()) {
            faults.push(FieldError::required(here.child("name"), ""));
        }
    }
    let words = match given.len() {
        0 => "must specify one of: `configMapRef` or `secretRef`",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    faults.push(FieldError::invalid(path, "", words));
}

fn mounts(container: &Value, volumes: &HashSet<&str>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (index, mount) in object::list(container, "volumeMounts").iter().enumerate() {
        let here = path.index(index);
        match object::name_of(mount) {
            "" => faults.push(FieldError::required(here.child("name"), "")),
            name if !volumes.contains(name) => faults.push(FieldError::not_found(here.child("name"), name)),
            _ => {}
        }
        match object::text(mount, "mountPath") {
            "" => faults.push(FieldError::required(here.child("mountPath"), "")),
            target if !seen.insert(target) => {
                faults.push(FieldError::invalid(here.child("mountPath"), target, "must be unique"));
            }
            _ => {}
        }
        for field in ["subPath", "subPathExpr"] {
            relative_path(object::text(mount, field), here.child(field), faults);
        }
        if !object::text(mount, "subPath").is_empty() && !object::text(mount, "subPathExpr").is_empty() {
            let words = "subPathExpr and subPath are mutually exclusive";
            faults.push(FieldError::invalid(
                here.child("subPathExpr"),
                object::text(mount, "subPathExpr"),
                words,
            ));
        }
    }
}
