//! The one source of time.
//!
//! Everything that decides takes the time as an argument; whoever starts a decision reads it here. Nothing else in this
//! crate may ask the system what time it is, so that a clock can be stepped or sped up.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;

/// Tells the time; cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The system's wall clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// A clock that asks `tell` for the time.
    #[must_use]
    pub fn new(tell: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// Waits until this clock reads at least `when`, or until it is time to see whether somebody has set it.
    pub async fn nap_until(&self, when: Timestamp) {
        tokio::time::sleep(until(self.now(), when).min(NAP_LIMIT)).await;
    }
}

/// How long a sleeper does not look at the clock. Somebody may set it, and a machine that was suspended wakes up in
/// another hour; what was due meanwhile is at most so late.
const NAP_LIMIT: Duration = Duration::from_secs(10);

/// How long it is from `now` to `when`; zero when that is past.
#[must_use]
pub fn until(now: Timestamp, when: Timestamp) -> Duration {
    Duration::try_from(when.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// A clock that reads so much less than before has been set back. Clocks that are kept right go back by less.
const SET_BACK_SECONDS: i64 = 1;

/// Whether a clock that once read `before` and reads `now` has been set back.
#[must_use]
pub fn is_set_back(before: Timestamp, now: Timestamp) -> bool {
    before > after_seconds(now, SET_BACK_SECONDS)
}

/// `at` plus `seconds`, or `at` itself where the calendar ends.
#[must_use]
pub fn after_seconds(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(at)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
