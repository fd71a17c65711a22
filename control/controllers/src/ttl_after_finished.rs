//! Jobs that say how long they are of use once they are over, and are deleted then with their pods.
//!
//! It must never delete a Job that has changed since it was judged.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use crate::{
    clock::after_seconds,
    driver::{Controller, Turn},
    job::subject::is_finished,
    key::Key,
    plan::{Action, Plan, Propagation, Target, Verb},
    resource::JOBS,
    store::Change,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "ttl-after-finished-controller",
    resource: JOBS,
    watches: &[Watch::Job(itself)],
    reconcile,
};

fn itself(change: &Change<Job>, _: &World, keys: &mut Vec<Key>) {
    let job = change
        .new
        .as_ref()
        .filter(|job| seconds(job).is_some() && is_finished(job));
    keys.extend(job.map(|job| Key::of(&job.metadata)));
}

fn seconds(job: &Job) -> Option<i32> {
    job.spec.as_ref()?.ttl_seconds_after_finished
}

fn finished_at(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let over = |type_: &str| matches!(type_, "Complete" | "Failed");
    let over = conditions.iter().find(|c| over(&c.type_) && c.status == "True")?;
    over.last_transition_time.as_ref().map(|time| time.0)
}

/// Decides what to do about one Job.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(job) = world.jobs.get(key) else { return plan };
    if job.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let (Some(seconds), Some(finished)) = (seconds(&job), finished_at(&job)) else {
        return plan;
    };
    let due = after_seconds(finished, seconds.into());
    if due > turn.now {
        plan.requeue(due);
        return plan;
    }
    plan.change(Action {
        target: Target::of(&JOBS, &job.metadata),
        verb: Verb::Delete {
            uid: job.metadata.uid.clone().unwrap_or_default(),
            resource_version: job.metadata.resource_version.clone(),
            propagation: Propagation::Foreground,
            grace_period_seconds: None,
        },
        note: None,
    });
    plan
}
