//! The rows of the group `rbac.authorization.k8s.io`.

use super::{Kind, NameRule, Strategy};
use crate::{defaults, table, validate};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The kinds of `rbac.authorization.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    vec![
        binding(
            "ClusterRoleBinding",
            "clusterrolebindings",
            "k8s.io/api/rbac/v1.ClusterRoleBinding",
        )
        .cluster(),
        cluster_role(),
        binding("RoleBinding", "rolebindings", "k8s.io/api/rbac/v1.RoleBinding"),
        role(),
    ]
}

fn role() -> Kind {
    Kind::new(GROUP, "v1", "Role", "roles", "k8s.io/api/rbac/v1.Role")
        .created_on_update()
        .with(Strategy {
            name: NameRule::PathSegment,
            validate: validate::rbac::role,
            ..Strategy::NONE
        })
}

fn cluster_role() -> Kind {
    Kind::new(
        GROUP,
        "v1",
        "ClusterRole",
        "clusterroles",
        "k8s.io/api/rbac/v1.ClusterRole",
    )
    .cluster()
    .created_on_update()
    .with(Strategy {
        name: NameRule::PathSegment,
        validate: validate::rbac::cluster_role,
        ..Strategy::NONE
    })
}

fn binding(kind: &'static str, plural: &'static str, go_type: &'static str) -> Kind {
    Kind::new(GROUP, "v1", kind, plural, go_type)
        .created_on_update()
        .printed(table::rbac::BINDING, table::rbac::binding)
        .with(Strategy {
            name: NameRule::PathSegment,
            default: defaults::rbac::binding,
            validate: validate::rbac::binding,
            validate_update: validate::rbac::binding_update,
            ..Strategy::NONE
        })
}
