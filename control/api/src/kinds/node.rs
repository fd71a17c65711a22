//! The rows of the group `node.k8s.io`.

use super::{Kind, Strategy};
use crate::{table, validate};

/// The kinds of `node.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    let go_type = "k8s.io/api/node/v1.RuntimeClass";
    let class = Kind::new("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", go_type)
        .cluster()
        .printed(table::core::RUNTIME_CLASS, table::core::runtime_class)
        .with(Strategy {
            validate: validate::classes::runtime_class,
            validate_update: validate::classes::runtime_class_update,
            ..Strategy::NONE
        });
    vec![class]
}
