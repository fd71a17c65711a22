//! Rows of jobs and cron jobs.

use super::{NAME, age, containers, images, is_true, length, name, number, selector, since, text, text_or_none, wide};
use crate::kinds::Column;
use crate::{object, time};
use serde_json::Value;

/// Columns of jobs.
pub const JOB: &[Column] = &[
    NAME,
    text("Status"),
    text("Completions"),
    text("Duration"),
    text("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

/// Cells of a job.
pub fn job(job: &Value, now: i64) -> Vec<Value> {
    let mut cells = vec![
        name(job),
        Value::from(status(job)),
        Value::from(completions(job)),
        Value::from(duration(job, now)),
        age(job, now),
    ];
    cells.extend(template(object::get(job, "spec")));
    cells
}

fn status(job: &Value) -> &'static str {
    let ended = ["Complete", "Failed"]
        .into_iter()
        .find(|condition| is_true(job, condition));
    let leaving = || object::deletion_timestamp(job).map(|_| "Terminating");
    let waiting = || {
        let known = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
        known.into_iter().find(|condition| is_true(job, condition))
    };
    ended.or_else(leaving).or_else(waiting).unwrap_or("Running")
}

fn completions(job: &Value) -> String {
    let succeeded = object::integer(job, "status.succeeded").unwrap_or_default();
    let parallelism = object::integer(job, "spec.parallelism").unwrap_or_default();
    match object::integer(job, "spec.completions") {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: i64) -> String {
    let Some(start) = time::parse(object::text(job, "status.startTime")) else {
        return String::new();
    };
    let failed = object::list(job, "status.conditions")
        .iter()
        .find(|one| object::text(one, "type") == "Failed" && object::text(one, "status") == "True");
    let end = time::parse(object::text(job, "status.completionTime"))
        .or_else(|| time::parse(object::text(failed?, "lastTransitionTime")));
    time::duration(end.unwrap_or(now).saturating_sub(start))
}

fn template(spec: Option<&Value>) -> [Value; 3] {
    let spec = spec.unwrap_or(&Value::Null);
    let pod = object::get(spec, "template.spec").unwrap_or(&Value::Null);
    [containers(pod), images(pod), selector(object::get(spec, "selector"))]
}

/// Columns of cron jobs.
pub const CRON_JOB: &[Column] = &[
    NAME,
    text("Schedule"),
    text("Timezone"),
    text("Suspend"),
    number("Active"),
    text("Last Schedule"),
    text("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

/// Cells of a cron job.
pub fn cron_job(job: &Value, now: i64) -> Vec<Value> {
    let suspended = if object::truth(job, "spec.suspend") {
        "True"
    } else {
        "False"
    };
    let mut cells = vec![
        name(job),
        Value::from(object::text(job, "spec.schedule")),
        text_or_none(job, "spec.timeZone"),
        Value::from(suspended),
        length(job, "status.active"),
        since(job, "status.lastScheduleTime", now, "<none>"),
        age(job, now),
    ];
    cells.extend(template(object::get(job, "spec.jobTemplate.spec")));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_prints_how_far_it_is() {
        let mut object = json!({
            "metadata": {"name": "j", "creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"completions": 3, "parallelism": 2},
            "status": {"succeeded": 1, "startTime": "1970-01-01T00:00:10Z"},
        });
        let now = 40 * time::SECOND;
        assert_eq!(
            Value::from(job(&object, now)),
            json!(["j", "Running", "1/3", "30s", "40s", "", "", "<none>"])
        );
        object["status"]["completionTime"] = json!("1970-01-01T00:00:15Z");
        object["status"]["conditions"] = json!([{"type": "Complete", "status": "True"}]);
        object["spec"]["completions"] = Value::Null;
        assert_eq!(
            job(&object, now)[1..4],
            [json!("Complete"), json!("1/1 of 2"), json!("5s")]
        );
    }

    #[test]
    fn a_cron_job_prints_its_schedule() {
        let object = json!({
            "metadata": {"name": "c", "creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"schedule": "* * * * *", "suspend": true},
            "status": {"active": [{}, {}], "lastScheduleTime": "1970-01-01T00:00:10Z"},
        });
        assert_eq!(
            cron_job(&object, 40 * time::SECOND)[..7],
            [
                json!("c"),
                json!("* * * * *"),
                json!("<none>"),
                json!("True"),
                json!(2),
                json!("30s"),
                json!("40s")
            ]
        );
    }
}
