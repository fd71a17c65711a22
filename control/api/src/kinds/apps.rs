//! The rows of the group `apps`.

use super::{Kind, Strategy};
use crate::{defaults, table, validate};

/// The kinds of `apps/v1`.
pub fn kinds() -> Vec<Kind> {
    vec![deployment(), replica_set()]
}

fn deployment() -> Kind {
    Kind::new(
        "apps",
        "v1",
        "Deployment",
        "deployments",
        "k8s.io/api/apps/v1.Deployment",
    )
    .short(&["deploy"])
    .in_all()
    .with_status()
    .with_scale()
    .with_generation()
    .printed(table::apps::DEPLOYMENT, table::apps::deployment)
    .with(Strategy {
        default: defaults::apps::deployment,
        validate: validate::apps::deployment,
        validate_update: validate::apps::selector_update,
        ..Strategy::NONE
    })
}

fn replica_set() -> Kind {
    Kind::new(
        "apps",
        "v1",
        "ReplicaSet",
        "replicasets",
        "k8s.io/api/apps/v1.ReplicaSet",
    )
    .short(&["rs"])
    .in_all()
    .with_status()
    .with_scale()
    .with_generation()
    .selectable_as("status.replicas", &["status.replicas"], "0")
    .printed(table::apps::REPLICA_SET, table::apps::replica_set)
    .with(Strategy {
        default: defaults::apps::replica_set,
        validate: validate::apps::replica_set,
        validate_update: validate::apps::selector_update,
        ..Strategy::NONE
    })
}
