//! The level `restricted`: what a careful pod declares.

use coracle_api::object;
use serde_json::Value;

use super::{Violation, containers, named, which};

/// The kinds of volumes that hold nothing of the machine.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
];

/// Whether a finding of this level says all that one of the level below would.
pub(super) fn replaces(known: &[&str], baseline: &str) -> bool {
    match baseline {
        "non-default capabilities" => known.contains(&"unrestricted capabilities"),
        "hostPath volumes" => known.contains(&"restricted volume types"),
        other => known.contains(&other),
    }
}

/// What a pod lacks.
pub(super) fn check(pod: &Value) -> Vec<Violation> {
    let checks = [
        escalation(pod),
        capabilities(pod),
        volumes(pod),
        non_root(pod),
        user(pod),
        seccomp(pod),
    ];
    checks.into_iter().flatten().collect()
}

fn found(what: &'static str, details: String) -> Option<Violation> {
    Some(Violation { what, details })
}

fn escalation(pod: &Value) -> Option<Violation> {
    let wrong = which(pod, |container| {
        object::get(container, "securityContext.allowPrivilegeEscalation") != Some(&Value::Bool(false))
    });
    if wrong.is_empty() {
        return None;
    }
    found(
        "allowPrivilegeEscalation != false",
        format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            named(&wrong)
        ),
    )
}

fn capabilities(pod: &Value) -> Option<Violation> {
    let list = |container: &Value, field: &str| -> Vec<String> {
        let items = object::list(container, &format!("securityContext.capabilities.{field}")).iter();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let keeps = which(pod, |container| {
        !list(container, "drop").iter().any(|name| name == "ALL")
    });
    let more = |container: &Value| -> Vec<String> {
        let added = list(container, "add").into_iter();
        added.filter(|name| name != "NET_BIND_SERVICE").collect()
    };
    let adds = which(pod, |container| !more(container).is_empty());
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            named(&keeps)
        ));
    }
    if !adds.is_empty() {
        let mut names: Vec<String> = containers(pod).flat_map(more).map(|name| format!("{name:?}")).collect();
        names.sort_unstable();
        names.dedup();
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&adds),
            names.join(", ")
        ));
    }
    if details.is_empty() {
        return None;
    }
    found("unrestricted capabilities", details.join("; "))
}

fn volumes(pod: &Value) -> Option<Violation> {
    let (mut names, mut kinds) = (Vec::new(), Vec::new());
    for volume in object::list(pod, "spec.volumes") {
        let fields = volume
            .as_object()
            .into_iter()
            .flatten()
            .map(|(field, _)| field.as_str());
        let kind = fields.clone().find(|field| *field != "name");
        let fine = kind.is_none_or(|kind| VOLUMES.contains(&kind) || kind == "secret");
        if let Some(kind) = kind.filter(|_| !fine) {
            names.push(format!("{:?}", object::text(volume, "name")));
            kinds.push(format!("{kind:?}"));
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    let (volumes, verb) = match names.len() {
        0 => return None,
        1 => ("volume", "uses"),
        _ => ("volumes", "use"),
    };
    let types = if kinds.len() == 1 { "type" } else { "types" };
    found(
        "restricted volume types",
        format!(
            "{volumes} {} {verb} restricted volume {types} {}",
            names.join(", "),
            kinds.join(", ")
        ),
    )
}

fn non_root(pod: &Value) -> Option<Violation> {
    let field = "securityContext.runAsNonRoot";
    let whole = object::get(pod, "spec.securityContext.runAsNonRoot").and_then(Value::as_bool);
    let own = |container: &Value| object::get(container, field).and_then(Value::as_bool);
    let refuses = which(pod, |container| own(container) == Some(false));
    if !refuses.is_empty() {
        return found(
            "runAsNonRoot != true",
            format!("{} must not set {field}=false", named(&refuses)),
        );
    }
    let silent = which(pod, |container| own(container).is_none());
    match whole {
        Some(true) => None,
        _ if silent.is_empty() => None,
        Some(false) => found("runAsNonRoot != true", format!("pod must not set {field}=false")),
        None => found(
            "runAsNonRoot != true",
            format!("pod or {} must set {field}=true", named(&silent)),
        ),
    }
}

fn user(pod: &Value) -> Option<Violation> {
    let field = "securityContext.runAsUser";
    let root = |context: &Value| object::integer(context, field) == Some(0);
    let wrong = which(pod, root);
    let whole = root(object::get(pod, "spec")?);
    let mut details = Vec::new();
    if whole {
        details.push("pod".to_owned());
    }
    if !wrong.is_empty() {
        details.push(named(&wrong));
    }
    if details.is_empty() {
        return None;
    }
    found(
        "runAsUser=0",
        format!("{} must not set runAsUser=0", details.join(" and ")),
    )
}

fn seccomp(pod: &Value) -> Option<Violation> {
    let field = "securityContext.seccompProfile.type";
    let fine = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    let whole = fine(object::text(pod, &format!("spec.{field}")));
    let wrong = which(pod, |container| {
        let kind = object::text(container, field);
        !fine(kind) && (!kind.is_empty() || !whole)
    });
    if wrong.is_empty() {
        return None;
    }
    found(
        "seccompProfile",
        format!(
            "pod or {} must set {field} to \"RuntimeDefault\" or \"Localhost\"",
            named(&wrong)
        ),
    )
}
