//! Moments and lengths of time, in nanoseconds.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::eval::EvalError;
use crate::value::Val;

const UNITS: [(&str, f64); 7] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// Reads an RFC 3339 time.
pub(crate) fn parse_moment(text: &str) -> Option<i128> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_nanosecond)
}

/// Reads Go's form of a duration, such as `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let number: f64 = number.parse().ok()?;
        let (unit, scale) = UNITS
            .iter()
            .filter(|(unit, _)| after.starts_with(unit))
            .max_by_key(|(unit, _)| unit.len())?;
        total += number * scale;
        rest = after.get(unit.len()..)?;
    }
    let whole = (text.len() > 1 && total.abs() < 9.2e18).then_some(total as i64)?;
    Some(if negative { -whole } else { whole })
}

/// A duration in seconds, as protobuf's JSON form has it.
pub(crate) fn format_duration(nanos: i64) -> String {
    let (seconds, rest) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).abs());
    if rest == 0 {
        return format!("{seconds}s");
    }
    let sign = if nanos < 0 && seconds == 0 { "-" } else { "" };
    let fraction = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// A moment in RFC 3339.
pub(crate) fn format_moment(nanos: i128) -> String {
    Timestamp::from_nanosecond(nanos)
        .map(|at| at.to_string())
        .unwrap_or_default()
}

/// A part of a moment, such as its year, in a time zone; `None` when there is no such part.
pub(crate) fn part<'a>(name: &str, nanos: i128, zone: Option<&str>) -> Option<Result<Val<'a>, EvalError>> {
    let zone = match zone {
        None | Some("UTC" | "Z") => TimeZone::UTC,
        Some(zone) => match fixed(zone) {
            Some(zone) => zone,
            None => return Some(Err(EvalError::Wrong(format!("unknown time zone {zone}")))),
        },
    };
    let at = Timestamp::from_nanosecond(nanos).ok()?.to_zoned(zone);
    Some(Ok(Val::Int(match name {
        "getFullYear" => i64::from(at.year()),
        "getMonth" => i64::from(at.month()) - 1,
        "getDate" => i64::from(at.day()),
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDayOfWeek" => i64::from(at.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getHours" => i64::from(at.hour()),
        "getMinutes" => i64::from(at.minute()),
        "getSeconds" => i64::from(at.second()),
        "getMilliseconds" => i64::from(at.millisecond()),
        _ => return None,
    })))
}

/// A zone that is told as its distance from UTC, such as `+02:00`.
fn fixed(zone: &str) -> Option<TimeZone> {
    let (sign, rest) = match zone.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
    let offset = jiff::tz::Offset::from_seconds(seconds.checked_mul(sign)?).ok()?;
    Some(TimeZone::fixed(offset))
}
