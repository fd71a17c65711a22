//! The cluster's time: the runtime's, which is paused and jumps to the next moment at which something is due.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use tokio::time::Instant;

/// When every simulation begins, in seconds since 1970: the morning of the 1st of June 2026.
const BEGIN_SECONDS: u64 = 1_780_300_800;

/// Tells the time; copies tell the same.
#[derive(Clone, Copy)]
pub struct Time {
    began: Instant,
}

impl Time {
    /// It begins now.
    pub fn begin() -> Self {
        Self { began: Instant::now() }
    }

    /// What has passed since the beginning.
    pub fn passed(self) -> Duration {
        self.began.elapsed()
    }

    fn since_epoch(self) -> Duration {
        Duration::from_secs(BEGIN_SECONDS) + self.passed()
    }

    pub fn system(self) -> coracle_store::Clock {
        Arc::new(move || -> SystemTime { UNIX_EPOCH + self.since_epoch() })
    }

    pub fn timestamp(self) -> Timestamp {
        Timestamp::try_from(UNIX_EPOCH + self.since_epoch()).unwrap()
    }

    pub fn clock(self) -> coracle_controllers::clock::Clock {
        coracle_controllers::clock::Clock::new(move || self.timestamp())
    }
}
