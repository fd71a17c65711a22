//! Pod security: how much of the machine a namespace's pods may ask for, by the namespace's labels.
//!
//! A label `pod-security.kubernetes.io/<mode>` names a level for a mode: `enforce` refuses pods, `warn` tells who makes
//! them. Pods that a template would make are only warned about; they are refused when somebody makes them.

pub(super) mod baseline;
pub(super) mod restricted;

use coracle_api::object;
use coracle_api::status::ApiError;
use coracle_store::Header;
use serde_json::Value;

use super::{Request, is};
use crate::document;

const PREFIX: &str = "pod-security.kubernetes.io/";
/// Pods that are looked at when a namespace gets stricter; as in Kubernetes, which stops there too.
const CHECKED_PODS: usize = 3000;

/// How strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// What a namespace says for one mode.
struct Rule {
    level: Level,
    version: String,
}

impl Rule {
    /// A level that does not exist is the strictest: nobody means less by a typing error.
    fn of(get: &impl Fn(&str) -> Option<String>, mode: &str) -> Option<Self> {
        let level = get(mode)?;
        let level = Level::parse(&level).unwrap_or(Level::Restricted);
        let version = get(&format!("{mode}-version")).unwrap_or_else(|| "latest".to_owned());
        (level != Level::Privileged).then_some(Self { level, version })
    }

    fn title(&self) -> String {
        format!("{:?}", format!("{}:{}", self.level.name(), self.version))
    }
}

/// One broken rule: what it forbids, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) what: &'static str,
    pub(super) details: String,
}

/// Refuses pods, and warns about pods and what makes pods.
pub(super) fn validate(request: &Request<'_>, object: &Value, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    let kind = request.scope.kind;
    if is(kind, "", "Namespace") {
        stricter(request, object, warnings);
        return Ok(());
    }
    let Some(namespace) = request.scope.namespace else {
        return Ok(());
    };
    let pod = is(kind, "", "Pod");
    if !pod && template(kind).is_none() {
        return Ok(());
    }
    let Some(record) = request.snapshot.get(&super::namespace::key(namespace)) else {
        return Ok(());
    };
    if !record.header.labels.iter().any(|(key, _)| key.starts_with(PREFIX)) {
        return Ok(());
    }
    let get = |name: &str| label(&record.header, name);
    let Some(subject) = subject(request, object) else {
        return Ok(());
    };
    if pod && let Some(rule) = Rule::of(&get, "enforce") {
        let found = violations(rule.level, subject);
        if !found.is_empty() {
            let words = format!("violates PodSecurity {}: {}", rule.title(), listed(&found));
            return Err(request.forbidden(&words));
        }
    }
    if let Some(rule) = Rule::of(&get, "warn") {
        let found = violations(rule.level, subject);
        if !found.is_empty() {
            warnings.push(format!(
                "would violate PodSecurity {}: {}",
                rule.title(),
                listed(&found)
            ));
        }
    }
    Ok(())
}

fn label(header: &Header, name: &str) -> Option<String> {
    let mut labels = header.labels.iter();
    let found = labels.find(|(key, _)| key.strip_prefix(PREFIX) == Some(name));
    found.map(|(_, value)| value.clone())
}

/// Where the pod stands in an object that makes pods.
fn template(kind: &coracle_api::kinds::Kind) -> Option<&'static str> {
    match (kind.group.as_ref(), kind.kind.as_ref()) {
        ("", "PodTemplate") => Some("template"),
        ("", "ReplicationController") => Some("spec.template"),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => Some("spec.template"),
        ("batch", "Job") => Some("spec.template"),
        ("batch", "CronJob") => Some("spec.jobTemplate.spec.template"),
        _ => None,
    }
}

/// The pod to judge; none for a change that cannot matter.
fn subject<'a>(request: &Request<'_>, object: &'a Value) -> Option<&'a Value> {
    match template(request.scope.kind) {
        Some(path) => object::get(object, path),
        None => {
            let same = |path: &str, old: &Value| object::get(old, path) == object::get(object, path);
            let unchanged = request
                .old
                .is_some_and(|old| same("spec", old) && same("metadata.annotations", old));
            (!unchanged).then_some(object)
        }
    }
}

/// Tells which pods a namespace has that its new level would refuse.
fn stricter(request: &Request<'_>, namespace: &Value, warnings: &mut Vec<String>) {
    let get = |name: &str| object::label(namespace, &format!("{PREFIX}{name}")).map(str::to_owned);
    let Some(rule) = request.old.and_then(|_| Rule::of(&get, "enforce")) else {
        return;
    };
    let before = request
        .old
        .and_then(|old| object::label(old, &format!("{PREFIX}enforce")));
    let before = before.map_or(Level::Privileged, |text| {
        Level::parse(text).unwrap_or(Level::Restricted)
    });
    if rule.level <= before {
        return;
    }
    let prefix = format!("pods/{}/", request.name);
    let pods = request.snapshot.range(&prefix, None).take(CHECKED_PODS);
    let found: Vec<String> = pods
        .filter_map(|record| {
            let pod = document::tree(record).ok()?;
            let found = violations(rule.level, &pod);
            let whats: Vec<&str> = found.iter().map(|violation| violation.what).collect();
            (!whats.is_empty()).then(|| format!("{}: {}", object::name(&pod), whats.join(", ")))
        })
        .collect();
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {:?} violate the new PodSecurity enforce level {}",
            request.name,
            rule.title()
        ));
        warnings.extend(found);
    }
}

/// What a pod asks for beyond a level.
pub(super) fn violations(level: Level, pod: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    if level >= Level::Restricted {
        found.extend(restricted::check(pod));
    }
    if level >= Level::Baseline {
        // What the stricter level has said about a field need not be said again.
        let known: Vec<&str> = found.iter().map(|violation: &Violation| violation.what).collect();
        let more: Vec<Violation> = baseline::check(pod)
            .into_iter()
            .filter(|violation| !restricted::replaces(&known, violation.what))
            .collect();
        found.splice(0..0, more);
    }
    found
}

fn listed(found: &[Violation]) -> String {
    let texts: Vec<String> = found
        .iter()
        .map(|Violation { what, details }| {
            if details.is_empty() {
                (*what).to_owned()
            } else {
                format!("{what} ({details})")
            }
        })
        .collect();
    texts.join(", ")
}

/// The containers of every kind.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["spec.initContainers", "spec.containers", "spec.ephemeralContainers"]
        .into_iter()
        .flat_map(|list| object::list(pod, list))
}

/// `container "a"` or `containers "a", "b"`; empty for none.
pub(super) fn named(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    let word = if names.len() == 1 { "container" } else { "containers" };
    format!("{word} {}", quoted.join(", "))
}

/// The names of the containers that something is true of.
pub(super) fn which(pod: &Value, wrong: impl Fn(&Value) -> bool) -> Vec<&str> {
    let wrong = containers(pod).filter(|container| wrong(container));
    wrong.map(|container| object::text(container, "name")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(level: Level, spec: Value) -> String {
        listed(&violations(level, &json!({"spec": spec})))
    }

    #[test]
    fn a_plain_pod_is_baseline_and_not_restricted() {
        let plain = json!({"containers": [{"name": "c"}]});
        assert_eq!(said(Level::Baseline, plain.clone()), "");
        assert_eq!(
            said(Level::Restricted, plain),
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    #[test]
    fn a_careful_pod_is_restricted() {
        let careful = json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "m"}}],
        });
        assert_eq!(said(Level::Restricted, careful), "");
    }

    #[test]
    fn what_reaches_for_the_machine_is_named() {
        let cases = [
            (
                json!({"hostNetwork": true, "hostPID": true, "containers": []}),
                "host namespaces (hostNetwork=true, hostPID=true)",
            ),
            (
                json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]}),
                "privileged (container \"c\" must not set securityContext.privileged=true)",
            ),
            (
                json!({"containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]}),
                "non-default capabilities (container \"c\" must not include \"NET_ADMIN\" in securityContext.capabilities.add)",
            ),
            (
                json!({"containers": [], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
                "hostPath volumes (volume \"v\")",
            ),
            (
                json!({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}),
                "hostPort (container \"c\" uses hostPort 80)",
            ),
        ];
        for (spec, words) in cases {
            assert_eq!(said(Level::Baseline, spec), words);
        }
    }
}
