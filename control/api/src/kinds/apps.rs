//! The rows of the group `apps`.

use super::{Kind, Strategy};
use crate::{defaults, prepare, table, validate};

/// The kinds of `apps/v1`.
pub fn kinds() -> Vec<Kind> {
    vec![
        controller_revision(),
        daemon_set(),
        deployment(),
        replica_set(),
        stateful_set(),
    ]
}

fn row(kind: &'static str, plural: &'static str, go_type: &'static str) -> Kind {
    Kind::new("apps", "v1", kind, plural, go_type)
}

fn controller_revision() -> Kind {
    row(
        "ControllerRevision",
        "controllerrevisions",
        "k8s.io/api/apps/v1.ControllerRevision",
    )
    .printed(table::apps::CONTROLLER_REVISION, table::apps::controller_revision)
    .with(Strategy {
        validate: validate::apps::controller_revision,
        validate_update: validate::apps::controller_revision_update,
        ..Strategy::NONE
    })
}

fn daemon_set() -> Kind {
    row("DaemonSet", "daemonsets", "k8s.io/api/apps/v1.DaemonSet")
        .short(&["ds"])
        .in_all()
        .with_status()
        .with_generation()
        .printed(table::apps::DAEMON_SET, table::apps::daemon_set)
        .with(Strategy {
            default: defaults::apps::daemon_set,
            validate: validate::apps::daemon_set,
            validate_update: validate::apps::selector_update,
            prepare_create: prepare::workloads::create_daemon_set,
            prepare_update: prepare::workloads::update_daemon_set,
            ..Strategy::NONE
        })
}

fn stateful_set() -> Kind {
    row("StatefulSet", "statefulsets", "k8s.io/api/apps/v1.StatefulSet")
        .short(&["sts"])
        .in_all()
        .with_status()
        .with_scale()
        .with_generation()
        .printed(table::apps::STATEFUL_SET, table::apps::stateful_set)
        .with(Strategy {
            default: defaults::apps::stateful_set,
            validate: validate::stateful_set::stateful_set,
            validate_update: validate::stateful_set::update,
            ..Strategy::NONE
        })
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
