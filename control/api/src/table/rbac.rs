//! Rows of role bindings. Roles print in the general way.

use super::{NAME, age, name, text, wide};
use crate::kinds::Column;
use crate::object;
use serde_json::Value;

/// Columns of role bindings.
pub const BINDING: &[Column] = &[
    NAME,
    text("Role"),
    text("Age"),
    wide("Users"),
    wide("Groups"),
    wide("ServiceAccounts"),
];

/// Cells of a role binding.
pub fn binding(binding: &Value, now: i64) -> Vec<Value> {
    let role = format!(
        "{}/{}",
        object::text(binding, "roleRef.kind"),
        object::text(binding, "roleRef.name")
    );
    let subjects = |kind: &str| {
        let of_kind = object::list(binding, "subjects")
            .iter()
            .filter(|subject| object::text(subject, "kind") == kind);
        let names: Vec<String> = of_kind.map(subject).collect();
        Value::from(names.join(", "))
    };
    vec![
        name(binding),
        Value::from(role),
        age(binding, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn subject(subject: &Value) -> String {
    let name = object::text(subject, "name");
    match object::text(subject, "namespace") {
        "" => name.to_owned(),
        namespace => format!("{namespace}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_binding_prints_role_and_subjects() {
        let object = json!({
            "metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "User", "name": "v"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}],
        });
        assert_eq!(
            Value::from(binding(&object, 0)),
            json!(["b", "ClusterRole/view", "<unknown>", "u, v", "", "n/s"])
        );
    }
}
