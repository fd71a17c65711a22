//! Which webhooks a write concerns. Pure.

use coracle_api::kinds::Kind;
use coracle_api::object;
use coracle_api::selector::LabelSelector as Selector;
use coracle_store::Snapshot;
use serde_json::Value;

use super::Asked;
use super::config::{GROUP, Hook, Rule};
use crate::{admission, document};

/// Kinds that no webhook sees: those by which webhooks are set up, and those by which rights are asked.
pub(super) fn is_exempt(kind: &Kind) -> bool {
    matches!(
        kind.group.as_ref(),
        GROUP | "authentication.k8s.io" | "authorization.k8s.io"
    )
}

/// Whether a webhook's rules name this write.
pub(super) fn matches(hook: &Hook, asked: &Asked<'_>) -> bool {
    hook.rules.iter().any(|rule| names(rule, asked))
}

fn names(rule: &Rule, asked: &Asked<'_>) -> bool {
    let kind = asked.kind;
    let has = |list: &[String], value: &str| list.iter().any(|entry| entry == "*" || entry == value);
    // A namespace is cluster-wide, though its own requests are in it.
    let scope = match rule.scope.as_str() {
        "Cluster" => !kind.namespaced,
        "Namespaced" => kind.namespaced,
        _ => true,
    };
    scope
        && has(&rule.operations, asked.operation.name())
        && has(&rule.groups, &kind.group)
        && has(&rule.versions, &kind.version)
        && rule
            .resources
            .iter()
            .any(|resource| is_resource(resource, &kind.plural, asked.subresource))
}

/// `pods`, `pods/status`, `pods/*`, `*/scale`, `*` for all but the parts, `*/*` for all.
fn is_resource(pattern: &str, plural: &str, subresource: &str) -> bool {
    let (wanted, part) = pattern.split_once('/').unwrap_or((pattern, ""));
    let resource = wanted == "*" || wanted == plural;
    let part = part == subresource || part == "*";
    resource && part
}

/// Whether a webhook's selectors choose this write.
pub(super) fn selects(hook: &Hook, asked: &Asked<'_>, snapshot: &Snapshot, object: Option<&Value>) -> bool {
    in_namespace(&hook.namespaces, asked, snapshot, object) && has_labels(&hook.objects, asked.old, object)
}

/// Namespaces are chosen by their own labels, objects by those of their namespace; what is in none is always chosen.
fn in_namespace(selector: &Selector, asked: &Asked<'_>, snapshot: &Snapshot, object: Option<&Value>) -> bool {
    if selector.is_everything() {
        return true;
    }
    if admission::is(asked.kind, "", "Namespace") {
        return object
            .or(asked.old)
            .is_none_or(|namespace| selector.matches_object(namespace));
    }
    let Some(namespace) = asked.namespace.filter(|_| asked.kind.namespaced) else {
        return true;
    };
    let Some(record) = snapshot.get(&admission::namespace::key(namespace)) else {
        return true;
    };
    document::tree(record).map_or(true, |namespace| selector.matches_object(&namespace))
}

/// Either state of the object will do.
fn has_labels(selector: &Selector, old: Option<&Value>, new: Option<&Value>) -> bool {
    selector.is_everything()
        || [old, new]
            .into_iter()
            .flatten()
            .any(|object| object.get("metadata").is_some() && selector.matches_object(object))
        || (object_without_labels(old) && object_without_labels(new) && selector.matches(|_| None))
}

fn object_without_labels(object: Option<&Value>) -> bool {
    object.is_none_or(|object| object::get(object, "metadata.labels").is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_and_their_parts() {
        let cases = [
            ("pods", "pods", "", true),
            ("pods", "pods", "status", false),
            ("pods/*", "pods", "status", true),
            ("pods/status", "pods", "status", true),
            ("*", "pods", "", true),
            ("*", "pods", "exec", false),
            ("*/scale", "deployments", "scale", true),
            ("*/*", "pods", "exec", true),
            ("*/*", "pods", "", true),
            ("services", "pods", "", false),
        ];
        for (pattern, plural, part, wanted) in cases {
            assert_eq!(is_resource(pattern, plural, part), wanted, "{pattern} {plural}/{part}");
        }
    }
}
