//! The rows of the group `batch`.

use super::{Kind, Propagation, Strategy};
use crate::{defaults, prepare, table, validate};

/// The kinds of `batch/v1`.
pub fn kinds() -> Vec<Kind> {
    vec![cron_job(), job()]
}

fn cron_job() -> Kind {
    Kind::new("batch", "v1", "CronJob", "cronjobs", "k8s.io/api/batch/v1.CronJob")
        .short(&["cj"])
        .in_all()
        .with_status()
        .with_generation()
        .printed(table::batch::CRON_JOB, table::batch::cron_job)
        .with(Strategy {
            default: defaults::batch::cron_job,
            validate: validate::cron_job::cron_job,
            ..Strategy::NONE
        })
}

fn job() -> Kind {
    let mut job = Kind::new("batch", "v1", "Job", "jobs", "k8s.io/api/batch/v1.Job")
        .in_all()
        .with_status()
        .with_generation()
        .selectable_as("status.successful", &["status.succeeded"], "0")
        .printed(table::batch::JOB, table::batch::job)
        .with(Strategy {
            default: defaults::batch::job,
            validate: validate::job::job,
            validate_update: validate::job::update,
            prepare_create: prepare::workloads::create_job,
            ..Strategy::NONE
        });
    job.propagation = Propagation::Orphan;
    job
}
