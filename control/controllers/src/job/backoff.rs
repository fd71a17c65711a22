//! How long a Job waits before it replaces a pod that failed.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::{clock::after_seconds, pods};

/// The wait after the first failure; each further one in a row doubles it. The numbers are Kubernetes' own.
const LEAST_SECONDS: i64 = 10;
/// The longest wait.
const MOST_SECONDS: i64 = 600;

/// The wait in seconds after that many failures in a row.
#[must_use]
pub fn seconds(failures: usize) -> i64 {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    if failures == 0 {
        return 0;
    }
    (LEAST_SECONDS << doublings).min(MOST_SECONDS)
}

/// When the pod ended, as far as it tells; else when it was last heard of.
#[must_use]
pub fn ended_at(pod: &Pod, now: Timestamp) -> Timestamp {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let finished = statuses
        .filter_map(|s| s.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
        .map(|time| time.0)
        .max();
    let unready = || pods::condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref());
    let going = || pod.metadata.deletion_timestamp.as_ref();
    let created = || pod.metadata.creation_timestamp.as_ref();
    finished
        .or_else(|| unready().or_else(going).or_else(created).map(|time| time.0))
        .unwrap_or(now)
}

/// When the next pod may start, given the pods that failed and the end of the latest that succeeded.
#[must_use]
pub fn next_start(failed: &[Timestamp], succeeded: Option<Timestamp>) -> Option<Timestamp> {
    let in_a_row = failed.iter().filter(|at| succeeded.is_none_or(|s| **at > s));
    let last = failed.iter().max()?;
    match in_a_row.count() {
        0 => None,
        failures => Some(after_seconds(*last, seconds(failures))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_ten_minutes_and_a_success_ends_it() {
        assert_eq!([0, 1, 2, 3, 7, 99].map(seconds), [0, 10, 20, 40, 600, 600]);
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(next_start(&[], None), None);
        assert_eq!(next_start(&[at(100), at(50)], None), Some(at(120)));
        assert_eq!(next_start(&[at(100), at(50)], Some(at(60))), Some(at(110)));
        assert_eq!(next_start(&[at(100)], Some(at(200))), None);
    }
}
