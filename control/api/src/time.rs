//! Times and ages as the API writes them. A time is microseconds since 1970-01-01 UTC; who calls brings the clock.

use jiff::Timestamp;
use jiff::tz::Offset;

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;

/// A time as `2026-01-02T03:04:05Z`; parts of a second are dropped, as in Kubernetes' `Time`.
pub fn format_seconds(micros: i64) -> String {
    civil(micros).map_or_else(String::new, |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A time as `2026-01-02T03:04:05.000006Z`, Kubernetes' `MicroTime`.
pub fn format_micros(micros: i64) -> String {
    civil(micros).map_or_else(String::new, |at| at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}

fn civil(micros: i64) -> Option<jiff::civil::DateTime> {
    let at = Timestamp::from_microsecond(micros).ok()?;
    Some(Offset::UTC.to_datetime(at))
}

/// Reads an RFC 3339 time with any offset and any parts of a second; `None` when it is none.
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    // The parser below knows more forms than RFC 3339; this keeps the others out.
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let shaped = separators.iter().all(|(at, byte)| bytes.get(*at) == Some(byte));
    let digits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
    if !shaped || !digits.iter().all(|at| bytes.get(*at).is_some_and(u8::is_ascii_digit)) {
        return None;
    }
    text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// The time between two moments as kubectl shows it: `5s`, `3m20s`, `5h`, `2d3h`, `400d`.
pub fn age(now: i64, then: i64) -> String {
    duration(now.saturating_sub(then))
}

/// The age of a time as the API writes it; `<unknown>` when there is none.
pub fn age_of(now: i64, then: &str) -> String {
    parse(then).map_or_else(|| "<unknown>".to_owned(), |then| age(now, then))
}

/// A duration in microseconds in at most two units, as kubectl shows it. A clock that runs a second behind still reads `0s`.
pub fn duration(micros: i64) -> String {
    let seconds = micros / SECOND;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ages_read_as_in_kubectl() {
        let day = 86400;
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (5, "5s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (8 * 3600, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (51 * 3600, "2d3h"),
            (8 * day, "8d"),
            (400 * day, "400d"),
            (730 * day, "2y"),
            (800 * day, "2y70d"),
            (3000 * day, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds * SECOND), text, "{seconds} s");
        }
    }

    #[test]
    fn times_are_rfc3339_only() {
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(SECOND));
        assert_eq!(parse("1970-01-01T01:00:01.5+01:00"), Some(SECOND * 3 / 2));
        for text in [
            "",
            "now",
            "1970-01-01",
            "1970-01-01 00:00:01Z",
            "19700101T000001Z",
            "1970-13-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(age_of(5 * SECOND, "1970-01-01T00:00:01Z"), "4s");
        assert_eq!(age_of(0, ""), "<unknown>");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in 0..4_000_000_000_000_000_i64) {
            prop_assert_eq!(parse(&format_micros(micros)), Some(micros));
            prop_assert_eq!(parse(&format_seconds(micros)), Some(micros - micros % SECOND));
        }
    }
}
