//! Which writes webhooks and policies of users concern. Pure.

use coracle_api::kinds::Kind;
use coracle_api::object;
use coracle_api::selector::LabelSelector as Selector;
use coracle_store::Snapshot;
use serde_json::Value;

use crate::webhook::{Asked, GROUP};
use crate::{admission, document};

/// Which writes something concerns.
#[derive(Debug)]
pub(crate) struct Constraints {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    namespaces: Selector,
    objects: Selector,
}

/// Operations on resources.
#[derive(Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    /// The only objects; all, if none are named.
    names: Vec<String>,
    scope: String,
}

impl Constraints {
    /// Reads what a webhook, a policy or a binding says. `rules` is the field with the rules.
    pub(crate) fn of(owner: &Value, rules: &str) -> Self {
        // What cannot be read selects everything: what guards something must not be lost.
        let selector = |name: &str| match owner.get(name) {
            Some(selector) => Selector::from_object(selector).unwrap_or_else(|_| Selector::everything()),
            None => Selector::everything(),
        };
        let listed = |name: &str| object::list(owner, name).iter().map(Rule::of).collect();
        Self {
            rules: listed(rules),
            excluded: listed("excludeResourceRules"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// Whether a write is meant. Without rules, the selectors alone decide.
    pub(crate) fn match_further(&self, asked: &Asked<'_>, snapshot: &Snapshot, object: Option<&Value>) -> bool {
        let named = self.rules.is_empty() || self.rules.iter().any(|rule| names(rule, asked));
        named && self.selects(asked, snapshot, object)
    }

    /// Whether a rule names this write, and the selectors choose it.
    pub(crate) fn matches(&self, asked: &Asked<'_>, snapshot: &Snapshot, object: Option<&Value>) -> bool {
        self.rules.iter().any(|rule| names(rule, asked)) && self.selects(asked, snapshot, object)
    }

    fn selects(&self, asked: &Asked<'_>, snapshot: &Snapshot, object: Option<&Value>) -> bool {
        !self.excluded.iter().any(|rule| names(rule, asked))
            && in_namespace(&self.namespaces, asked, snapshot, object)
            && has_labels(&self.objects, asked.old, object)
    }
}

impl Rule {
    fn of(rule: &Value) -> Self {
        let texts = |name: &str| -> Vec<String> {
            let values = object::list(rule, name).iter();
            values.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            scope: object::text(rule, "scope").to_owned(),
        }
    }
}

/// Kinds that no webhook and no policy sees: those by which they are set up, and those by which rights are asked.
pub(crate) fn is_exempt(kind: &Kind) -> bool {
    matches!(
        kind.group.as_ref(),
        GROUP | "authentication.k8s.io" | "authorization.k8s.io"
    )
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
        && (rule.names.is_empty() || rule.names.iter().any(|name| name == asked.name))
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
