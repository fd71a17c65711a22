//! What must hold of CronJobs: no time is served twice, and who forbids that Jobs overlap has no two at once.

use serde_json::Value;

use crate::{
    laws::{controller, is_deleting, of, text},
    ledger::{Change, Objects},
};

/// How many Jobs that have ended are kept where nothing else is said: as in Kubernetes.
const KEPT_SUCCESSFUL: i64 = 3;
const KEPT_FAILED: i64 = 1;

/// A Job that was made by a CronJob was due, and nothing is in its way.
pub fn judge(change: &Change<'_>, objects: &Objects) -> Result<(), String> {
    let (None, Some(job)) = (&change.before, change.after) else {
        return Ok(());
    };
    let Some(cron) = owner(job, objects) else { return Ok(()) };
    let due = text(
        job,
        "/metadata/annotations/batch.kubernetes.io~1cronjob-scheduled-timestamp",
    );
    let last = text(cron, "/status/lastScheduleTime");
    // Both are of one form, whose order is that of time.
    if !last.is_empty() && due <= last {
        return Err(format!("{} is for {due}, and {last} has been served", change.key));
    }
    let uid = text(cron, "/metadata/uid");
    let mut running =
        jobs(uid, objects).filter(|(key, job)| *key != change.key && !has_ended(job) && !is_deleting(job));
    match running.next() {
        Some((other, _)) if text(cron, "/spec/concurrencyPolicy") == "Forbid" => Err(format!(
            "{} was made while {other} runs, which is forbidden",
            change.key
        )),
        _ => Ok(()),
    }
}

/// What is still missing of a CronJob that is suspended.
pub fn settled(cron: &Value, objects: &Objects) -> Result<(), String> {
    let uid = text(cron, "/metadata/uid");
    let mut running: Vec<&str> = jobs(uid, objects)
        .filter(|(_, job)| !has_ended(job))
        .map(|(_, job)| text(job, "/metadata/uid"))
        .collect();
    let active = cron.pointer("/status/active").and_then(Value::as_array);
    let mut told: Vec<&str> = active.into_iter().flatten().map(|job| text(job, "/uid")).collect();
    running.sort_unstable();
    told.sort_unstable();
    if running != told {
        return Err(format!("its active jobs are {told:?} and should be {running:?}"));
    }
    for (condition, kept) in [("Complete", KEPT_SUCCESSFUL), ("Failed", KEPT_FAILED)] {
        let found = jobs(uid, objects).filter(|(_, job)| is(job, condition)).count() as i64;
        if found > kept {
            return Err(format!("{found} jobs that are {condition} are kept, of {kept} at most"));
        }
    }
    Ok(())
}

fn owner<'a>(job: &Value, objects: &'a Objects) -> Option<&'a Value> {
    let reference = controller(job).filter(|owner| text(owner, "/kind") == "CronJob")?;
    let (namespace, name) = (text(job, "/metadata/namespace"), text(reference, "/name"));
    let cron = objects.get(&format!("cronjobs.batch/{namespace}/{name}"))?;
    (text(cron, "/metadata/uid") == text(reference, "/uid")).then_some(cron)
}

fn jobs<'a>(uid: &'a str, objects: &'a Objects) -> impl Iterator<Item = (&'a str, &'a Value)> {
    of("jobs.batch", objects).filter(move |(_, job)| controller(job).is_some_and(|owner| text(owner, "/uid") == uid))
}

fn is(job: &Value, condition: &str) -> bool {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|found| text(found, "/type") == condition && text(found, "/status") == "True")
}

fn has_ended(job: &Value) -> bool {
    is(job, "Complete") || is(job, "Failed")
}
