//! Rules of cron jobs, and of the schedules that they follow.

use super::check::{not_negative, one_of};
use super::job;
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;

/// Longest name of a cron job: its jobs' names add eleven letters, and must fit a label.
pub const NAME_LIMIT: usize = 52;

/// Checks a cron job.
pub fn cron_job(job: &Value, faults: &mut Vec<FieldError>) {
    let path = Path::root("spec");
    let name = object::name(job);
    if name.len() > NAME_LIMIT {
        let metadata = Path::root("metadata");
        faults.push(FieldError::invalid(
            metadata.child("name"),
            name,
            "must be no more than 52 characters",
        ));
    }
    let nothing = Value::Null;
    let spec = job.get("spec").unwrap_or(&nothing);
    time(spec, path, faults);
    not_negative(spec, "startingDeadlineSeconds", path, faults);
    one_of(
        object::text(spec, "concurrencyPolicy"),
        &["Allow", "Forbid", "Replace"],
        path.child("concurrencyPolicy"),
        faults,
    );
    let inner = object::get(spec, "jobTemplate.spec").unwrap_or(&nothing);
    let template = path.child("jobTemplate");
    let here = template.child("spec");
    self::job::spec(inner, here, faults);
    if object::get(inner, "selector").is_some() {
        faults.push(FieldError::invalid(
            here.child("selector"),
            inner.get("selector").cloned().unwrap_or_default(),
            "`selector` will be auto-generated",
        ));
    }
    if object::truth(inner, "manualSelector") {
        faults.push(FieldError::not_supported(
            here.child("manualSelector"),
            true,
            &["nil", "false"],
        ));
    }
    not_negative(spec, "successfulJobsHistoryLimit", path, faults);
    not_negative(spec, "failedJobsHistoryLimit", path, faults);
}

fn time(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let zone = object::get(spec, "timeZone").and_then(Value::as_str);
    let schedule = object::text(spec, "schedule");
    let here = path.child("schedule");
    if schedule.is_empty() {
        faults.push(FieldError::required(here, ""));
    } else {
        let zoned = schedule.contains("TZ=");
        let rest = if zoned {
            schedule.split_once(' ').map_or("", |(_, rest)| rest)
        } else {
            schedule
        };
        if let Err(wrong) = read_schedule(rest.trim()) {
            faults.push(FieldError::invalid(here, schedule, wrong));
        }
        if zoned && zone.is_some() {
            let words = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            faults.push(FieldError::invalid(here, schedule, words));
        } else if zoned {
            let words = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            faults.push(FieldError::invalid(here, schedule, words));
        }
    }
    let Some(zone) = zone else { return };
    let here = path.child("timeZone");
    if zone.is_empty() {
        faults.push(FieldError::invalid(
            here,
            zone,
            "timeZone must be nil or non-empty string",
        ));
    } else if zone.eq_ignore_ascii_case("local") {
        let words = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        faults.push(FieldError::invalid(here, zone, words));
    } else if !is_zone_name(zone) {
        faults.push(FieldError::invalid(here, zone, format!("unknown time zone {zone}")));
    }
}

/// Whether a text has the form of a time zone's name. Which zones there are is for whoever has their data to say.
fn is_zone_name(zone: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_uppercase())
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'))
    };
    zone.split('/').all(part)
}

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const DESCRIPTORS: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// A field of a schedule: its least and greatest number, and names for the numbers from the least.
type Bounds = (u32, u32, &'static [&'static str]);

const FIELDS: [Bounds; 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, MONTHS), (0, 6, DAYS)];

/// Checks a schedule in the five-field form or by a word such as `@hourly`.
///
/// # Errors
/// What is wrong with it.
pub fn read_schedule(schedule: &str) -> Result<(), String> {
    if schedule.starts_with('@') {
        let every = schedule.strip_prefix("@every ");
        if DESCRIPTORS.contains(&schedule) || every.is_some_and(is_duration) {
            return Ok(());
        }
        return Err(match every {
            Some(_) => format!("failed to parse duration {schedule}: time: invalid duration"),
            None => format!("unrecognized descriptor: {schedule}"),
        });
    }
    let parts: Vec<&str> = schedule.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            parts.len(),
            parts.join(" ")
        ));
    }
    for (part, bounds) in parts.into_iter().zip(FIELDS) {
        part.split(',')
            .filter(|range| !range.is_empty())
            .try_for_each(|range| read_range(range, bounds))?;
    }
    Ok(())
}

/// `1h30m`: numbers with units.
fn is_duration(text: &str) -> bool {
    let units = ["ns", "us", "ms", "h", "m", "s"];
    let mut rest = text.trim();
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let after = units.iter().find_map(|unit| number.strip_prefix(unit));
        match after {
            Some(after) if number.len() < rest.len() => rest = after,
            _ => return false,
        }
    }
    true
}

/// `*`, `3`, `1-5`, each also with a step: `*/15`.
fn read_range(text: &str, bounds: Bounds) -> Result<(), String> {
    let (least, greatest, _) = bounds;
    let mut pieces = text.split('/');
    let range = pieces.next().unwrap_or_default();
    let step = pieces.next();
    if pieces.next().is_some() {
        return Err(format!("too many slashes: {text}"));
    }
    let (start, end) = match range.split_once('-') {
        _ if matches!(range, "*" | "?") => (least, greatest),
        Some((_, end)) if end.contains('-') => return Err(format!("too many hyphens: {text}")),
        Some((start, end)) => (read_number(start, bounds)?, read_number(end, bounds)?),
        None => {
            let start = read_number(range, bounds)?;
            (start, if step.is_some() { greatest } else { start })
        }
    };
    if let Some(step) = step
        && plain_number(step)? == 0
    {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    if start < least {
        return Err(format!("beginning of range ({start}) below minimum ({least}): {text}"));
    }
    if end > greatest {
        return Err(format!("end of range ({end}) above maximum ({greatest}): {text}"));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        ));
    }
    Ok(())
}

fn read_number(text: &str, (least, _, known): Bounds) -> Result<u32, String> {
    let named = known.iter().position(|name| name.eq_ignore_ascii_case(text));
    match named.and_then(|at| u32::try_from(at).ok()) {
        Some(at) => Ok(least + at),
        None => plain_number(text),
    }
}

fn plain_number(text: &str) -> Result<u32, String> {
    let wrong = |_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax");
    text.parse().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults;
    use serde_json::json;

    #[test]
    fn schedules_are_read_as_cron_reads_them() {
        for fine in [
            "* * * * *",
            "*/15 0-6,22 1 jan-jun MON-FRI",
            "0 0 ? * 0",
            "5/10 * * * *",
            "@hourly",
            "@every 1h30m",
        ] {
            assert_eq!(read_schedule(fine), Ok(()), "{fine}");
        }
        let cases = [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("@often", "unrecognized descriptor: @often"),
        ];
        for (schedule, wanted) in cases {
            assert_eq!(read_schedule(schedule), Err(wanted.to_owned()));
        }
    }

    #[test]
    fn cron_jobs_are_refused_in_the_words_of_kubernetes() {
        let faults_of = |change: Value| {
            let template = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]}}}});
            let mut object =
                json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *", "jobTemplate": template}});
            crate::patch::merge(&mut object, &change);
            defaults::batch::cron_job(&mut object);
            let mut faults = Vec::new();
            cron_job(&object, &mut faults);
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let cases = [
            (
                json!({"metadata": {"name": "c".repeat(53)}}),
                format!("metadata.name: Invalid value: \"{}\": must be no more than 52 characters", "c".repeat(53)),
            ),
            (json!({"spec": {"schedule": ""}}), "spec.schedule: Required value".to_owned()),
            (
                json!({"spec": {"timeZone": "mars"}}),
                "spec.timeZone: Invalid value: \"mars\": unknown time zone mars".to_owned(),
            ),
            (
                json!({"spec": {"concurrencyPolicy": "Maybe"}}),
                "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"".to_owned(),
            ),
            (
                json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Always"}}}}}}),
                "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"".to_owned(),
            ),
        ];
        for (change, wanted) in cases {
            assert_eq!(faults_of(change.clone()), [wanted], "{change}");
        }
        assert!(faults_of(json!({"spec": {"timeZone": "Europe/Berlin"}})).is_empty());
    }
}
