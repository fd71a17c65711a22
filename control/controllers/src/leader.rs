//! Who leads, where several processes could: the holder of a Lease, as with Kubernetes' own components.
//!
//! What is decided here is a plain value that is told what the Lease says and how late it is. It relies on clocks that run,
//! not on clocks that agree: times of others are only ever compared for being the same, and all waiting is measured by a
//! clock of one's own that nobody sets. It must never take a Lease before its holder has had time to know that it lost it:
//! a holder stops `renew` after the *beginning* of its last good renewal, and others wait `lease` from when they *saw* it,
//! so there is one leader at most as long as no clock runs faster than another by more than `lease / renew`.

mod election;

use std::time::Duration;

use jiff::Timestamp;

pub use election::{Election, Lost, News, causes};

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others leave a Lease alone that its holder does not renew. Told in whole seconds, rounded up.
    pub lease: Duration,
    /// How long a holder goes on without a renewal.
    pub renew: Duration,
    /// The pause between looks at the Lease.
    pub retry: Duration,
}

impl Default for Timing {
    /// Kubernetes' own numbers.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Why durations do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The holder would go on when others may take over.
    #[error("the lease duration must be longer than the renew deadline")]
    Lease,
    /// The holder would have no second chance to renew.
    #[error("the renew deadline must be longer than 1.2 times the retry period")]
    Renew,
    /// Nothing may take no time.
    #[error("the retry period must be longer than nothing")]
    Retry,
}

impl Timing {
    /// The same, if the durations go together, by the rules of Kubernetes' components.
    ///
    /// # Errors
    /// When they do not.
    pub fn checked(self) -> Result<Self, TimingError> {
        if self.lease <= self.renew {
            return Err(TimingError::Lease);
        }
        if self.renew <= self.retry.mul_f64(JITTER) {
            return Err(TimingError::Renew);
        }
        if self.retry.is_zero() {
            return Err(TimingError::Retry);
        }
        Ok(self)
    }

    fn lease_seconds(&self) -> i32 {
        let begun = u64::from(self.lease.subsec_nanos() > 0);
        i32::try_from(self.lease.as_secs().saturating_add(begun)).unwrap_or(i32::MAX)
    }
}

/// A pause before a look is up to this much longer, so that those who wait do not ask all at once.
const JITTER: f64 = 1.2;

/// What a Lease says of who leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who; nobody if empty.
    pub holder: String,
    /// How long it is to be left alone after a renewal, in seconds.
    pub lease_seconds: i32,
    /// Since when, by the holder's clock.
    pub acquired: Option<Timestamp>,
    /// When the holder last said so, by its clock.
    pub renewed: Option<Timestamp>,
    /// How often it has passed from one to another.
    pub transitions: i32,
}

/// One of those who could lead. All `at` are times since the process began, by a clock that nobody sets.
#[derive(Debug)]
pub struct Contender {
    identity: String,
    timing: Timing,
    /// The Lease as it was first seen like this.
    seen: Option<(Record, Duration)>,
    /// Until when it leads.
    until: Duration,
}

impl Contender {
    /// One that has seen nothing yet. Nobody else may have that identity.
    #[must_use]
    pub fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            seen: None,
            until: Duration::ZERO,
        }
    }

    /// Until when it leads; past that it does not.
    #[must_use]
    pub fn leads_until(&self) -> Duration {
        self.until
    }

    /// Whether it leads.
    #[must_use]
    pub fn leads(&self, at: Duration) -> bool {
        at < self.until
    }

    /// Who holds the Lease as far as it knows.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        let (record, _) = self.seen.as_ref()?;
        Some(record.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// The Lease was read, and says this; `None` if there is none.
    pub fn saw(&mut self, found: Option<Record>, at: Duration) {
        let Some(found) = found else {
            self.seen = None;
            return;
        };
        if found.holder != self.identity {
            // Whatever time it had left, somebody has taken it.
            self.until = Duration::ZERO;
        }
        if self.seen.as_ref().is_none_or(|(known, _)| *known != found) {
            self.seen = Some((found, at));
        }
    }

    /// What the Lease is to say, if it is this one's turn to write. The write must fail if the Lease is not as it was seen.
    #[must_use]
    pub fn claim(&self, at: Duration, now: Timestamp) -> Option<Record> {
        let mine = Record {
            holder: self.identity.clone(),
            lease_seconds: self.timing.lease_seconds(),
            acquired: Some(now),
            renewed: Some(now),
            transitions: 0,
        };
        let Some((record, since)) = &self.seen else {
            return Some(mine);
        };
        if record.holder == self.identity {
            return Some(Record {
                acquired: record.acquired,
                transitions: record.transitions,
                ..mine
            });
        }
        let left_alone = Duration::from_secs(u64::try_from(record.lease_seconds).unwrap_or(0));
        let free = record.holder.is_empty() || at >= since.saturating_add(left_alone);
        free.then(|| Record {
            transitions: record.transitions.saturating_add(1),
            ..mine
        })
    }

    /// The claim went through, and the Lease says this now; `began` is when the attempt began.
    pub fn won(&mut self, record: Record, began: Duration, at: Duration) {
        self.saw(Some(record), at);
        if self.holder() == Some(self.identity.as_str()) {
            self.until = began.saturating_add(self.timing.renew);
        }
    }

    /// What the Lease is to say when this one leads no more by its own will: nobody need wait. `None` if it is not its own.
    #[must_use]
    pub fn release(&mut self, now: Timestamp) -> Option<Record> {
        self.until = Duration::ZERO;
        let (record, _) = self.seen.as_ref()?;
        (record.holder == self.identity).then(|| Record {
            holder: String::new(),
            lease_seconds: 1,
            acquired: Some(now),
            renewed: Some(now),
            transitions: record.transitions,
        })
    }
}

#[cfg(test)]
mod tests;
