//! What is due when: one list for all pods, so that a waiting pod costs an entry and no task.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// Things that are due at their times.
#[derive(Debug)]
pub struct Timers<T> {
    due: BTreeMap<(Instant, u64), T>,
    serial: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self {
            due: BTreeMap::new(),
            serial: 0,
        }
    }
}

impl<T> Timers<T> {
    /// It is due at `when`.
    pub fn set(&mut self, when: Instant, what: T) {
        self.serial += 1;
        self.due.insert((when, self.serial), what);
    }

    /// The next that is due by `now`.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let ((when, _), _) = self.due.first_key_value()?;
        if *when > now {
            return None;
        }
        self.due.pop_first().map(|(_, what)| what)
    }

    /// Waits until something is due.
    pub async fn wait(&self) {
        match self.due.first_key_value() {
            Some(((when, _), _)) => tokio::time::sleep_until(*when).await,
            None => std::future::pending().await,
        }
    }
}
