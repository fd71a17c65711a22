//! Who goes first when more guests want to run than there are threads.
//!
//! A guest that a tick interrupts and that wants to go on stands in the crowd. Each container has a weight, its request for CPU,
//! and a time of its own that runs slower the heavier it is; who is behind others in that time goes first. A guest that is ahead
//! of one that stands and waits steps aside, and is called when the others have caught up. One that is alone, or waits for
//! something else, meets a counter that is zero and no lock. No thread ever idles while somebody stands: a guest steps aside
//! only for one that is about to run.
//!
//! A guest that is woken stands in the crowd from that moment, not only when the executor has come to it: whoever the executor
//! takes first steps aside, and those who run are interrupted, if they are ahead of it. So what answers a request after a rest
//! need not wait for a slice of each guest that is busy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::limits::SHARE_SLACK;
use crate::ticker::Ticker;

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
    /// How many of them were interrupted: without one of these nobody takes the threads from others.
    busy: AtomicUsize,
    next: AtomicU64,
    /// Whom to tell that guests should be interrupted.
    tickers: Mutex<Vec<Ticker>>,
}

/// Guests by their container's time, then by number.
type Place = (u64, u64);

#[derive(Debug, Default)]
struct Places {
    /// Interrupted, called or woken, and about to run.
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

/// One guest in the crowd.
#[derive(Debug)]
pub(crate) struct Member {
    number: u64,
    /// Where it stands, if it does. Changes only under the lock on the places.
    place: Mutex<Option<Place>>,
    /// Whether it stands, to be asked without a lock.
    stands: AtomicBool,
    /// Whether it stands because it was interrupted. Changes only under the lock on the places.
    busy: AtomicBool,
    /// It will not come again. Changes only under the lock on the places.
    gone: AtomicBool,
}

impl Member {
    fn stands(&self) -> bool {
        self.stands.load(Ordering::Acquire)
    }
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
            busy: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            tickers: Mutex::default(),
        }
    }

    /// The guests whom this ticker interrupts are of this crowd.
    pub(crate) fn interrupts_by(&self, ticker: Ticker) {
        self.tickers.lock().push(ticker);
    }

    /// A place for a guest; it does not stand there yet.
    pub(crate) fn join(&self) -> Member {
        Member {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            place: Mutex::default(),
            stands: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    /// A guest is new or woken, and will come to run; its container's time is `time`. Where nobody was interrupted, those who
    /// wait are soon at their turn, and it costs them less to come in the order of the queue than to make room for each other.
    pub(crate) fn arrives(&self, member: &Member, time: u64) {
        if self.busy.load(Ordering::Acquire) == 0 {
            return;
        }
        let free = self.running.load(Ordering::Acquire) < self.threads;
        let rested = {
            let mut places = self.places.lock();
            if member.stands() || member.gone.load(Ordering::Relaxed) {
                return;
            }
            let place = (time.max(places.floor), member.number);
            places.ready.insert(place, ());
            self.stand(member, place, false);
            time < places.floor
        };
        // Who used as much as the others waits for the next tick: two guests that wake each other all the time would otherwise
        // keep everybody from work.
        if rested && !free {
            self.tickers.lock().iter().for_each(Ticker::interrupt);
        }
    }

    /// A guest comes to run, whose container's time is `time`.
    pub(crate) fn turn(&self, member: &Member, time: u64, waker: &Waker) -> Turn {
        if !member.stands() && self.standing.load(Ordering::Acquire) == 0 {
            self.running.fetch_add(1, Ordering::AcqRel);
            return Turn::Run(0);
        }
        let mut places = self.places.lock();
        let busy = member.busy.load(Ordering::Relaxed);
        let from = match self.leave(&mut places, member) {
            Some((from, _)) => from,
            None => places.floor,
        };
        let time = time.max(from);
        let before = places
            .ready
            .range(..(time.saturating_sub(SLACK), 0))
            .take(self.threads)
            .count();
        if self.running.load(Ordering::Acquire) + before >= self.threads && before > 0 {
            let place = (time, member.number);
            places.aside.insert(place, waker.clone());
            self.stand(member, place, busy);
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
    pub(crate) fn ran(&self, member: &Member, time: u64, wants_more: bool) {
        if !wants_more && self.standing.load(Ordering::Acquire) == 0 {
            return;
        }
        let called = {
            let mut places = self.places.lock();
            if wants_more {
                self.leave(&mut places, member);
                let place = (time, member.number);
                places.ready.insert(place, ());
                self.stand(member, place, true);
            }
            if let Some(first) = places.first() {
                places.floor = places.floor.max(first.min(time));
            }
            self.call(&mut places)
        };
        called.into_iter().for_each(Waker::wake);
    }

    /// A guest will not run before it is woken by something else.
    pub(crate) fn quit(&self, member: &Member) {
        if member.stands() {
            self.remove(member, false);
        }
    }

    /// A guest will not run any more, whoever wakes it.
    pub(crate) fn part(&self, member: &Member) {
        self.remove(member, true);
    }

    fn remove(&self, member: &Member, gone: bool) {
        let called = {
            let mut places = self.places.lock();
            if gone {
                member.gone.store(true, Ordering::Relaxed);
            }
            if self.leave(&mut places, member).is_none() {
                return;
            }
            self.call(&mut places)
        };
        called.into_iter().for_each(Waker::wake);
    }

    fn call(&self, places: &mut Places) -> Vec<Waker> {
        places.call(self.running.load(Ordering::Acquire), self.threads)
    }

    fn stand(&self, member: &Member, place: Place, busy: bool) {
        *member.place.lock() = Some(place);
        if busy {
            member.busy.store(true, Ordering::Relaxed);
            self.busy.fetch_add(1, Ordering::Release);
        }
        member.stands.store(true, Ordering::Release);
        self.standing.fetch_add(1, Ordering::Release);
    }

    /// Says where it stood.
    fn leave(&self, places: &mut Places, member: &Member) -> Option<Place> {
        let place = member.place.lock().take()?;
        member.stands.store(false, Ordering::Release);
        if member.busy.swap(false, Ordering::Relaxed) {
            self.busy.fetch_sub(1, Ordering::Release);
        }
        places.ready.remove(&place);
        places.aside.remove(&place);
        self.standing.fetch_sub(1, Ordering::Release);
        Some(place)
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
        let (busy, other, late) = (crowd.join(), crowd.join(), crowd.join());
        for member in [&busy, &other] {
            crowd.turn(member, 0, Waker::noop());
            drop(crowd.runs());
            crowd.ran(member, 900 * TICK, true);
        }
        assert_eq!(crowd.turn(&late, 0, Waker::noop()), Turn::Run(900 * TICK));
        crowd.quit(&busy);
        crowd.quit(&other);
        assert_eq!(crowd.standing.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_is_woken_goes_before_all_that_are_ahead() {
        let crowd = Crowd::new(1);
        let busy: Vec<Member> = (0..50).map(|_| crowd.join()).collect();
        for (member, time) in busy.iter().zip(1..) {
            crowd.turn(member, 0, Waker::noop());
            drop(crowd.runs());
            crowd.ran(member, time * 100 * TICK, true);
        }
        let late = crowd.join();
        // One of them runs when it is woken. The executor takes the others first.
        assert!(matches!(crowd.turn(&busy[0], 100 * TICK, Waker::noop()), Turn::Run(_)));
        let running = crowd.runs();
        crowd.arrives(&late, 0);
        drop(running);
        crowd.ran(&busy[0], 101 * TICK + SLACK, true);
        for (member, time) in busy.iter().zip(1..).skip(1) {
            assert_eq!(crowd.turn(member, time * 100 * TICK, Waker::noop()), Turn::Aside);
        }
        let floor = crowd.places.lock().floor;
        assert_eq!(crowd.turn(&late, 0, Waker::noop()), Turn::Run(100 * TICK), "{floor}");
        drop(crowd.runs());
        crowd.ran(&late, 100 * TICK, false);
        assert!(crowd.places.lock().ready.contains_key(&(101 * TICK + SLACK, 0)));
    }

    #[test]
    fn nobody_waits_for_one_that_has_gone() {
        let crowd = Crowd::new(1);
        let (busy, ended) = (crowd.join(), crowd.join());
        crowd.arrives(&ended, 0);
        assert_eq!(crowd.standing.load(Ordering::Relaxed), 0, "nobody is in its way");
        crowd.turn(&busy, 0, Waker::noop());
        drop(crowd.runs());
        crowd.ran(&busy, TICK, true);
        crowd.arrives(&ended, 0);
        assert_eq!(crowd.standing.load(Ordering::Relaxed), 2);
        crowd.part(&ended);
        crowd.arrives(&ended, 0);
        assert_eq!(crowd.standing.load(Ordering::Relaxed), 1);
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
