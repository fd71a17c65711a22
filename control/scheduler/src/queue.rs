//! The pods that wait for a node.
//!
//! Active ones are tried at once, the highest priority and then the oldest first. One that failed waits for its pause
//! (1 to 10 seconds); one that fits nowhere waits until something happens that may help it, or five minutes. A plain
//! value that is told the time, by a clock that people set: when it is set back, all that wait are tried once.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use coracle_controllers::{
    clock::{after_seconds, is_set_back},
    key::Key,
};
use jiff::Timestamp;

use crate::{
    candidate::Candidate,
    happening::{Happening, Happenings},
};

/// The pause after a pod's first failed attempt, and the longest one: Kubernetes' own numbers. It keeps a pod that
/// cannot go anywhere from taking the turns of those that can.
const PAUSE_LEAST_SECONDS: i64 = 1;
const PAUSE_MOST_SECONDS: i64 = 10;
/// Pods that fit nowhere are tried again after this long whatever happens, in case an event that helps was not
/// recognised as one.
const FLUSH_SECONDS: i64 = 300;

type ActiveAt = (Reverse<i32>, Timestamp, u64);

#[derive(Clone, Debug)]
enum Place {
    Active(ActiveAt),
    /// Until its pause is over.
    Paused((Timestamp, u64)),
    /// Until one of these happens, or until it is flushed.
    Waiting((Timestamp, u64), Happenings),
    /// Being tried or bound.
    Taken,
}

struct Entry {
    candidate: Arc<Candidate>,
    attempts: u32,
    /// When its last attempt failed.
    tried: Timestamp,
    place: Place,
}

/// The queue.
#[derive(Default)]
pub struct Queue {
    entries: HashMap<Arc<str>, Entry>,
    active: BTreeMap<ActiveAt, Arc<str>>,
    paused: BTreeMap<(Timestamp, u64), Arc<str>>,
    /// Those that wait for the same together, so that a happening finds whom it helps without looking at others.
    waiting: HashMap<Happenings, BTreeMap<(Timestamp, u64), Arc<str>>>,
    /// Those of `waiting` that name claims, volumes' and devices', by these.
    by_claim: HashMap<Key, BTreeSet<Arc<str>>>,
    serial: u64,
    /// What the clock read last.
    read: Timestamp,
}

impl Queue {
    /// The pod wants a node. One that waits already is only brought up to date, and tried again if what it asks for
    /// has changed.
    pub fn put(&mut self, candidate: Arc<Candidate>) {
        let uid = candidate.uid.clone();
        let Some(entry) = self.entries.get(&uid) else {
            let entry = Entry {
                candidate,
                attempts: 0,
                tried: Timestamp::UNIX_EPOCH,
                place: Place::Taken,
            };
            self.entries.insert(uid.clone(), entry);
            self.activate(&uid);
            return;
        };
        let changed = !entry.candidate.is_still(&candidate.pod);
        let woken = changed && matches!(entry.place, Place::Waiting(..) | Place::Paused(_));
        if woken {
            // By the claims that it named until now it is found no more.
            self.leave(&uid);
        }
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.candidate = candidate;
        }
        if woken {
            self.activate(&uid);
        }
    }

    /// The pod wants no node any more.
    pub fn remove(&mut self, uid: &str) {
        self.leave(uid);
        self.entries.remove(uid);
    }

    /// The next pod to try; it is taken until [`Queue::remove`], [`Queue::failed`] or [`Queue::unfit`].
    pub fn take(&mut self, now: Timestamp) -> Option<Arc<Candidate>> {
        self.promote(now);
        let (_, uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::Taken;
        entry.attempts = entry.attempts.saturating_add(1);
        Some(entry.candidate.clone())
    }

    /// When a pod is to be tried though nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let paused = self.paused.first_key_value().map(|((when, _), _)| *when);
        let waiting = self.waiting.values().filter_map(|pods| pods.first_key_value());
        let flushed = waiting.map(|((since, _), _)| after_seconds(*since, FLUSH_SECONDS));
        paused.into_iter().chain(flushed).min()
    }

    /// The attempt failed for a reason that has nothing to do with where the pod fits: it pauses.
    pub fn failed(&mut self, uid: &str, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.tried = now;
            self.pause(uid);
        }
    }

    /// The pod fits nowhere until one of these happens.
    pub fn unfit(&mut self, uid: &str, until: Happenings, now: Timestamp) {
        self.serial += 1;
        let since = (now, self.serial);
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.tried = now;
            entry.place = Place::Waiting(since, until);
            let alike = self.waiting.entry(until).or_default();
            alike.insert(since, entry.candidate.uid.clone());
            for claim in claims(&entry.candidate) {
                let uid = entry.candidate.uid.clone();
                self.by_claim.entry(claim.clone()).or_default().insert(uid);
            }
        }
    }

    /// Something happened: the pods that it may help are tried again, after their pause.
    pub fn wake(&mut self, happening: Happening, now: Timestamp) {
        let helped = self.waiting.iter().filter(|(until, _)| until.hold(happening));
        let uids: Vec<Arc<str>> = helped.flat_map(|(_, pods)| pods.values().cloned()).collect();
        for uid in uids {
            self.pause(&uid);
        }
        self.promote(now);
    }

    /// Something happened to one claim: of the pods that it may help those are tried again that name it.
    pub fn wake_claimants(&mut self, claim: &Key, happening: Happening, now: Timestamp) {
        let named = self.by_claim.get(claim).into_iter().flatten();
        let helped = |uid: &&Arc<str>| {
            let entry = self.entries.get(&**uid);
            entry.is_some_and(|entry| matches!(entry.place, Place::Waiting(_, until) if until.hold(happening)))
        };
        let uids: Vec<Arc<str>> = named.filter(helped).cloned().collect();
        for uid in uids {
            self.pause(&uid);
        }
        self.promote(now);
    }

    /// How many pods wait in some way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no pod waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn promote(&mut self, now: Timestamp) {
        if is_set_back(std::mem::replace(&mut self.read, now), now) {
            let all = self
                .entries
                .values()
                .filter(|entry| !matches!(entry.place, Place::Active(_) | Place::Taken));
            let all: Vec<Arc<str>> = all.map(|entry| entry.candidate.uid.clone()).collect();
            all.iter().for_each(|uid| self.activate(uid));
        }
        while let Some(((when, _), uid)) = self.paused.first_key_value()
            && *when <= now
        {
            let uid = uid.clone();
            self.activate(&uid);
        }
        let due = |since: &Timestamp| after_seconds(*since, FLUSH_SECONDS) <= now;
        let mut flushed: Vec<Arc<str>> = Vec::new();
        for pods in self.waiting.values() {
            let long = pods.iter().take_while(|((since, _), _)| due(since));
            flushed.extend(long.map(|(_, uid)| uid.clone()));
        }
        flushed.iter().for_each(|uid| self.activate(uid));
    }

    fn activate(&mut self, uid: &str) {
        self.leave(uid);
        self.serial += 1;
        let serial = self.serial;
        if let Some(entry) = self.entries.get_mut(uid) {
            let at = (Reverse(entry.candidate.priority), entry.candidate.created, serial);
            entry.place = Place::Active(at);
            self.active.insert(at, entry.candidate.uid.clone());
        }
    }

    fn pause(&mut self, uid: &str) {
        self.leave(uid);
        self.serial += 1;
        let serial = self.serial;
        if let Some(entry) = self.entries.get_mut(uid) {
            let at = (after_seconds(entry.tried, pause_seconds(entry.attempts)), serial);
            entry.place = Place::Paused(at);
            self.paused.insert(at, entry.candidate.uid.clone());
        }
    }

    fn leave(&mut self, uid: &str) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match std::mem::replace(&mut entry.place, Place::Taken) {
            Place::Active(at) => drop(self.active.remove(&at)),
            Place::Paused(at) => drop(self.paused.remove(&at)),
            Place::Waiting(since, until) => {
                if let Some(alike) = self.waiting.get_mut(&until) {
                    alike.remove(&since);
                    if alike.is_empty() {
                        self.waiting.remove(&until);
                    }
                }
                for claim in claims(&entry.candidate) {
                    if let Some(pods) = self.by_claim.get_mut(claim) {
                        pods.remove(uid);
                        if pods.is_empty() {
                            self.by_claim.remove(claim);
                        }
                    }
                }
            }
            Place::Taken => {}
        }
    }
}

/// The claims that a pod names, of both sorts. One name of both sorts is one key: it wakes a pod too often, never too
/// seldom.
fn claims(pod: &Candidate) -> impl Iterator<Item = &Key> {
    let devices = pod.devices.iter().map(|name| &name.key);
    pod.claims.iter().map(|name| &name.key).chain(devices)
}

fn pause_seconds(attempts: u32) -> i64 {
    let doubled = PAUSE_LEAST_SECONDS
        .checked_shl(attempts.saturating_sub(1))
        .unwrap_or(PAUSE_MOST_SECONDS);
    if doubled <= 0 {
        PAUSE_MOST_SECONDS
    } else {
        doubled.min(PAUSE_MOST_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn pod(name: &str, priority: i32, created: i64, image: &str) -> Arc<Candidate> {
        Arc::new(Candidate::of(Arc::new(
            serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "creationTimestamp": at(created).to_string()},
            "spec": {"priority": priority, "containers": [{"name": "c", "image": image}]}}))
            .unwrap(),
        )))
    }

    fn take(queue: &mut Queue, now: i64) -> Option<String> {
        queue.take(at(now)).map(|c| c.uid.to_string())
    }

    #[test]
    fn the_important_and_then_the_old_go_first() {
        let mut queue = Queue::default();
        for (name, priority, created) in [("young", 0, 5), ("old", 0, 1), ("vip", 9, 9)] {
            queue.put(pod(name, priority, created, "i"));
        }
        let order: Vec<_> = std::iter::from_fn(|| take(&mut queue, 10)).collect();
        assert_eq!(order, ["vip", "old", "young"]);
    }

    #[test]
    fn a_failed_attempt_pauses_and_the_pause_grows_to_its_limit() {
        let mut queue = Queue::default();
        queue.put(pod("p", 0, 0, "i"));
        let mut now = 0;
        for pause in [1, 2, 4, 8, 10, 10] {
            assert_eq!(take(&mut queue, now).as_deref(), Some("p"));
            queue.failed("p", at(now));
            assert_eq!(queue.deadline(), Some(at(now + pause)));
            assert_eq!(take(&mut queue, now + pause - 1), None);
            now += pause;
        }
    }

    #[test]
    fn an_unfit_pod_waits_for_what_may_help_it() {
        let mut queue = Queue::default();
        queue.put(pod("p", 0, 0, "i"));
        take(&mut queue, 0).unwrap();
        queue.unfit("p", Happenings::of(&[Happening::NodeAdded]), at(0));
        queue.wake(Happening::PodGone, at(5));
        assert_eq!(take(&mut queue, 5), None);
        queue.wake(Happening::NodeAdded, at(5));
        assert_eq!(take(&mut queue, 5).as_deref(), Some("p"), "its pause is over already");
        queue.unfit("p", Happenings::NONE, at(6));
        assert_eq!(queue.deadline(), Some(at(6 + FLUSH_SECONDS)));
        assert_eq!(take(&mut queue, 6 + FLUSH_SECONDS).as_deref(), Some("p"));
    }

    #[test]
    fn a_clock_that_is_set_holds_no_pod_up() {
        let mut queue = Queue::default();
        for name in ["paused", "waits"] {
            queue.put(pod(name, 0, 0, "i"));
            take(&mut queue, 10_000).unwrap();
        }
        queue.failed("paused", at(10_000));
        queue.unfit("waits", Happenings::NONE, at(10_000));
        assert_eq!(take(&mut queue, 10_000), None);
        let mut tried = [take(&mut queue, 6_400), take(&mut queue, 6_400)];
        tried.sort();
        assert_eq!(tried, [Some("paused".to_owned()), Some("waits".to_owned())], "set back");
        queue.failed("paused", at(6_400));
        queue.unfit("waits", Happenings::NONE, at(6_400));
        assert_eq!(take(&mut queue, 6_400), None, "they are tried once");
        let mut tried = [take(&mut queue, 20_000), take(&mut queue, 20_000)];
        tried.sort();
        assert_eq!(
            tried,
            [Some("paused".to_owned()), Some("waits".to_owned())],
            "set forward"
        );
    }

    #[test]
    fn a_new_status_changes_nothing_and_a_new_spec_does() {
        let mut queue = Queue::default();
        queue.put(pod("p", 0, 0, "i"));
        take(&mut queue, 0).unwrap();
        queue.unfit("p", Happenings::NONE, at(0));
        queue.put(pod("p", 0, 0, "i"));
        assert_eq!(take(&mut queue, 1), None);
        queue.put(pod("p", 0, 0, "other"));
        assert_eq!(take(&mut queue, 1).as_deref(), Some("p"));
    }

    #[test]
    fn a_pod_that_goes_leaves_nothing_behind() {
        let mut queue = Queue::default();
        for name in ["a", "b", "c", "d"] {
            queue.put(pod(name, 0, 0, "i"));
        }
        take(&mut queue, 0);
        queue.failed("a", at(0));
        take(&mut queue, 0);
        queue.unfit("b", Happenings::NONE, at(0));
        take(&mut queue, 0);
        for name in ["a", "b", "c", "d"] {
            queue.remove(name);
        }
        assert!(queue.is_empty() && queue.active.is_empty() && queue.paused.is_empty() && queue.waiting.is_empty());
        assert_eq!(queue.deadline(), None);
    }
}
