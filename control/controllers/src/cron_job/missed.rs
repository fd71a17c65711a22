//! Which start is due: the latest time of a schedule that has passed since the last start.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::schedule::Schedule;

/// Starts that may be missed before a user is told that something is wrong. The number is Kubernetes' own.
pub const MISSED_LIMIT: i64 = 100;
/// Times tried after the jump to the latest ones: schedules with gaps (working days) need some steps from there.
const STEPS_LIMIT: usize = 10_000;

/// A start that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When it should have been.
    pub at: Timestamp,
    /// About how many were due since the last start, this one included.
    pub starts: i64,
}

/// The latest time in `(since, now]`, if there is one.
#[must_use]
pub fn due(schedule: &Schedule, zone: &TimeZone, since: Timestamp, now: Timestamp) -> Option<Due> {
    let first = schedule.next(since, zone).filter(|first| *first <= now)?;
    let Some(second) = schedule.next(first, zone).filter(|second| *second <= now) else {
        return Some(Due { at: first, starts: 1 });
    };
    // Taking the first gap for all of them brings us near the end at once; from there each time is tried.
    let gap = second.duration_since(first).as_secs().max(1);
    let starts = now.duration_since(first).as_secs() / gap + 1;
    let jump = SignedDuration::from_secs((starts - 2).max(0).saturating_mul(gap));
    let mut latest = first;
    let mut at = first.checked_add(jump).unwrap_or(first);
    for _ in 0..STEPS_LIMIT {
        match schedule.next(at, zone).filter(|next| *next <= now) {
            Some(next) => (latest, at) = (next, next),
            None => break,
        }
    }
    // A jump over a long gap may have landed beyond all of them.
    if latest == first && at != first {
        let mut steps = 0;
        while let Some(next) = schedule.next(latest, zone).filter(|next| *next <= now) {
            latest = next;
            steps += 1;
            if steps == STEPS_LIMIT {
                break;
            }
        }
    }
    Some(Due { at: latest, starts })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    proptest! {
        #[test]
        fn the_latest_is_the_one_that_stepping_finds(
            schedule in prop::sample::select(vec!["*/7 * * * *", "0 9 * * mon-fri", "0 0 1 * *", "15 3,4 * * *"]), minutes in 0..100_000_i64,
        ) {
            let schedule = Schedule::parse(schedule).unwrap();
            let since = at("2026-01-01T00:00:00Z");
            let now = since + SignedDuration::from_mins(minutes);
            let mut latest = None;
            let mut next = schedule.next(since, &TimeZone::UTC).unwrap();
            while next <= now {
                latest = Some(next);
                next = schedule.next(next, &TimeZone::UTC).unwrap();
            }
            prop_assert_eq!(due(&schedule, &TimeZone::UTC, since, now).map(|d| d.at), latest);
        }
    }

    #[test]
    fn many_missed_starts_are_counted_without_walking_them() {
        let schedule = Schedule::parse("* * * * *").unwrap();
        let found = due(
            &schedule,
            &TimeZone::UTC,
            at("2026-01-01T00:00:00Z"),
            at("2036-01-01T00:00:30Z"),
        )
        .unwrap();
        assert_eq!(found.at, at("2036-01-01T00:00:00Z"));
        assert!(found.starts > MISSED_LIMIT);
    }
}
