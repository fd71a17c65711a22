//! The rows of the group `flowcontrol.apiserver.k8s.io`.

use super::{Kind, Strategy};
use crate::{defaults, table, validate};

fn row(kind: &'static str, plural: &'static str, go_type: &'static str) -> Kind {
    Kind::new("flowcontrol.apiserver.k8s.io", "v1", kind, plural, go_type)
        .cluster()
        .with_status()
        .with_generation()
}

/// The kinds of `flowcontrol.apiserver.k8s.io/v1`.
pub fn kinds() -> Vec<Kind> {
    let schema = row("FlowSchema", "flowschemas", "k8s.io/api/flowcontrol/v1.FlowSchema")
        .printed(table::flowcontrol::SCHEMA, table::flowcontrol::schema)
        .with(Strategy {
            default: defaults::flowcontrol::schema,
            validate: validate::flowcontrol::schema,
            ..Strategy::NONE
        });
    let level = row(
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        "k8s.io/api/flowcontrol/v1.PriorityLevelConfiguration",
    )
    .printed(table::flowcontrol::LEVEL, table::flowcontrol::level)
    .with(Strategy {
        default: defaults::flowcontrol::level,
        validate: validate::flowcontrol::level,
        ..Strategy::NONE
    });
    vec![schema, level]
}
