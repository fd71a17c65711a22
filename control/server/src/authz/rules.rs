//! The decision itself: does some rule of some role that is bound to this subject match the request?
//!
//! Pure. A policy is compiled from a snapshot and never changes.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_api::object;
use coracle_store::Snapshot;
use serde_json::{Value, json};

use super::PREFIXES;
pub(crate) use super::cover::uncovered;
use crate::document::{parse, place};
use crate::identity::Identity;

/// What a request wants to do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    /// The path of a request that is for no resource.
    pub(crate) path: Option<&'a str>,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
    /// A list or watch that a field selector narrows to one object has its name.
    pub(crate) name: Option<&'a str>,
    /// The node to whose pods a field selector narrows a list or watch.
    pub(crate) node: Option<&'a str>,
}

/// Who wants to do it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) user: &'a str,
    pub(crate) groups: &'a [String],
}

impl<'a> Subject<'a> {
    pub(crate) fn of(identity: &'a Identity) -> Self {
        Self {
            user: &identity.user,
            groups: &identity.groups,
        }
    }
}

/// One rule of a role.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(super) verbs: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) paths: Vec<String>,
}

/// A role that somebody has, everywhere or in one namespace.
#[derive(Debug)]
struct Grant {
    namespace: Option<String>,
    rules: Arc<[Rule]>,
}

/// All roles and bindings of one revision, by subject.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) revision: u64,
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

impl Policy {
    /// Reads the roles and bindings of a snapshot. A binding whose role does not exist grants nothing; one that cannot be
    /// read neither.
    pub(crate) fn compile(snapshot: &Snapshot) -> Self {
        let [cluster_roles, cluster_bindings, roles, bindings] = PREFIXES;
        let mut known: HashMap<(String, String), Arc<[Rule]>> = HashMap::new();
        for record in snapshot.range(cluster_roles, None).chain(snapshot.range(roles, None)) {
            let (namespace, name) = place(record.key.as_str());
            if let Ok(role) = parse(&record.json) {
                known.insert((namespace.to_owned(), name.to_owned()), rules(&role));
            }
        }
        let mut policy = Self {
            revision: snapshot.revision(),
            ..Self::default()
        };
        for record in snapshot
            .range(cluster_bindings, None)
            .chain(snapshot.range(bindings, None))
        {
            let (namespace, _) = place(record.key.as_str());
            let Ok(binding) = parse(&record.json) else { continue };
            let role_namespace = if object::text(&binding, "roleRef.kind") == "Role" {
                namespace
            } else {
                ""
            };
            let role = (
                role_namespace.to_owned(),
                object::text(&binding, "roleRef.name").to_owned(),
            );
            if let Some(rules) = known.get(&role) {
                policy.bind(&binding, namespace, rules);
            }
        }
        policy
    }

    fn bind(&mut self, binding: &Value, namespace: &str, rules: &Arc<[Rule]>) {
        for subject in object::list(binding, "subjects") {
            let name = object::text(subject, "name");
            let grants = match object::text(subject, "kind") {
                "User" => self.users.entry(name.to_owned()),
                "Group" => self.groups.entry(name.to_owned()),
                "ServiceAccount" => {
                    let home = match object::text(subject, "namespace") {
                        "" => namespace,
                        home => home,
                    };
                    self.users.entry(format!("system:serviceaccount:{home}:{name}"))
                }
                _ => continue,
            };
            let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
            grants.or_default().push(Grant {
                namespace,
                rules: rules.clone(),
            });
        }
    }

    /// The rules that a subject has in a namespace, those from everywhere included.
    pub(crate) fn rules_in<'a>(&'a self, subject: &Subject<'_>, namespace: &'a str) -> impl Iterator<Item = &'a Rule> {
        let grants = self.grants(subject);
        grants
            .filter(move |grant| grant.namespace.as_deref().is_none_or(|own| own == namespace))
            .flat_map(|grant| grant.rules.iter())
    }

    fn grants<'a>(&'a self, subject: &Subject<'_>) -> impl Iterator<Item = &'a Grant> + use<'a> {
        let own = self.users.get(subject.user).into_iter();
        let shared = subject.groups.iter().filter_map(|group| self.groups.get(group));
        let found: Vec<&Vec<Grant>> = own.chain(shared).collect();
        found.into_iter().flatten()
    }

    /// Whether some rule allows it.
    pub(crate) fn allows(&self, subject: &Subject<'_>, attributes: &Attributes<'_>) -> bool {
        let own = self.users.get(subject.user).into_iter();
        let shared = subject.groups.iter().filter_map(|group| self.groups.get(group));
        own.chain(shared).flatten().any(|grant| grant.allows(attributes))
    }
}

impl Grant {
    fn allows(&self, attributes: &Attributes<'_>) -> bool {
        let here = match &self.namespace {
            None => true,
            Some(namespace) => attributes.path.is_none() && attributes.namespace == Some(namespace),
        };
        here && self.rules.iter().any(|rule| rule.allows(attributes))
    }
}

impl Rule {
    /// As it stands in a role; a rule for every path has no resources.
    pub(crate) fn to_value(&self) -> Value {
        let mut rule = json!({"verbs": self.verbs});
        let lists = [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ];
        for (field, list) in lists {
            if !list.is_empty() {
                object::set(&mut rule, field, json!(list));
            }
        }
        rule
    }

    pub(crate) fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !listed(&self.verbs, attributes.verb) {
            return false;
        }
        match attributes.path {
            Some(path) => self.paths.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => path.starts_with(start),
                None => path == pattern,
            }),
            None => {
                listed(&self.groups, attributes.group)
                    && self.resources.iter().any(|pattern| covers(pattern, attributes))
                    && (self.names.is_empty()
                        || attributes.name.is_some_and(|name| self.names.iter().any(|n| n == name)))
            }
        }
    }
}

fn listed(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

/// `pods` is the resource itself, `pods/log` and `*/log` a part of it, `*` everything.
fn covers(pattern: &str, attributes: &Attributes<'_>) -> bool {
    match (pattern.split_once('/'), attributes.subresource) {
        _ if pattern == "*" => true,
        (None, None) => pattern == attributes.resource,
        (Some((resource, sub)), Some(wanted)) => (resource == "*" || resource == attributes.resource) && sub == wanted,
        _ => false,
    }
}

/// The rules that stand in a role.
pub(crate) fn rules(role: &Value) -> Arc<[Rule]> {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        object::list(rule, field)
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect()
    };
    object::list(role, "rules")
        .iter()
        .map(|rule| Rule {
            verbs: texts(rule, "verbs"),
            groups: texts(rule, "apiGroups"),
            resources: texts(rule, "resources"),
            names: texts(rule, "resourceNames"),
            paths: texts(rule, "nonResourceURLs"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(bindings: &[(Option<&str>, Value, Value)]) -> Policy {
        let mut policy = Policy::default();
        for (namespace, role, subjects) in bindings {
            policy.bind(
                &json!({"subjects": subjects}),
                namespace.unwrap_or_default(),
                &rules(role),
            );
        }
        policy
    }

    fn allowed(policy: &Policy, user: &str, groups: &[&str], attributes: Attributes<'_>) -> bool {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        policy.allows(&Subject { user, groups: &groups }, &attributes)
    }

    fn pods<'a>(verb: &'a str, namespace: Option<&'a str>) -> Attributes<'a> {
        Attributes {
            verb,
            resource: "pods",
            namespace,
            ..Attributes::default()
        }
    }

    #[test]
    fn a_binding_in_a_namespace_ends_at_its_border() {
        let role = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
        let policy = policy(&[(Some("a"), role, json!([{"kind": "User", "name": "ann"}]))]);
        assert!(allowed(&policy, "ann", &[], pods("get", Some("a"))));
        assert!(!allowed(&policy, "ann", &[], pods("get", Some("b"))));
        assert!(!allowed(&policy, "ann", &[], pods("get", None)));
        assert!(!allowed(&policy, "ann", &[], pods("list", Some("a"))));
        assert!(!allowed(&policy, "bob", &[], pods("get", Some("a"))));
    }

    #[test]
    fn subresources_and_names() {
        let role = json!({"rules": [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log", "*/status"]},
            {"verbs": ["update"], "apiGroups": ["*"], "resources": ["pods"], "resourceNames": ["one"]},
        ]});
        let policy = policy(&[(None, role, json!([{"kind": "Group", "name": "dev"}]))]);
        let part = |subresource| Attributes {
            subresource: Some(subresource),
            ..pods("get", Some("a"))
        };
        assert!(allowed(&policy, "x", &["dev"], part("log")));
        assert!(allowed(&policy, "x", &["dev"], part("status")));
        assert!(!allowed(&policy, "x", &["dev"], part("exec")));
        assert!(!allowed(&policy, "x", &["dev"], pods("get", Some("a"))));
        let named = |name| Attributes {
            name: Some(name),
            ..pods("update", Some("a"))
        };
        assert!(allowed(&policy, "x", &["dev"], named("one")));
        assert!(!allowed(&policy, "x", &["dev"], named("two")));
        assert!(!allowed(&policy, "x", &["dev"], pods("update", Some("a"))));
    }

    #[test]
    fn paths_match_by_prefix() {
        let role = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]}]});
        let policy = policy(&[(
            None,
            role,
            json!([{"kind": "ServiceAccount", "name": "sa", "namespace": "n"}]),
        )]);
        let path = |path| Attributes {
            verb: "get",
            path: Some(path),
            ..Attributes::default()
        };
        assert!(allowed(&policy, "system:serviceaccount:n:sa", &[], path("/api/v1")));
        assert!(allowed(&policy, "system:serviceaccount:n:sa", &[], path("/healthz")));
        assert!(!allowed(&policy, "system:serviceaccount:n:sa", &[], path("/healthz/x")));
    }
}
