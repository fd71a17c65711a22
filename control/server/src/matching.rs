//! Which writes webhooks and policies of users concern. Pure.

use std::sync::Arc;

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
    /// Whether a rule about one version of a kind means all of its versions.
    equivalent: bool,
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
            equivalent: object::text(owner, "matchPolicy") != "Exact",
        }
    }

    /// Whether a write is meant. Without rules, the selectors alone decide.
    pub(crate) fn match_further(&self, asked: &Asked<'_>, snapshot: &Snapshot, object: Option<&Value>) -> bool {
        (self.rules.is_empty() || self.named(&self.rules, asked).is_some()) && self.selects(asked, snapshot, object)
    }

    /// The kind of this write in the version by which a rule names it, if one does and the selectors choose it.
    pub(crate) fn matches(&self, asked: &Asked<'_>, snapshot: &Snapshot, object: Option<&Value>) -> Option<Arc<Kind>> {
        self.named(&self.rules, asked)
            .filter(|_| self.selects(asked, snapshot, object))
    }

    fn selects(&self, asked: &Asked<'_>, snapshot: &Snapshot, object: Option<&Value>) -> bool {
        self.named(&self.excluded, asked).is_none()
            && in_namespace(&self.namespaces, asked, snapshot, object)
            && has_labels(&self.objects, asked.old, object)
    }

    /// The kind by which one of the rules names a write: the one that was asked for, or else another version of it.
    fn named(&self, rules: &[Rule], asked: &Asked<'_>) -> Option<Arc<Kind>> {
        let mut due = rules.iter().filter(|rule| rule.concerns(asked)).peekable();
        due.peek()?;
        let due: Vec<&Rule> = due.collect();
        let named = |kind: &Kind| due.iter().any(|rule| rule.names(kind, asked.subresource));
        if named(asked.shown) {
            return Some(asked.shown.clone());
        }
        let served = asked.core.serving.current();
        let mut others = served.kinds.iter().filter(|_| self.equivalent);
        others.find(|kind| is_same(kind, asked.shown) && named(kind)).cloned()
    }
}

/// Whether two rows are versions of the same kind.
fn is_same(one: &Kind, other: &Kind) -> bool {
    match (&one.custom, &other.custom) {
        (Some(one), Some(other)) => one.definition == other.definition,
        (None, None) => home(one) == home(other),
        _ => false,
    }
}

/// Under which group, version and plural the objects of a kind are stored.
fn home(kind: &Kind) -> (&str, &str, &str) {
    kind.conversion
        .map_or((&*kind.group, &*kind.version, &*kind.plural), |conversion| {
            conversion.stored_as
        })
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

    /// Whether the rule is about such an operation in such a place.
    fn concerns(&self, asked: &Asked<'_>) -> bool {
        // A namespace is cluster-wide, though its own requests are in it.
        let scope = match self.scope.as_str() {
            "Cluster" => !asked.kind.namespaced,
            "Namespaced" => asked.kind.namespaced,
            _ => true,
        };
        scope
            && has(&self.operations, asked.operation.name())
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
    }

    /// Whether the rule names a kind, or a part of it.
    fn names(&self, kind: &Kind, subresource: &str) -> bool {
        has(&self.groups, &kind.group)
            && has(&self.versions, &kind.version)
            && self
                .resources
                .iter()
                .any(|resource| is_resource(resource, &kind.plural, subresource))
    }
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == value)
}

/// Kinds that no webhook and no policy sees: those by which they are set up, and those by which rights are asked.
pub(crate) fn is_exempt(kind: &Kind) -> bool {
    matches!(
        kind.group.as_ref(),
        GROUP | "authentication.k8s.io" | "authorization.k8s.io"
    )
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
