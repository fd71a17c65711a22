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

    /// Waits until this clock reads at least `when`.
    pub async fn sleep_until(&self, when: Timestamp) {
        tokio::time::sleep(until(self.now(), when)).await;
    }
}

/// How long it is from `now` to `when`; zero when that is past.
#[must_use]
pub fn until(now: Timestamp, when: Timestamp) -> Duration {
    Duration::try_from(when.duration_since(now)).unwrap_or(Duration::ZERO)
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
