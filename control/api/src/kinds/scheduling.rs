//! The rows of the group `scheduling.k8s.io`.

use super::{Kind, Strategy};
use crate::{defaults, table, validate};

/// The kinds of `scheduling.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    let go_type = "k8s.io/api/scheduling/v1.PriorityClass";
    let class = Kind::new("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", go_type)
        .cluster()
        .short(&["pc"])
        .with_generation()
        .printed(table::core::PRIORITY_CLASS, table::core::priority_class)
        .with(Strategy {
            default: defaults::core::priority_class,
            validate: validate::classes::priority_class,
            validate_update: validate::classes::priority_class_update,
            ..Strategy::NONE
        });
    vec![class]
}
