//! How long an ended container waits before it starts again.
//!
//! The first restart is immediate, the next waits [`Limits::initial`], and each further one twice as long up to
//! [`Limits::max`]. A container that ran for [`Limits::reset_after`] starts over. The same rule spaces out attempts to get an image.

use crate::clock::after;
use jiff::Timestamp;
use std::time::Duration;

/// The numbers of a back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The first delay that is not zero.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
    /// A container that ran at least this long is forgiven everything.
    pub reset_after: Duration,
}

impl Default for Limits {
    /// The kubelet's numbers, which tools and people expect: 10 s, 5 min, 10 min.
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(10),
            max: Duration::from_secs(300),
            reset_after: Duration::from_secs(600),
        }
    }
}

/// The back-off of one container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
    current: Duration,
}

impl Backoff {
    /// The delay that was in force last, for messages.
    pub fn current(&self) -> Duration {
        self.current
    }

    /// A container that ran from `started` to `finished` may start again at the time returned.
    pub fn after_exit(&mut self, limits: &Limits, started: Timestamp, finished: Timestamp) -> Timestamp {
        if finished.duration_since(started) >= jiff::SignedDuration::try_from(limits.reset_after).unwrap_or_default() {
            *self = Self::default();
        }
        after(finished, self.step(limits))
    }

    /// An attempt that failed at `now` may be repeated at the time returned; there is no immediate repetition.
    pub fn after_failure(&mut self, limits: &Limits, now: Timestamp) -> Timestamp {
        if self.next.is_zero() {
            self.next = limits.initial;
        }
        after(now, self.step(limits))
    }

    fn step(&mut self, limits: &Limits) -> Duration {
        self.current = self.next;
        self.next = if self.next.is_zero() {
            limits.initial
        } else {
            self.next * 2
        }
        .min(limits.max);
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn doubles_up_to_five_minutes() {
        let (limits, mut backoff) = (Limits::default(), Backoff::default());
        let delays: Vec<i64> = (0..8)
            .map(|_| backoff.after_exit(&limits, at(0), at(1)).as_second() - 1)
            .collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.current(), Duration::from_secs(300));
    }

    #[test]
    fn ten_good_minutes_reset() {
        let (limits, mut backoff) = (Limits::default(), Backoff::default());
        for _ in 0..5 {
            backoff.after_exit(&limits, at(0), at(1));
        }
        assert_eq!(backoff.after_exit(&limits, at(0), at(600)), at(600));
        assert_eq!(backoff.after_exit(&limits, at(600), at(601)), at(611));
    }

    #[test]
    fn a_failed_attempt_never_repeats_at_once() {
        let (limits, mut backoff) = (Limits::default(), Backoff::default());
        assert_eq!(backoff.after_failure(&limits, at(0)), at(10));
        assert_eq!(backoff.after_failure(&limits, at(10)), at(30));
    }

    proptest! {
        #[test]
        fn delays_never_shrink_nor_pass_the_maximum(exits in 1usize..40, initial in 1u64..60, max in 60u64..1000) {
            let limits = Limits { initial: Duration::from_secs(initial), max: Duration::from_secs(max), ..Limits::default() };
            let (mut backoff, mut last) = (Backoff::default(), 0);
            for _ in 0..exits {
                let delay = backoff.after_exit(&limits, at(0), at(1)).as_second() - 1;
                prop_assert!(delay >= last && delay <= max as i64);
                prop_assert_eq!(backoff.current().as_secs() as i64, delay);
                last = delay;
            }
        }
    }
}
