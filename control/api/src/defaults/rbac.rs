//! Defaults of role bindings.

use super::{fill_text, items, part};
use crate::object;
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles, users and groups are of the RBAC group; service accounts of the core group.
pub fn binding(binding: &mut Value) {
    part(binding, "roleRef")
        .into_iter()
        .for_each(|role| fill_text(role, "apiGroup", GROUP));
    for subject in items(binding, "subjects") {
        if matches!(object::text(subject, "kind"), "User" | "Group") {
            fill_text(subject, "apiGroup", GROUP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn groups_are_filled_in_except_for_service_accounts() {
        let mut binding = json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}]});
        super::binding(&mut binding);
        assert_eq!(
            binding,
            json!({"roleRef": {"kind": "Role", "name": "r", "apiGroup": GROUP}, "subjects": [{"kind": "User", "apiGroup": GROUP}, {"kind": "ServiceAccount"}]})
        );
    }
}
