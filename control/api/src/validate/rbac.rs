//! Rules of roles and bindings.

use super::names;
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks a Role.
pub fn role(role: &Value, faults: &mut Vec<FieldError>) {
    rules(role, true, faults);
}

/// Checks a ClusterRole, whose rules may also name paths.
pub fn cluster_role(role: &Value, faults: &mut Vec<FieldError>) {
    rules(role, false, faults);
    let path = Path::root("aggregationRule");
    if object::get(role, "aggregationRule").is_some()
        && object::list(role, "aggregationRule.clusterRoleSelectors").is_empty()
    {
        faults.push(FieldError::required(
            path.child("clusterRoleSelectors"),
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        ));
    }
}

fn rules(role: &Value, namespaced: bool, faults: &mut Vec<FieldError>) {
    let path = Path::root("rules");
    for (index, rule) in object::list(role, "rules").iter().enumerate() {
        let at = path.index(index);
        let empty = |field| object::list(rule, field).is_empty();
        if empty("verbs") {
            faults.push(FieldError::required(
                at.child("verbs"),
                "verbs must contain at least one value",
            ));
        }
        if !empty("nonResourceURLs") {
            let urls = Value::from(object::list(rule, "nonResourceURLs"));
            if namespaced {
                faults.push(FieldError::invalid(
                    at.child("nonResourceURLs"),
                    urls.clone(),
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
                faults.push(FieldError::invalid(
                    at.child("nonResourceURLs"),
                    urls.clone(),
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if empty("apiGroups") {
            faults.push(FieldError::required(
                at.child("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if empty("resources") {
            faults.push(FieldError::required(
                at.child("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
}

/// Checks a RoleBinding or ClusterRoleBinding. Which of them it is shows in the namespace.
pub fn binding(binding: &Value, faults: &mut Vec<FieldError>) {
    let namespaced = !object::namespace(binding).is_empty();
    let path = Path::root("roleRef");
    let group = object::text(binding, "roleRef.apiGroup");
    if group != GROUP {
        faults.push(FieldError::not_supported(path.child("apiGroup"), group, &[GROUP]));
    }
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    let kind = object::text(binding, "roleRef.kind");
    if !kinds.contains(&kind) {
        faults.push(FieldError::not_supported(path.child("kind"), kind, kinds));
    }
    match object::text(binding, "roleRef.name") {
        "" => faults.push(FieldError::required(path.child("name"), "")),
        name => {
            for fault in names::path_segment(name) {
                faults.push(FieldError::invalid(path.child("name"), name, fault));
            }
        }
    }
    let subjects = Path::root("subjects");
    for (index, found) in object::list(binding, "subjects").iter().enumerate() {
        subject(found, namespaced, subjects.index(index), faults);
    }
}

fn subject(subject: &Value, namespaced: bool, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let (name, kind, group) = (
        object::text(subject, "name"),
        object::text(subject, "kind"),
        object::text(subject, "apiGroup"),
    );
    if name.is_empty() {
        faults.push(FieldError::required(path.child("name"), ""));
    }
    let wanted = match kind {
        "ServiceAccount" => "",
        "User" | "Group" => GROUP,
        _ => {
            faults.push(FieldError::not_supported(
                path.child("kind"),
                kind,
                &["ServiceAccount", "User", "Group"],
            ));
            return;
        }
    };
    if group != wanted {
        faults.push(FieldError::not_supported(path.child("apiGroup"), group, &[wanted]));
    }
    if kind == "ServiceAccount" {
        for fault in names::dns_subdomain(name).into_iter().filter(|_| !name.is_empty()) {
            faults.push(FieldError::invalid(path.child("name"), name, fault));
        }
        if !namespaced && object::text(subject, "namespace").is_empty() {
            faults.push(FieldError::required(path.child("namespace"), ""));
        }
    }
}

/// A binding never changes its role: who may bind one role may not thereby bind another.
pub fn binding_update(new: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    if new.get("roleRef") != old.get("roleRef") {
        let found = new.get("roleRef").cloned().unwrap_or_default();
        faults.push(FieldError::invalid(
            Path::root("roleRef"),
            found,
            "cannot change roleRef",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(check: fn(&Value, &mut Vec<FieldError>), object: Value) -> Vec<String> {
        let mut faults = Vec::new();
        check(&object, &mut faults);
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn rules_name_verbs_and_resources_or_paths() {
        let fine = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
        assert!(paths(role, fine).is_empty());
        assert_eq!(
            paths(role, json!({"rules": [{}]})),
            ["rules[0].verbs", "rules[0].apiGroups", "rules[0].resources"]
        );
        let urls = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]});
        assert!(paths(cluster_role, urls.clone()).is_empty());
        assert_eq!(paths(role, urls), ["rules[0].nonResourceURLs"]);
    }

    #[test]
    fn bindings_name_a_role_and_subjects() {
        let reference = |kind: &str| json!({"apiGroup": GROUP, "kind": kind, "name": "r"});
        let account = json!({"kind": "ServiceAccount", "name": "s"});
        assert!(
            paths(
                binding,
                json!({"metadata": {"namespace": "n"}, "roleRef": reference("Role"), "subjects": [account]})
            )
            .is_empty()
        );
        assert_eq!(
            paths(binding, json!({"roleRef": reference("Role"), "subjects": [account]})),
            ["roleRef.kind", "subjects[0].namespace"]
        );
        assert_eq!(
            paths(
                binding,
                json!({"roleRef": {"kind": "ClusterRole"}, "subjects": [{"kind": "Robot", "name": "x"}]})
            )
            .len(),
            3
        );
        let mut faults = Vec::new();
        binding_update(
            &json!({"roleRef": reference("Role")}),
            &json!({"roleRef": reference("ClusterRole")}),
            &mut faults,
        );
        assert!(faults[0].to_string().ends_with("cannot change roleRef"));
    }
}
