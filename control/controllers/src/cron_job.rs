//! CronJobs: a Job at each time of a schedule.
//!
//! Wants to be true: for the latest time of the schedule that has passed there is or was a Job, named after that time,
//! unless the CronJob is suspended, the start is too late, or an earlier Job still runs that must not be disturbed; of
//! the Jobs that are over only as many are kept as asked for. It must never start a second Job for the same time.

pub mod missed;
pub mod schedule;
pub mod zone;

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;

use crate::{
    clock::after_seconds,
    driver::{Controller, Turn},
    job::subject::{is, is_finished},
    key::Key,
    merge, owner,
    plan::{Action, EventDraft, Note, Plan, Target, controller_of, reference},
    resource::{CRON_JOBS, JOBS},
    store::Change,
    template,
    world::{Watch, World},
};
use schedule::Schedule;

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "cronjob-controller",
    resource: CRON_JOBS,
    watches: &[Watch::CronJob(itself), Watch::Job(of_job)],
    reconcile,
};

/// Looked at that much after the time itself, so that a clock that lags a little is not early.
const DELAY: Duration = Duration::from_millis(100);
/// Tells for which time a Job was started.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

fn itself(change: &Change<CronJob>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|cron| Key::of(&cron.metadata)));
}

fn of_job(change: &Change<Job>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(
        change
            .latest()
            .and_then(|job| owner::controller_key(&job.metadata, &CRON_JOBS)),
    );
}

/// Decides what to do about one CronJob.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(cron) = world.cron_jobs.get(key) else {
        return plan;
    };
    let spec = &cron.spec;
    let uid = cron.metadata.uid.as_deref().unwrap_or_default();
    let jobs = world.jobs.controlled_by(&key.namespace, uid);
    let (over, running): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| is_finished(job));
    let series = Series {
        cron: &cron,
        spec,
        running,
        over,
        now: turn.now,
        world,
    };
    let mut status = series.status(&mut plan);
    if cron.metadata.deletion_timestamp.is_none() {
        if spec.suspend != Some(true) {
            series.start(&mut status, &mut plan);
        }
        series.forget(&mut plan);
    }
    let old = cron.status.clone().unwrap_or_default();
    if let Some(patch) = merge::status(cron.metadata.uid.as_deref(), &old, &status) {
        plan.change(Action::status(Target::of(&CRON_JOBS, &cron.metadata), patch));
    }
    plan
}

struct Series<'a> {
    cron: &'a CronJob,
    spec: &'a CronJobSpec,
    running: Vec<Arc<Job>>,
    over: Vec<Arc<Job>>,
    now: Timestamp,
    world: &'a World,
}

impl Series<'_> {
    fn about(&self) -> ObjectReference {
        reference(&CRON_JOBS, &self.cron.metadata)
    }

    fn warn(&self, plan: &mut Plan, reason: &'static str, message: String) {
        plan.events.push(EventDraft::warning(self.about(), reason, message));
    }

    /// The status as the Jobs tell it; tells of those that have ended since the last one.
    fn status(&self, plan: &mut Plan) -> CronJobStatus {
        let mut status = self.cron.status.clone().unwrap_or_default();
        let before = status.active.take().unwrap_or_default();
        for job in &self.over {
            if before.iter().any(|active| active.uid == job.metadata.uid) {
                let condition = if is(job, "Complete") { "Complete" } else { "Failed" };
                let name = job.metadata.name.as_deref().unwrap_or_default();
                let message = format!("Saw completed job: {name}, condition: {condition}");
                plan.events
                    .push(EventDraft::normal(self.about(), "SawCompletedJob", message));
            }
            let completed = job.status.as_ref().and_then(|s| s.completion_time.clone());
            let latest = status.last_successful_time.as_ref().map(|time| time.0);
            if is(job, "Complete") && completed.as_ref().map(|time| time.0) > latest {
                status.last_successful_time = completed;
            }
        }
        let mut active: Vec<ObjectReference> = self
            .running
            .iter()
            .map(|job| ObjectReference {
                // The version changes with every pod; the reference should not.
                resource_version: before
                    .iter()
                    .find(|known| known.uid == job.metadata.uid)
                    .map_or(job.metadata.resource_version.clone(), |known| {
                        known.resource_version.clone()
                    }),
                ..reference(&JOBS, &job.metadata)
            })
            .collect();
        active.sort_by(|a, b| a.name.cmp(&b.name));
        status.active = (!active.is_empty()).then_some(active);
        status
    }

    /// The schedule and its zone; tells why not.
    fn timetable(&self, plan: &mut Plan) -> Option<(Schedule, TimeZone)> {
        let zone = match self.spec.time_zone.as_deref() {
            None | Some("") => TimeZone::UTC,
            Some(name) => match zone::find(name) {
                Some(zone) => zone,
                None => {
                    self.warn(
                        plan,
                        "UnknownTimeZone",
                        format!("invalid timeZone: {name:?}: unknown time zone {name}"),
                    );
                    return None;
                }
            },
        };
        match Schedule::parse(&self.spec.schedule) {
            Ok(schedule) => Some((schedule, zone)),
            Err(error) => {
                let message = format!("unparseable schedule: {}: {error}", self.spec.schedule);
                self.warn(plan, "UnparseableSchedule", message);
                None
            }
        }
    }

    fn start(&self, status: &mut CronJobStatus, plan: &mut Plan) {
        let Some((schedule, zone)) = self.timetable(plan) else {
            return;
        };
        if let Some(next) = schedule.next(self.now, &zone) {
            plan.requeue(next.checked_add(DELAY).unwrap_or(next));
        }
        let Some(due) = missed::due(&schedule, &zone, self.since(), self.now) else {
            return;
        };
        if due.starts > missed::MISSED_LIMIT {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.warn(plan, "TooManyMissedTimes", message.to_owned());
        }
        let deadline = self.spec.starting_deadline_seconds;
        if deadline.is_some_and(|seconds| after_seconds(due.at, seconds) < self.now) {
            let message = format!("Missed scheduled time to start a job: {}", due.at);
            return self.warn(plan, "MissSchedule", message);
        }
        match self.spec.concurrency_policy.as_deref() {
            Some("Forbid") if !self.running.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                plan.events
                    .push(EventDraft::normal(self.about(), "JobAlreadyActive", message.to_owned()));
                return;
            }
            Some("Replace") => plan.batch(self.running.iter().map(|job| self.deletion(job)).collect()),
            _ => {}
        }
        let namespace = self.cron.metadata.namespace.as_deref().unwrap_or_default();
        let name = format!(
            "{}-{}",
            self.cron.metadata.name.as_deref().unwrap_or_default(),
            due.at.as_second().div_euclid(60)
        );
        // It may have been created by a turn that did not come to write the status.
        if self.world.jobs.get(&Key::new(namespace, &name)).is_none() {
            plan.change(self.creation(namespace, &name, due.at, &zone));
        }
        status.last_schedule_time = Some(Time(due.at));
    }

    /// Times up to this one are done with.
    fn since(&self) -> Timestamp {
        let status = self.cron.status.as_ref();
        let last = status.and_then(|s| s.last_schedule_time.as_ref());
        let created = self.cron.metadata.creation_timestamp.as_ref();
        let since = last.or(created).map_or(self.now, |time| time.0);
        match self.spec.starting_deadline_seconds {
            Some(seconds) => since.max(after_seconds(self.now, seconds.saturating_neg())),
            None => since,
        }
    }

    fn creation(&self, namespace: &str, name: &str, at: Timestamp, zone: &TimeZone) -> Action {
        let meta = self.spec.job_template.metadata.clone().unwrap_or_default();
        let mut body = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": meta.labels.unwrap_or_default(),
                "annotations": meta.annotations.unwrap_or_default(),
                "ownerReferences": [controller_of(&CRON_JOBS, &self.cron.metadata)],
            },
            "spec": self.spec.job_template.spec.as_ref().map(merge::value),
        });
        let offset = zone.to_offset(at);
        let scheduled = at.display_with_offset(offset).to_string();
        template::set(&mut body, &["metadata", "annotations", SCHEDULED], scheduled.into());
        Action::create(&JOBS, namespace, body).noting(Note {
            about: self.about(),
            success: Some(("SuccessfulCreate", "Created job {name}".to_owned())),
            failure: Some(("FailedCreate", "Error creating job: {error}".to_owned())),
        })
    }

    fn deletion(&self, job: &Job) -> Action {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        Action::delete(&JOBS, &job.metadata).noting(Note {
            about: self.about(),
            success: Some(("SuccessfulDelete", format!("Deleted job {name}"))),
            failure: Some(("FailedDelete", "Deleted job: {error}".to_owned())),
        })
    }

    /// Deletes the oldest of the Jobs that are over, beyond those that are to be kept.
    fn forget(&self, plan: &mut Plan) {
        let limits = [
            ("Complete", self.spec.successful_jobs_history_limit.unwrap_or(3)),
            ("Failed", self.spec.failed_jobs_history_limit.unwrap_or(1)),
        ];
        for (outcome, limit) in limits {
            let mut jobs: Vec<&Arc<Job>> = self.over.iter().filter(|job| is(job, outcome)).collect();
            let started = |job: &Job| {
                job.status
                    .as_ref()
                    .and_then(|s| s.start_time.as_ref())
                    .map(|time| time.0)
            };
            jobs.sort_by_key(|job| (started(job), job.metadata.name.clone()));
            let surplus = jobs.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            let doomed = jobs
                .into_iter()
                .take(surplus)
                .filter(|job| job.metadata.deletion_timestamp.is_none());
            plan.batch(doomed.map(|job| self.deletion(job)).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        job,
        simulation::{Simulation, is_over, merge},
    };

    fn world(spec: Value) -> Simulation {
        let mut cron = json!({"kind": "CronJob", "metadata": {"name": "c", "namespace": "n", "uid": "c", "creationTimestamp": "2027-01-15T07:59:30Z"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}});
        merge(&mut cron["spec"], &spec);
        Simulation::of([cron])
    }

    /// Lets time go to `seconds` past the first minute; pods end at once if `ending`.
    fn pass(world: &mut Simulation, seconds: i64, ending: bool) {
        world.now = after_seconds("2027-01-15T08:00:00Z".parse().unwrap(), seconds);
        let node = |world: &mut Simulation| {
            if ending && let Some(pod) = world.pod(|pod| !is_over(pod)) {
                world.exit(pod, 0);
                return true;
            }
            world.end_one()
        };
        world.settle(&[("CronJob", reconcile), ("Job", job::reconcile)], node, |_| {});
    }

    #[test]
    fn each_minute_has_its_job_and_the_history_is_kept_short() {
        let mut world = world(json!({"timeZone": "Europe/Berlin"}));
        pass(&mut world, 0, true);
        let minute = world.now.as_second() / 60;
        assert_eq!(world.names("Job"), [format!("c-{minute}")]);
        let job = world.all("Job").next().unwrap();
        assert_eq!(job["metadata"]["annotations"][SCHEDULED], "2027-01-15T09:00:00+01:00");
        assert_eq!(job["metadata"]["labels"]["a"], "b");
        for i in 1..6 {
            pass(&mut world, 60 * i, true);
            assert_eq!(
                world.due,
                Some(after_seconds(world.now, 60).checked_add(DELAY).unwrap())
            );
        }
        assert_eq!(world.names("Job").len(), 3);
        let status = &world.get("CronJob", "c")["status"];
        assert_eq!(status["lastScheduleTime"], world.now.to_string());
        assert_eq!(status["lastSuccessfulTime"], world.now.to_string());
        assert!(status.get("active").is_none());
    }

    #[test]
    fn a_clock_that_jumps_starts_nothing_twice() {
        let mut world = world(json!({"successfulJobsHistoryLimit": 100}));
        pass(&mut world, 600, true);
        let started = world.names("Job").len();
        for back in [540, 0, 599] {
            pass(&mut world, back, true);
            assert_eq!(world.names("Job").len(), started, "{back}");
        }
        // A night asleep: what was missed is not made up for one by one.
        pass(&mut world, 600 + 8 * 3600, true);
        assert_eq!(world.names("Job").len(), started + 1);
    }

    #[test]
    fn what_still_runs_forbids_or_is_replaced() {
        let mut forbid = world(json!({"concurrencyPolicy": "Forbid"}));
        pass(&mut forbid, 0, false);
        pass(&mut forbid, 60, false);
        assert_eq!(forbid.names("Job").len(), 1);
        assert!(forbid.events.iter().any(|e| e.starts_with("JobAlreadyActive")));
        assert_eq!(
            forbid.get("CronJob", "c")["status"]["active"].as_array().unwrap().len(),
            1
        );
        let mut replace = world(json!({"concurrencyPolicy": "Replace"}));
        pass(&mut replace, 0, false);
        let first = replace.names("Job")[0].to_owned();
        pass(&mut replace, 60, false);
        assert_eq!(replace.names("Job").len(), 1);
        assert_ne!(replace.names("Job")[0], first);
        let mut allow = world(json!({}));
        pass(&mut allow, 0, false);
        pass(&mut allow, 60, false);
        assert_eq!(allow.names("Job").len(), 2);
    }

    #[test]
    fn a_start_that_is_too_late_is_dropped_and_the_latest_of_many_is_made_up_for() {
        let mut late = world(json!({"schedule": "0 * * * *", "startingDeadlineSeconds": 10}));
        pass(&mut late, 30, true);
        assert!(late.names("Job").is_empty());
        let mut many = world(json!({}));
        pass(&mut many, 60 * 500, true);
        assert_eq!(many.names("Job").len(), 1);
        assert!(many.events.iter().any(|e| e.starts_with("TooManyMissedTimes")));
    }

    #[test]
    fn suspended_or_unreadable_starts_nothing() {
        for spec in [
            json!({"suspend": true}),
            json!({"schedule": "never"}),
            json!({"timeZone": "Mars/Olympus"}),
        ] {
            let mut world = world(spec);
            pass(&mut world, 60, true);
            assert!(world.names("Job").is_empty());
        }
    }
}
