//! Cron schedules: five fields or a macro, and the next time that fits in a time zone.
//!
//! Our own and small, because the crates for it bring a second library of times and calendars along. Times are instants
//! whose clock reading in the zone fits: a reading that a change of the clock skips is skipped, one that comes twice
//! fits twice.

use std::time::Duration;

use jiff::{Timestamp, civil, tz::TimeZone};

/// How far ahead a time is looked for: the 29th of February may be eight years away.
const YEARS_LIMIT: i16 = 9;
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Why a schedule cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// There must be five fields.
    #[error("expected exactly 5 fields, found {0}: {1}")]
    Fields(usize, String),
    /// A field holds something else than numbers, names, ranges, lists and steps within its bounds.
    #[error("failed to parse {0}")]
    Field(String),
    /// There is no such macro.
    #[error("unrecognized descriptor: {0}")]
    Macro(String),
}

/// When something is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At each minute whose fields are all in these sets.
    Fields(Fields),
    /// Again and again after this time.
    Every(Duration),
}

/// The sets of a schedule, a bit a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// A restriction on days of the month and one on days of the week both hold unless both were given: then either.
    either_day: bool,
}

impl Schedule {
    /// Reads `30 4 * * 1-5`, `@daily`, `@every 1h30m`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if let Some(period) = text.strip_prefix("@every ") {
            let every = period_of(period.trim()).ok_or_else(|| ScheduleError::Macro(text.to_owned()))?;
            return Ok(Self::Every(every));
        }
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with('@') => return Err(ScheduleError::Macro(other.to_owned())),
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(ScheduleError::Fields(fields.len(), text.to_owned()));
        };
        let (days, any_day) = field(days, 1, 31, &[])?;
        let (weekdays, any_weekday) = field(weekdays, 0, 6, &DAYS)?;
        Ok(Self::Fields(Fields {
            minutes: field(minutes, 0, 59, &[])?.0,
            hours: field(hours, 0, 23, &[])?.0,
            days,
            months: field(months, 1, 12, &MONTHS)?.0,
            weekdays,
            either_day: !any_day && !any_weekday,
        }))
    }

    /// The first time after `after`; `None` if there is none in years.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => after.checked_add(*period).ok(),
            Self::Fields(fields) => fields.next(after, zone),
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut at = Timestamp::from_second(after.as_second().div_euclid(60).checked_add(1)? * 60).ok()?;
        let last_year = zone.to_datetime(at).year().saturating_add(YEARS_LIMIT);
        loop {
            let local = zone.to_datetime(at);
            if local.year() > last_year {
                return None;
            }
            let later = if !has(self.months, local.month()) {
                midnight(local.date().last_of_month(), zone)?
            } else if !self.has_day(local.date()) {
                midnight(local.date(), zone)?
            } else if !has(self.hours, local.hour()) {
                at.checked_add(Duration::from_secs(60 * u64::try_from(60 - local.minute()).ok()?))
                    .ok()?
            } else if !has(self.minutes, local.minute()) {
                at.checked_add(Duration::from_secs(60)).ok()?
            } else {
                return Some(at);
            };
            // A midnight that a change of the clock skips must not lead back.
            at = later.max(at.checked_add(Duration::from_secs(60)).ok()?);
        }
    }

    fn has_day(&self, date: civil::Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.either_day {
            day || weekday
        } else {
            day && weekday
        }
    }
}

/// The first moment of the day after `date`.
fn midnight(date: civil::Date, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_timestamp(date.tomorrow().ok()?.at(0, 0, 0, 0)).ok()
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value)
        .ok()
        .and_then(|value| 1_u64.checked_shl(value))
        .is_some_and(|bit| set & bit != 0)
}

/// The set that a field names, and whether it is everything.
fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Result<(u64, bool), ScheduleError> {
    let wrong = || ScheduleError::Field(text.to_owned());
    let value = |text: &str| -> Result<u32, ScheduleError> {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        // The names of months count from one, those of days from zero.
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + least);
        let number = named.or_else(|| text.parse().ok()).ok_or_else(wrong)?;
        if (least..=most).contains(&number) {
            Ok(number)
        } else {
            Err(wrong())
        }
    };
    let (mut set, mut any) = (0_u64, false);
    for part in text.split(',') {
        let (range, step) = part
            .split_once('/')
            .map_or((part, None), |(range, step)| (range, Some(step)));
        let every: usize = step.map_or(Ok(1), |step| step.parse().map_err(|_| wrong()))?;
        if every == 0 {
            return Err(wrong());
        }
        let (first, last) = match range {
            "*" | "?" => {
                any |= every == 1;
                (least, most)
            }
            range => match range.split_once('-') {
                Some((first, last)) => (value(first)?, value(last)?),
                None => (value(range)?, if step.is_some() { most } else { value(range)? }),
            },
        };
        if first > last {
            return Err(wrong());
        }
        set = (first..=last)
            .step_by(every)
            .fold(set, |set, value| set | 1_u64.checked_shl(value).unwrap_or(0));
    }
    Ok((set, any))
}

/// `1h30m10s` in whole seconds, at least one.
fn period_of(text: &str) -> Option<Duration> {
    let (mut seconds, mut number) = (0_u64, String::new());
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            number.push(letter);
            continue;
        }
        let unit = match letter {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    (number.is_empty() && seconds > 0).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let after: Timestamp = after.parse().unwrap();
        Schedule::parse(schedule)
            .unwrap()
            .next(after, &TimeZone::UTC)
            .map_or_else(|| "never".into(), |t| t.to_string())
    }

    #[test]
    fn the_next_time_fits_all_fields() {
        let cases = [
            ("* * * * *", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"),
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("*/15 9-17 * * mon-fri", "2026-01-02T17:50:00Z", "2026-01-05T09:00:00Z"),
            ("30 4 1 * *", "2026-01-31T12:00:00Z", "2026-02-01T04:30:00Z"),
            ("0 0 29 feb *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", "never"),
            ("5/20 0 * * ?", "2026-01-01T00:05:00Z", "2026-01-01T00:25:00Z"),
            ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z"),
        ];
        for (schedule, after, wanted) in cases {
            assert_eq!(next(schedule, after), wanted, "{schedule} after {after}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for wrong in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * * 7",
            "*/0 * * * *",
            "5-1 * * * *",
            "@often",
            "@every 3x",
        ] {
            assert!(Schedule::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reading_that_the_clock_skips_is_skipped() {
        // New York puts its clocks forward from 2 to 3 on 8 March 2026.
        let zone = crate::cron_job::zone::find("America/New_York").unwrap();
        let schedule = Schedule::parse("30 2 * * *").unwrap();
        let after: Timestamp = "2026-03-07T12:00:00Z".parse().unwrap();
        let next = schedule.next(after, &zone).unwrap();
        assert_eq!(next.to_string(), "2026-03-09T06:30:00Z");
        assert_eq!(
            Schedule::parse("0 9 * * *")
                .unwrap()
                .next(after, &zone)
                .unwrap()
                .to_string(),
            "2026-03-07T14:00:00Z"
        );
    }

    proptest! {
        #[test]
        fn times_go_on_and_nothing_between_fits(minute in 0..60_u8, hour in 0..24_u8, start in 0..2_000_000_000_i64) {
            let schedule = Schedule::parse(&format!("{minute} {hour} * * *")).unwrap();
            let start = Timestamp::from_second(start).unwrap();
            let first = schedule.next(start, &TimeZone::UTC).unwrap();
            prop_assert!(first > start && first.duration_since(start).as_secs() <= 86_400);
            let second = schedule.next(first, &TimeZone::UTC).unwrap();
            prop_assert_eq!(second.duration_since(first).as_secs(), 86_400);
        }
    }
}
