//! Who goes first when more guests want to run than there are threads.
//!
//! Each container has a weight, its request for CPU, and a time of its own that runs slower the heavier it is. Its tasks stand in the
//! queue of the [executor](crate::executor) by that time: who is behind goes first, and a guest that a tick interrupts goes to the place
//! that it has reached. So each container gets what its weight is of all weights, however many tasks it has, and what one cannot use
//! goes to the others.
//!
//! There is a floor, the time that everybody who wants to run has reached. A guest that comes from a rest starts there: rest is not saved
//! up. Who rested for long goes before all others, once: what answers a request need not wait for a slice of each guest that is busy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::SHARE_SLACK;

/// The weight of a container that requests nothing: what the kernel gives one.
const LEAST_WEIGHT: u64 = 2;

/// The weight of a whole core, in the kernel's units.
const CORE_WEIGHT: u64 = 1024;

/// A container's time is in so many nanoseconds of a core: the lightest container that uses 64 cores all the time can do so for a year
/// before its time ends.
const UNIT_NANOS: u64 = 64;

/// The place before all others.
pub(crate) const FRONT: u64 = 0;

/// The weight of a request in thousandths of a core.
fn weight(request_milli: Option<u64>) -> u64 {
    let weight = request_milli.unwrap_or(0).saturating_mul(CORE_WEIGHT) / 1000;
    weight.max(LEAST_WEIGHT)
}

/// What time used means in the time of a container of this weight.
fn weighted(nanos: u64, weight: u64) -> u64 {
    nanos.saturating_mul(CORE_WEIGHT) / (weight.max(1) * UNIT_NANOS)
}

/// A container's weight and time, shared by all of its tasks.
#[derive(Debug)]
pub(crate) struct Share {
    weight: AtomicU64,
    time: AtomicU64,
}

impl Share {
    pub(crate) fn new(request_milli: Option<u64>) -> Self {
        Self {
            weight: AtomicU64::new(weight(request_milli)),
            // After the front.
            time: AtomicU64::new(FRONT + 1),
        }
    }

    /// Gives the container the weight of another request.
    pub(crate) fn reweigh(&self, request_milli: Option<u64>) {
        self.weight.store(weight(request_milli), Ordering::Relaxed);
    }

    /// The container used so many nanoseconds of CPU.
    pub(crate) fn charge(&self, nanos: u64) {
        self.time.fetch_add(self.own(nanos), Ordering::Relaxed);
    }

    fn time(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    /// Nanoseconds of a core in the container's time.
    fn own(&self, nanos: u64) -> u64 {
        weighted(nanos, self.weight.load(Ordering::Relaxed))
    }

    /// What is beyond this is too far from a time to be left as it is.
    fn reach(&self, time: u64) -> u64 {
        time.saturating_add(self.own(SHARE_SLACK.as_nanos() as u64))
    }
}

/// A task of a container.
pub(crate) trait Member {
    /// The container's.
    fn share(&self) -> &Share;
}

/// Those who are ready to run, in order. The fields of [`Crowd`] follow it.
#[derive(Debug)]
pub(crate) struct Ready<T> {
    tasks: BTreeMap<(u64, u64), T>,
    /// Among equals, who came first goes first.
    next: u64,
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        Self {
            tasks: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<T> Ready<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

/// What is to be known of those who run and those who are ready without the lock on the latter.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// Time that everybody who wants to run has reached.
    floor: AtomicU64,
    /// The place of the first who is ready; [`u64::MAX`] if nobody is.
    first: AtomicU64,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            floor: AtomicU64::new(0),
            first: AtomicU64::new(u64::MAX),
        }
    }
}

impl Crowd {
    /// Brings a container that has rested while others ran to the floor, and says whether it had.
    fn catch_up(&self, share: &Share) -> bool {
        let floor = self.floor.load(Ordering::Relaxed);
        let rested = share.reach(share.time()) < floor;
        if rested {
            share.time.fetch_max(floor, Ordering::Relaxed);
        }
        rested
    }

    /// The place of a task that is new or has been woken.
    pub(crate) fn place(&self, share: &Share) -> u64 {
        if self.catch_up(share) { FRONT } else { share.time() }
    }

    /// Whether a task that was woken by the one that ran just now may have its thread, whoever is ready.
    pub(crate) fn may_follow(&self, share: &Share) -> bool {
        self.catch_up(share) || share.time() <= share.reach(self.first.load(Ordering::Relaxed))
    }

    /// Notes that a task begins to run.
    pub(crate) fn runs(&self, share: &Share) {
        let first = self.first.load(Ordering::Relaxed);
        let floor = share.time().min(first);
        if floor > self.floor.load(Ordering::Relaxed) {
            self.floor.fetch_max(floor, Ordering::Relaxed);
        }
    }

    /// Puts a task that has been interrupted among those who are ready.
    pub(crate) fn again<T: Member>(&self, ready: &mut Ready<T>, task: T) {
        self.push(ready, task.share().time(), task);
    }

    /// Puts a task at its place.
    pub(crate) fn push<T>(&self, ready: &mut Ready<T>, place: u64, task: T) {
        let number = ready.next;
        ready.next += 1;
        ready.tasks.insert((place, number), task);
        self.follow(ready);
    }

    /// Takes the first.
    pub(crate) fn pop<T: Member>(&self, ready: &mut Ready<T>) -> Option<T> {
        loop {
            let ((place, _), task) = ready.tasks.pop_first()?;
            self.follow(ready);
            let time = task.share().time();
            // Others of its container ran since it took its place.
            if place != FRONT && time > task.share().reach(place) && self.first.load(Ordering::Relaxed) < time {
                self.push(ready, time, task);
                continue;
            }
            return Some(task);
        }
    }

    /// Forgets them all.
    pub(crate) fn clear<T>(&self, ready: &mut Ready<T>) -> impl Iterator<Item = T> + use<T> {
        let tasks = std::mem::take(&mut ready.tasks);
        self.follow(ready);
        tasks.into_values()
    }

    fn follow<T>(&self, ready: &Ready<T>) {
        let first = ready.tasks.first_key_value().map_or(u64::MAX, |((first, _), _)| *first);
        self.first.store(first, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    const TICK: u64 = 1_000_000;

    impl Member for (usize, Arc<Share>) {
        fn share(&self) -> &Share {
            &self.1
        }
    }

    /// Tasks that never rest, on some threads.
    struct Simulation {
        crowd: Crowd,
        ready: Ready<(usize, Arc<Share>)>,
        /// The containers of the tasks.
        shares: Vec<Arc<Share>>,
        threads: usize,
        idle_ticks: u64,
        used: Vec<u64>,
    }

    impl Simulation {
        fn new(threads: usize, shares: &[Arc<Share>]) -> Self {
            let mut simulation = Self {
                crowd: Crowd::default(),
                ready: Ready::default(),
                shares: shares.to_vec(),
                threads,
                idle_ticks: 0,
                used: vec![0; shares.len()],
            };
            (0..shares.len()).for_each(|task| simulation.wake(task));
            simulation
        }

        fn of(threads: usize, requests: &[Option<u64>]) -> Self {
            let shares: Vec<_> = requests.iter().map(|request| Arc::new(Share::new(*request))).collect();
            Self::new(threads, &shares)
        }

        fn wake(&mut self, task: usize) {
            let task = (task, self.shares[task].clone());
            self.crowd.push(&mut self.ready, self.crowd.place(task.share()), task);
        }

        fn next(&mut self) -> Option<(usize, Arc<Share>)> {
            let task = self.crowd.pop(&mut self.ready)?;
            self.crowd.runs(task.share());
            Some(task)
        }

        /// Runs for some ticks; returns how many each task got.
        fn run(&mut self, ticks: usize) -> Vec<u64> {
            for _ in 0..ticks {
                let mut running = Vec::new();
                for _ in 0..self.threads {
                    match self.next() {
                        Some(task) => running.push(task),
                        None => self.idle_ticks += 1,
                    }
                }
                for task in running {
                    task.1.charge(TICK);
                    self.used[task.0] += 1;
                    self.crowd.again(&mut self.ready, task);
                }
            }
            self.used.clone()
        }
    }

    #[test]
    fn weights_are_the_kernels() {
        assert_eq!(
            (weight(None), weight(Some(1)), weight(Some(1000)), weight(Some(250))),
            (2, 2, 1024, 256)
        );
        assert_eq!(weighted(TICK, 512), 2 * TICK / UNIT_NANOS);
    }

    #[test]
    fn a_heavier_guest_gets_as_much_more_and_nobody_starves() {
        let used = Simulation::of(1, &[Some(900), Some(300)]).run(4000);
        assert!((2950..=3050).contains(&used[0]), "{used:?}");
        let used = Simulation::of(1, &[Some(1000), None]).run(4000);
        assert!(used[1] >= 4 && used[1] < 30, "{used:?}");
    }

    #[test]
    fn what_a_guest_cannot_use_others_get() {
        // One guest cannot use more than one thread, however heavy it is.
        let mut simulation = Simulation::of(2, &[Some(4000), Some(100), Some(100)]);
        let used = simulation.run(2000);
        assert!(used[0] > 1900, "{used:?}");
        assert!(used[1] + used[2] > 1900, "{used:?}");
        assert_eq!(simulation.idle_ticks, 0);
        assert_eq!(Simulation::of(2, &[Some(1000), None]).run(1000), [1000, 1000]);
    }

    #[test]
    fn many_tasks_of_a_container_are_one_container() {
        let (many, one) = (Arc::new(Share::new(None)), Arc::new(Share::new(None)));
        let mut shares = vec![many; 64];
        shares.push(one);
        let used = Simulation::new(1, &shares).run(4000);
        assert!((1950..=2050).contains(&used[64]), "{used:?}");
        // Nor does it wait for each of them once.
        let used = Simulation::new(1, &shares).run(20);
        assert!(used[64] >= 8, "{used:?}");
    }

    #[test]
    fn who_has_rested_goes_before_all_others_once_and_rest_is_not_saved_up() {
        let mut simulation = Simulation::of(1, &[None; 50]);
        simulation.run(10_000);
        let late = simulation.shares.len();
        simulation.shares.push(Arc::new(Share::new(None)));
        simulation.used.push(0);
        simulation.wake(late);
        assert_eq!(simulation.crowd.first.load(Ordering::Relaxed), FRONT);
        let used = simulation.run(1);
        assert_eq!(used[late], 1);
        let used = simulation.run(500);
        assert!((9..=12).contains(&used[late]), "{}", used[late]);
    }

    #[test]
    fn who_is_woken_may_have_the_thread_unless_it_is_ahead() {
        let (crowd, mut ready) = (Crowd::default(), Ready::default());
        let (one, other) = (Share::new(None), (0, Arc::new(Share::new(None))));
        assert!(crowd.may_follow(&one), "nobody else is ready");
        one.charge(3 * TICK);
        crowd.push(&mut ready, crowd.place(other.share()), other);
        assert!(!crowd.may_follow(&one), "three ticks ahead");
        let other = crowd.pop(&mut ready).unwrap();
        other.share().charge(2 * TICK);
        crowd.again(&mut ready, other);
        assert!(crowd.may_follow(&one), "one tick ahead");
        assert_eq!(crowd.clear(&mut ready).count(), 1);
        assert!(ready.is_empty());
    }

    proptest! {
        /// On one thread each guest gets its share.
        #[test]
        fn shares_follow_weights(requests in prop::collection::vec(50u64..2000, 2..6)) {
            let weights: Vec<u64> = requests.iter().map(|request| weight(Some(*request))).collect();
            let requests: Vec<_> = requests.into_iter().map(Some).collect();
            let mut simulation = Simulation::of(1, &requests);
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
