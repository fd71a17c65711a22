//! The work queue of one controller.
//!
//! A key is in it at most once, is never handed out while it is being worked on, and comes back at a deadline or after
//! a pause of its own when its work failed. The core is a plain value that is told the time; [`Queue`] adds the lock
//! and the waking.
//!
//! Deadlines are times of a clock that people set. When it is set forward what is due by it is due; when it is set back
//! nobody knows what a deadline from before still means, and each such key is worked on once, which is never wrong.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    clock::{Clock, is_set_back},
    key::Key,
};

/// The pause after a key's first failure: most first failures are conflicts, and the winning write is seen in about
/// that time.
const BACKOFF_LEAST: Duration = Duration::from_millis(5);
/// The longest pause of a key that keeps failing, as in Kubernetes: long enough to cost nothing, short enough that a
/// cured cause is noticed within a coffee break.
const BACKOFF_MOST: Duration = Duration::from_secs(1000);

/// The pause after the `failures`th failure in a row.
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let doubled = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .filter(|factor| *factor != 0);
    doubled
        .and_then(|factor| BACKOFF_LEAST.checked_mul(factor))
        .unwrap_or(BACKOFF_MOST)
        .min(BACKOFF_MOST)
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Work on this key.
    Key(Key),
    /// Nothing before this time, or before a key is added.
    Wait(Option<Timestamp>),
}

#[derive(Default)]
struct Core {
    ready: VecDeque<Key>,
    queued: HashSet<Key>,
    running: HashSet<Key>,
    /// Running, and asked for again meanwhile.
    again: HashSet<Key>,
    deadlines: BTreeSet<(Timestamp, Key)>,
    due: HashMap<Key, Timestamp>,
    failures: HashMap<Key, u32>,
    /// What the clock read last.
    read: Timestamp,
}

impl Core {
    fn add(&mut self, key: Key) -> bool {
        if self.running.contains(&key) {
            self.again.insert(key);
            false
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
            true
        } else {
            false
        }
    }

    fn add_at(&mut self, key: Key, when: Timestamp) {
        if let Some(set) = self.due.get(&key).copied() {
            if set <= when {
                return;
            }
            self.deadlines.remove(&(set, key.clone()));
        }
        self.due.insert(key.clone(), when);
        self.deadlines.insert((when, key));
    }

    fn next(&mut self, now: Timestamp) -> Next {
        let set_back = is_set_back(std::mem::replace(&mut self.read, now), now);
        while let Some((when, _)) = self.deadlines.first() {
            if *when > now && !set_back {
                break;
            }
            if let Some((_, key)) = self.deadlines.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
        match self.ready.pop_front() {
            Some(key) => {
                self.queued.remove(&key);
                self.running.insert(key.clone());
                Next::Key(key)
            }
            None => Next::Wait(self.deadlines.first().map(|(when, _)| *when)),
        }
    }

    fn done(&mut self, key: &Key) -> bool {
        self.running.remove(key);
        self.again.remove(key) && self.add(key.clone())
    }

    fn failed(&mut self, key: &Key, now: Timestamp) {
        let failures = self.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let pause = backoff(*failures);
        self.add_at(key.clone(), now.checked_add(pause).unwrap_or(now));
    }
}

/// The queue that a controller's driver takes keys from.
pub struct Queue {
    core: Mutex<Core>,
    added: Notify,
    clock: Clock,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            core: Mutex::default(),
            added: Notify::new(),
            clock,
        }
    }

    /// Asks for work on a key.
    pub fn add(&self, key: Key) {
        if self.core.lock().add(key) {
            self.added.notify_one();
        }
    }

    /// Asks for work on a key at a time; the earliest of several wins.
    pub fn add_at(&self, key: Key, when: Timestamp) {
        self.core.lock().add_at(key, when);
        self.added.notify_one();
    }

    /// The next key to work on; [`Queue::done`] must follow.
    pub async fn next(&self) -> Key {
        loop {
            let next = self.core.lock().next(self.clock.now());
            match next {
                Next::Key(key) => return key,
                Next::Wait(None) => self.added.notified().await,
                Next::Wait(Some(when)) => tokio::select! {
                    () = self.added.notified() => {}
                    () = self.clock.nap_until(when) => {}
                },
            }
        }
    }

    /// Work on the key is over; if it was asked for meanwhile it is ready again.
    pub fn done(&self, key: &Key) {
        if self.core.lock().done(key) {
            self.added.notify_one();
        }
    }

    /// Work on the key failed: it comes back after its pause.
    pub fn failed(&self, key: &Key) {
        self.core.lock().failed(key, self.clock.now());
        self.added.notify_one();
    }

    /// Work on the key went well: its next failure is the first again.
    pub fn succeeded(&self, key: &Key) {
        self.core.lock().failures.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn key(name: u8) -> Key {
        Key::new("n", &name.to_string())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit() {
        assert_eq!(backoff(1), Duration::from_millis(5));
        assert_eq!(backoff(2), Duration::from_millis(10));
        assert_eq!(backoff(18), Duration::from_micros(655_360_000));
        assert_eq!(backoff(19), BACKOFF_MOST);
        assert_eq!(backoff(u32::MAX), BACKOFF_MOST);
    }

    #[test]
    fn a_key_asked_for_while_running_runs_again_afterwards_and_once() {
        let mut core = Core::default();
        core.add(key(1));
        core.add(key(1));
        assert_eq!(core.next(at(0)), Next::Key(key(1)));
        core.add(key(1));
        core.add(key(1));
        assert_eq!(core.next(at(0)), Next::Wait(None), "never twice at once");
        core.done(&key(1));
        assert_eq!(core.next(at(0)), Next::Key(key(1)));
        core.done(&key(1));
        assert_eq!(core.next(at(0)), Next::Wait(None));
    }

    #[test]
    fn the_earliest_deadline_wins_and_failures_pause_one_key_alone() {
        let mut core = Core::default();
        core.add_at(key(1), at(10));
        core.add_at(key(1), at(5));
        core.add_at(key(1), at(20));
        core.add(key(2));
        assert_eq!(core.next(at(0)), Next::Key(key(2)));
        assert_eq!(core.next(at(0)), Next::Wait(Some(at(5))));
        assert_eq!(core.next(at(5)), Next::Key(key(1)));
        core.done(&key(1));
        core.failed(&key(1), at(5));
        assert!(matches!(core.next(at(5)), Next::Wait(Some(when)) if when > at(5) && when < at(6)));
    }

    /// Waits for the next key while the clock, which stood at 10,000 s, is set to `then`; tells how long that took.
    async fn set(then: i64, ask: impl FnOnce(&Queue)) -> Duration {
        let shown = Arc::new(Mutex::new(at(10_000)));
        let clock = Clock::new({
            let shown = shown.clone();
            move || *shown.lock()
        });
        let queue = Arc::new(Queue::new(clock));
        // Whoever takes keys has looked at the clock before.
        queue.add(key(0));
        queue.done(&queue.next().await);
        ask(&queue);
        let (waiting, began) = (queue.clone(), tokio::time::Instant::now());
        let next = tokio::spawn(async move { waiting.next().await });
        tokio::task::yield_now().await;
        assert!(!next.is_finished(), "it has to wait");
        *shown.lock() = at(then);
        assert_eq!(next.await.unwrap(), key(1));
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_holds_nothing_up() {
        // A pause of milliseconds and a deadline, an hour from now by the new clock; and a deadline that is past by it.
        let soon = Duration::from_secs(10);
        let back = set(6_400, |queue| queue.failed(&key(1))).await;
        assert!(back <= soon, "{back:?}");
        let back = set(6_400, |queue| queue.add_at(key(1), at(10_060))).await;
        assert!(back <= soon, "{back:?}");
        let forward = set(13_600, |queue| queue.add_at(key(1), at(13_000))).await;
        assert!(forward <= soon, "{forward:?}");
    }

    #[test]
    fn a_clock_that_is_kept_right_makes_no_work() {
        let mut core = Core::default();
        core.add_at(key(1), at(200));
        assert_eq!(core.next(at(100)), Next::Wait(Some(at(200))));
        assert_eq!(core.next(at(99)), Next::Wait(Some(at(200))));
        assert_eq!(core.next(at(97)), Next::Key(key(1)), "set back");
    }

    proptest! {
        #[test]
        fn no_key_runs_twice_at_once_and_none_is_lost(steps in prop::collection::vec((0..5_u8, 0..4_u8), 0..80)) {
            let mut core = Core::default();
            let mut running: HashSet<Key> = HashSet::new();
            let mut wanted: HashSet<Key> = HashSet::new();
            let mut now = 0;
            for (what, name) in steps {
                match what {
                    0 | 1 => { core.add(key(name)); wanted.insert(key(name)); }
                    2 => { core.add_at(key(name), at(now + 3)); wanted.insert(key(name)); }
                    3 => {
                        if let Next::Key(k) = core.next(at(now)) {
                            wanted.remove(&k);
                            prop_assert!(running.insert(k));
                        }
                    }
                    _ => {
                        now += 1;
                        if let Some(k) = running.iter().next().cloned() { running.remove(&k); core.done(&k); }
                    }
                }
            }
            for k in running.drain() { core.done(&k); }
            while let Next::Key(k) = core.next(at(now + 10)) { wanted.remove(&k); core.done(&k); }
            prop_assert!(wanted.is_empty(), "lost {:?}", wanted);
        }
    }
}
