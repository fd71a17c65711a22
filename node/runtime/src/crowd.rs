//! Who goes first when more guests want to run than there are threads.
//!
//! A guest that a tick interrupts and that wants to go on stands in the crowd. Each container has a weight, its request for CPU,
//! and a time of its own that runs slower the heavier it is; who is behind others in that time goes first. A guest that is ahead
//! of one that stands and waits steps aside, and is called when the others have caught up. One that is alone, or waits for
//! something else, meets a counter that is zero and no lock. No thread ever idles while somebody stands: a guest steps aside
//! only for one that is about to run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::limits::SHARE_SLACK;

/// The weight of a container that requests nothing: what the kernel gives one.
const LEAST_WEIGHT: u64 = 2;

/// The weight of a whole core, in the kernel's units.
const CORE_WEIGHT: u64 = 1024;

/// How far a guest may be ahead, in weighted nanoseconds of one core.
const SLACK: u64 = SHARE_SLACK.as_nanos() as u64;

/// The weight of a request in thousandths of a core.
pub(crate) fn weight(request_milli: Option<u64>) -> u64 {
    let weight = request_milli.unwrap_or(0).saturating_mul(CORE_WEIGHT) / 1000;
    weight.max(LEAST_WEIGHT)
}

/// What time used means in the time of a container of this weight.
pub(crate) fn weighted(nanos: u64, weight: u64) -> u64 {
    let weighted = u128::from(nanos) * u128::from(CORE_WEIGHT) / u128::from(weight.max(1));
    u64::try_from(weighted).unwrap_or(u64::MAX)
}

/// The guests of one runtime that want to run and do not.
#[derive(Debug)]
pub(crate) struct Crowd {
    places: Mutex<Places>,
    threads: usize,
    /// How many run.
    running: AtomicUsize,
    /// How many stand here, to be asked without the lock.
    standing: AtomicUsize,
    next: AtomicU64,
}

/// Guests by their container's time, then by number.
type Place = (u64, u64);

#[derive(Debug, Default)]
struct Places {
    /// Interrupted, and about to run.
    ready: BTreeMap<Place, ()>,
    /// Stepped aside; called by their waker.
    aside: BTreeMap<Place, Waker>,
    /// Time that everybody who wants to run has reached. Who comes from a rest starts here: rest is not saved up.
    floor: u64,
}

impl Places {
    /// Calls those aside who may run again: who is not ahead any more, and as many as there are threads for.
    fn call(&mut self, running: usize, threads: usize) -> Vec<Waker> {
        let mut called = Vec::new();
        while let Some(entry) = self.aside.first_entry() {
            let first = self.ready.first_key_value().map(|((first, _), ())| *first);
            let near = first.is_some_and(|first| entry.key().0 <= first.saturating_add(SLACK));
            if !near && running + self.ready.len() >= threads {
                break;
            }
            let place = *entry.key();
            called.push(entry.remove());
            self.ready.insert(place, ());
        }
        called
    }

    fn first(&self) -> Option<u64> {
        let ready = self.ready.first_key_value().map(|((time, _), ())| *time);
        let aside = self.aside.first_key_value().map(|((time, _), _)| *time);
        ready.into_iter().chain(aside).min()
    }
}

/// What a guest does that wanted to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It runs. The time is where its container is to count from, if that is later.
    Run(u64),
    /// It waits to be called.
    Aside,
}

/// One guest's place in the crowd, which it leaves when it is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    number: u64,
    /// Where it stands, if it does.
    place: Option<Place>,
}

/// Counts a guest among those who run, until it drops.
pub(crate) struct Runs<'a>(&'a Crowd);

impl Drop for Runs<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        if std::thread::panicking() {
            // Nobody will tell that it has run, and others may wait for just that.
            let called = self.0.call(&mut self.0.places.lock());
            called.into_iter().for_each(Waker::wake);
        }
    }
}

impl Crowd {
    /// Nobody yet, on so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            places: Mutex::default(),
            threads,
            running: AtomicUsize::new(0),
            standing: AtomicUsize::new(0),
            next: AtomicU64::new(0),
        }
    }

    /// A place for a guest; it does not stand there yet.
    pub(crate) fn join(&self) -> Member {
        Member {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            place: None,
        }
    }

    /// A guest comes to run, whose container's time is `time`.
    pub(crate) fn turn(&self, member: &mut Member, time: u64, waker: &Waker) -> Turn {
        if member.place.is_none() && self.standing.load(Ordering::Acquire) == 0 {
            self.running.fetch_add(1, Ordering::AcqRel);
            return Turn::Run(0);
        }
        let mut places = self.places.lock();
        let rested = member.place.is_none();
        self.leave(&mut places, member);
        let time = if rested { time.max(places.floor) } else { time };
        let before = places
            .ready
            .range(..(time.saturating_sub(SLACK), 0))
            .take(self.threads)
            .count();
        if self.running.load(Ordering::Acquire) + before >= self.threads && before > 0 {
            let place = (time, member.number);
            places.aside.insert(place, waker.clone());
            self.stand(member, place);
            return Turn::Aside;
        }
        self.running.fetch_add(1, Ordering::AcqRel);
        Turn::Run(time)
    }

    /// To be held by a guest while it runs, once [`Crowd::turn`] let it.
    pub(crate) fn runs(&self) -> Runs<'_> {
        Runs(self)
    }

    /// A guest has run, and its container's time is `time` now. It stands in the crowd when it wants to go on at once.
    pub(crate) fn ran(&self, member: &mut Member, time: u64, wants_more: bool) {
        if !wants_more && self.standing.load(Ordering::Acquire) == 0 {
            return;
        }
        let called = {
            let mut places = self.places.lock();
            if wants_more {
                let place = (time, member.number);
                places.ready.insert(place, ());
                self.stand(member, place);
            }
            if let Some(first) = places.first() {
                places.floor = places.floor.max(first.min(time));
            }
            self.call(&mut places)
        };
        called.into_iter().for_each(Waker::wake);
    }

    /// A guest will not run any more, or not before it is woken by something else.
    pub(crate) fn quit(&self, member: &mut Member) {
        if member.place.is_none() {
            return;
        }
        let called = {
            let mut places = self.places.lock();
            self.leave(&mut places, member);
            self.call(&mut places)
        };
        called.into_iter().for_each(Waker::wake);
    }

    fn call(&self, places: &mut Places) -> Vec<Waker> {
        places.call(self.running.load(Ordering::Acquire), self.threads)
    }

    fn stand(&self, member: &mut Member, place: Place) {
        member.place = Some(place);
        self.standing.fetch_add(1, Ordering::Release);
    }

    fn leave(&self, places: &mut Places, member: &mut Member) {
        if let Some(place) = member.place.take() {
            places.ready.remove(&place);
            places.aside.remove(&place);
            self.standing.fetch_sub(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TICK: u64 = 1_000_000;

    /// Guests that never rest, on some threads, in the order in which an executor would run them.
    struct Simulation {
        crowd: Crowd,
        guests: Vec<(Member, u64, u64, u64)>,
        queue: std::collections::VecDeque<usize>,
        threads: usize,
        idle_ticks: u64,
    }

    impl Simulation {
        fn new(threads: usize, weights: &[u64]) -> Self {
            let crowd = Crowd::new(threads);
            let guests = weights.iter().map(|weight| (crowd.join(), *weight, 0, 0)).collect();
            Self {
                crowd,
                guests,
                queue: (0..weights.len()).collect(),
                threads,
                idle_ticks: 0,
            }
        }

        /// Runs for some ticks; returns how many each guest got.
        fn run(&mut self, ticks: usize) -> Vec<u64> {
            for _ in 0..ticks {
                let mut running = Vec::new();
                while running.len() < self.threads {
                    let Some(index) = self.queue.pop_front() else {
                        self.idle_ticks += 1;
                        break;
                    };
                    let (member, _, time, _) = &mut self.guests[index];
                    match self.crowd.turn(member, *time, Waker::noop()) {
                        Turn::Run(from) => {
                            *time = (*time).max(from);
                            running.push(index);
                        }
                        Turn::Aside => {}
                    }
                }
                for index in running {
                    let (member, weight, time, used) = &mut self.guests[index];
                    *time += weighted(TICK, *weight);
                    *used += 1;
                    drop(self.crowd.runs());
                    self.crowd.ran(member, *time, true);
                }
                // Those who were called are ready and not in the queue, as are those who have just run.
                let places = self.crowd.places.lock();
                for (_, number) in places.ready.keys() {
                    let index = usize::try_from(*number).unwrap();
                    if !self.queue.contains(&index) {
                        self.queue.push_back(index);
                    }
                }
            }
            self.guests.iter().map(|(_, _, _, used)| *used).collect()
        }
    }

    #[test]
    fn weights_are_the_kernels() {
        assert_eq!(
            (weight(None), weight(Some(1)), weight(Some(1000)), weight(Some(250))),
            (2, 2, 1024, 256)
        );
        assert_eq!(weighted(TICK, 512), 2 * TICK);
    }

    #[test]
    fn a_heavier_guest_gets_as_much_more_and_nobody_starves() {
        let mut simulation = Simulation::new(1, &[weight(Some(900)), weight(Some(300))]);
        let used = simulation.run(4000);
        assert!((2950..=3050).contains(&used[0]), "{used:?}");
        let mut simulation = Simulation::new(1, &[weight(Some(1000)), weight(None)]);
        let used = simulation.run(4000);
        assert!(used[1] >= 4 && used[1] < 30, "{used:?}");
    }

    #[test]
    fn what_a_guest_cannot_use_others_get() {
        // One guest cannot use more than one thread, however heavy it is.
        let mut simulation = Simulation::new(2, &[weight(Some(4000)), weight(Some(100)), weight(Some(100))]);
        let used = simulation.run(2000);
        assert!(used[0] > 1900, "{used:?}");
        assert!(used[1] + used[2] > 1900, "{used:?}");
        assert_eq!(simulation.idle_ticks, 0);
        let mut simulation = Simulation::new(2, &[weight(Some(1000)), weight(None)]);
        assert_eq!(simulation.run(1000), [1000, 1000]);
    }

    #[test]
    fn rest_is_not_saved_up() {
        let crowd = Crowd::new(1);
        let (mut busy, mut other, mut late) = (crowd.join(), crowd.join(), crowd.join());
        for member in [&mut busy, &mut other] {
            crowd.turn(member, 0, Waker::noop());
            drop(crowd.runs());
            crowd.ran(member, 900 * TICK, true);
        }
        assert_eq!(crowd.turn(&mut late, 0, Waker::noop()), Turn::Run(900 * TICK));
        crowd.quit(&mut busy);
        crowd.quit(&mut other);
        assert_eq!(crowd.standing.load(Ordering::Relaxed), 0);
    }

    proptest! {
        /// On one thread each guest gets its share.
        #[test]
        fn shares_follow_weights(requests in prop::collection::vec(50u64..2000, 2..6)) {
            let weights: Vec<u64> = requests.iter().map(|request| weight(Some(*request))).collect();
            let mut simulation = Simulation::new(1, &weights);
            let ticks = 20_000;
            let used = simulation.run(ticks);
            let all: u64 = weights.iter().sum();
            for (used, weight) in used.iter().zip(&weights) {
                let share = ticks as u64 * weight / all;
                prop_assert!(used.abs_diff(share) <= share / 20 + 10, "{} of {}", used, share);
            }
            prop_assert_eq!(simulation.idle_ticks, 0);
        }
    }
}
