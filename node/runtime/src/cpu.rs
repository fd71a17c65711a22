//! How much CPU a container uses, and how a CPU limit is held.
//!
//! A guest runs inside a future, and so does what the host does in its place, such as reading requests for it. Around each poll the thread's CPU clock is read: what the guest used is exact, host calls
//! included, and time in which the machine ran somebody else is not charged. A container over its quota of a period sleeps
//! until the period ends, and debt is carried on, so that the limit is exact in the long run. A running guest comes back to
//! this place at every tick, see [`crate::ticker`]. The quota may change while the guest runs. Where more guests want to run than
//! there are threads, requests decide, see [`crate::crowd`].

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::Sleep;

use crate::crowd::Share;
use crate::limits::{CPU_PERIOD, FUEL_PER_CPU_SECOND, USAGE_WINDOW};
use crate::ticker::Ticker;

/// The distance of marks in the window: five of them tell the rate to a few hundredths.
const MARK_NANOS: u64 = USAGE_WINDOW.as_nanos() as u64 / 5;

/// Nanoseconds of CPU that the current thread has used.
#[cfg(unix)]
fn thread_cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (time.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
}

/// Without a thread clock the wall clock is the best guess: it also charges what others took.
#[cfg(not(unix))]
fn thread_cpu_nanos() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

thread_local! {
    /// What the thread's clock said at the end of the last governed work, as long as the thread has done nothing else since: the clock
    /// is a call of the system, and costs two guests that talk to each other an eighth of their time.
    static READ: Cell<Option<u64>> = const { Cell::new(None) };
    /// How many ticks there had been when the guest on this thread began to run.
    static BEGAN: Cell<u64> = const { Cell::new(0) };
}

/// Whether a guest that finds the counter of its engine moved is to pause. A counter that moved while the guest waited for something is
/// no reason: one that answers requests would pause at the start of each.
pub(crate) fn interrupted(ticker: &Ticker) -> bool {
    ticker.count() != BEGAN.get()
}

/// What is remembered of the thread's clock.
pub(crate) fn last_read() -> Option<u64> {
    READ.get()
}

/// To be told when a thread has waited, or has done what is nobody's: that is not charged to who comes next.
pub(crate) fn unread() {
    READ.set(None);
}

/// How often and for how long a container had to wait for its CPU limit, as Linux counts it for control groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which it wanted to run.
    pub periods: u64,
    /// Those in which it had to wait.
    pub throttled_periods: u64,
    /// Nanoseconds for which it had to wait, all of its programs together.
    pub throttled_nanos: u64,
}

/// A quota of CPU per period; a decider without a clock of its own.
#[derive(Debug)]
struct Bucket {
    quota_nanos: u64,
    period_nanos: u64,
    /// Used in this period, with the debt of earlier ones.
    used_nanos: u64,
    /// When this period began, on the caller's clock.
    period_start: u64,
    /// It has been counted that the container wanted to run in this period, and that it had to wait.
    counted: (bool, bool),
    throttling: Throttling,
}

impl Bucket {
    fn new(limit_milli: u64) -> Self {
        let period_nanos = CPU_PERIOD.as_nanos() as u64;
        Self {
            quota_nanos: quota(period_nanos, limit_milli),
            period_nanos,
            used_nanos: 0,
            period_start: 0,
            counted: (false, false),
            throttling: Throttling::default(),
        }
    }

    /// Another limit, from now on. What was used counts against it.
    fn resize(&mut self, limit_milli: u64) {
        self.quota_nanos = quota(self.period_nanos, limit_milli);
    }

    /// None: go on. Some: not before that time.
    fn admit(&mut self, now: u64) -> Option<u64> {
        let periods = now.saturating_sub(self.period_start) / self.period_nanos;
        self.period_start += periods * self.period_nanos;
        self.used_nanos = self.used_nanos.saturating_sub(self.quota_nanos.saturating_mul(periods));
        if periods > 0 {
            self.counted = (false, false);
        }
        let waits = self.used_nanos >= self.quota_nanos;
        self.throttling.periods += u64::from(!self.counted.0);
        self.throttling.throttled_periods += u64::from(waits && !self.counted.1);
        self.counted = (true, self.counted.1 || waits);
        if !waits {
            return None;
        }
        let until = self.period_start + self.period_nanos;
        self.throttling.throttled_nanos += until.saturating_sub(now);
        Some(until)
    }

    fn charge(&mut self, nanos: u64) {
        self.used_nanos = self.used_nanos.saturating_add(nanos);
    }
}

/// What was used lately: totals at past moments, by which the rate of the last seconds is told. Written only while the
/// guest runs, so one that rests costs nothing.
#[derive(Debug)]
struct Recent {
    /// Time and total, both in nanoseconds, oldest first. The first one is older than the window where there is such a one.
    marks: VecDeque<(u64, u64)>,
}

impl Recent {
    fn new() -> Self {
        Self {
            marks: VecDeque::from([(0, 0)]),
        }
    }

    fn mark(&mut self, now: u64, total: u64) {
        self.marks.push_back((now, total));
        let window = USAGE_WINDOW.as_nanos() as u64;
        while self.marks.get(1).is_some_and(|(at, _)| at + window <= now) {
            self.marks.pop_front();
        }
    }

    /// Nanoseconds of CPU a second over the window that ends now, or over the whole life of a younger container.
    fn rate(&self, now: u64, total: u64) -> u64 {
        let since = now.saturating_sub(USAGE_WINDOW.as_nanos() as u64);
        let later = self.marks.iter().copied().chain([(now, total)]);
        let mut before = (0, 0);
        for (at, used) in later {
            if at >= since && at > before.0 {
                // Between two marks the use was even.
                let part = u128::from(used.saturating_sub(before.1)) * u128::from(since.saturating_sub(before.0));
                let then = before.1 + (part / u128::from(at - before.0)) as u64;
                let span = now.saturating_sub(since).max(1);
                return (u128::from(total.saturating_sub(then)) * 1_000_000_000 / u128::from(span)) as u64;
            }
            before = (at, used);
        }
        0
    }
}

/// A limit of nothing would be a container that never runs: the smallest is a thousandth of a core.
fn quota(period_nanos: u64, limit_milli: u64) -> u64 {
    period_nanos.saturating_mul(limit_milli.max(1)) / 1000
}

/// The CPU of one container, shared by all of its instances.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    start: Instant,
    total_nanos: AtomicU64,
    bucket: Mutex<Option<Bucket>>,
    recent: Mutex<Recent>,
    /// When the next mark is due, in nanoseconds since the start.
    mark_at: AtomicU64,
    /// What it gets where too many want to run.
    share: Arc<Share>,
}

impl CpuMeter {
    pub(crate) fn new(limit_milli: Option<u64>, request_milli: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            total_nanos: AtomicU64::new(0),
            bucket: Mutex::new(limit_milli.map(Bucket::new)),
            recent: Mutex::new(Recent::new()),
            mark_at: AtomicU64::new(MARK_NANOS),
            share: Arc::new(Share::new(request_milli)),
        })
    }

    /// Nanoseconds of CPU a second, over the last [`USAGE_WINDOW`].
    pub(crate) fn rate_nanos(&self) -> u64 {
        let recent = self.recent.lock();
        recent.rate(self.start.elapsed().as_nanos() as u64, self.total_nanos())
    }

    /// What the container gets where too many want to run.
    pub(crate) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// Gives the container another limit, or none.
    pub(crate) fn resize(&self, limit_milli: Option<u64>) {
        let mut bucket = self.bucket.lock();
        match (limit_milli, &mut *bucket) {
            (Some(milli), Some(bucket)) => bucket.resize(milli),
            (limit, bucket) => *bucket = limit.map(Bucket::new),
        }
    }

    pub(crate) fn throttling(&self) -> Throttling {
        self.bucket
            .lock()
            .as_ref()
            .map(|bucket| bucket.throttling)
            .unwrap_or_default()
    }

    pub(crate) fn total_nanos(&self) -> u64 {
        self.total_nanos.load(Ordering::Relaxed)
    }

    fn admit(&self) -> Option<Instant> {
        let mut bucket = self.bucket.lock();
        let bucket = bucket.as_mut()?;
        let until = bucket.admit(self.start.elapsed().as_nanos() as u64)?;
        Some(self.start + Duration::from_nanos(until))
    }

    /// Counts instructions against the limit, for a container whose limit is one of fuel.
    pub(crate) fn charge_fuel(&self, fuel: u64) {
        let nanos = u128::from(fuel) * 1_000_000_000 / u128::from(FUEL_PER_CPU_SECOND);
        if let Some(bucket) = &mut *self.bucket.lock() {
            bucket.charge(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
    }

    fn charge(&self, nanos: u64, by_fuel: bool) {
        self.share.charge(nanos);
        let before = self.total_nanos.fetch_add(nanos, Ordering::Relaxed);
        let began = (self.start.elapsed().as_nanos() as u64).saturating_sub(nanos);
        if began >= self.mark_at.load(Ordering::Relaxed) {
            let mut recent = self.recent.lock();
            // Another thread may have been here meanwhile.
            if began >= self.mark_at.load(Ordering::Relaxed) {
                self.mark_at.store(began + MARK_NANOS, Ordering::Relaxed);
                recent.mark(began, before);
            }
        }
        if by_fuel {
            return;
        }
        if let Some(bucket) = &mut *self.bucket.lock() {
            bucket.charge(nanos);
        }
    }
}

/// Work of a container under its meter: a guest's call, or what the host does in its place.
pub(crate) struct Governed<F> {
    work: Pin<Box<F>>,
    meter: Arc<CpuMeter>,
    ticker: Ticker,
    /// Its limit counts instructions, see [`CpuMeter::charge_fuel`].
    by_fuel: bool,
    throttled: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Governed<F> {
    pub(crate) fn new(work: F, meter: Arc<CpuMeter>, ticker: Ticker) -> Self {
        Self {
            work: Box::pin(work),
            meter,
            ticker,
            by_fuel: false,
            throttled: None,
        }
    }

    /// Lets instructions count against the limit, and not time.
    pub(crate) fn by_fuel(mut self, by_fuel: bool) -> Self {
        self.by_fuel = by_fuel;
        self
    }
}

impl<F: Future> Future for Governed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        loop {
            if let Some(sleep) = &mut this.throttled {
                ready!(sleep.as_mut().poll(cx));
                this.throttled = None;
            }
            let Some(until) = this.meter.admit() else { break };
            this.throttled = Some(Box::pin(tokio::time::sleep_until(until.into())));
        }
        let running = this.ticker.running();
        BEGAN.set(this.ticker.count());
        let before = READ.take().unwrap_or_else(thread_cpu_nanos);
        let result = this.work.as_mut().poll(cx);
        let after = thread_cpu_nanos();
        READ.set(Some(after));
        drop(running);
        this.meter.charge(after.saturating_sub(before), this.by_fuel);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERIOD: u64 = CPU_PERIOD.as_nanos() as u64;

    #[test]
    fn a_full_quota_waits_for_the_next_period() {
        let mut bucket = Bucket::new(200);
        assert_eq!(bucket.admit(0), None);
        bucket.charge(PERIOD / 5);
        assert_eq!(bucket.admit(1), Some(PERIOD));
        assert_eq!(bucket.admit(PERIOD), None);
    }

    #[test]
    fn waits_are_counted_by_period_and_a_limit_can_change() {
        let mut bucket = Bucket::new(200);
        bucket.admit(0);
        bucket.charge(PERIOD / 5);
        bucket.admit(PERIOD / 5);
        bucket.admit(PERIOD / 2);
        let counted = bucket.throttling;
        assert_eq!((counted.periods, counted.throttled_periods), (1, 1));
        assert_eq!(
            counted.throttled_nanos,
            PERIOD * 4 / 5 + PERIOD / 2,
            "two programs waited"
        );
        bucket.resize(900);
        assert_eq!(bucket.admit(PERIOD / 2), None);
        assert_eq!(bucket.admit(3 * PERIOD), None);
        assert_eq!((bucket.throttling.periods, bucket.throttling.throttled_periods), (2, 1));
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let mut bucket = Bucket::new(500);
        assert_eq!(bucket.admit(100 * PERIOD), None);
        bucket.charge(PERIOD / 2);
        assert_eq!(bucket.admit(100 * PERIOD + 1), Some(101 * PERIOD));
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut recent = Recent::new();
        assert_eq!(recent.rate(2 * SECOND, SECOND), SECOND / 2, "a young container");
        // Busy until second 10, then at rest.
        for second in 1..=10 {
            recent.mark(second * SECOND, second * SECOND);
        }
        assert_eq!(recent.rate(10 * SECOND, 10 * SECOND), SECOND);
        assert_eq!(recent.rate(12 * SECOND, 10 * SECOND), SECOND * 3 / 5);
        assert_eq!(recent.rate(60 * SECOND, 10 * SECOND), 0);
        // A burst of one second after a long rest counts whole.
        recent.mark(99 * SECOND, 10 * SECOND);
        assert_eq!(recent.rate(100 * SECOND, 11 * SECOND), SECOND / 5);
        assert!(recent.marks.len() < 8);
    }

    proptest! {
        #[test]
        fn a_rate_never_tells_more_than_one_thread_can_use(steps in prop::collection::vec((1u64..3_000_000_000, 0u64..100), 1..40)) {
            let (mut recent, mut now, mut total) = (Recent::new(), 0, 0);
            for (pause, percent) in steps {
                now += pause;
                total += pause / 100 * percent;
                prop_assert!(recent.rate(now, total) <= SECOND);
                recent.mark(now, total);
            }
        }

        /// A guest that runs whenever it may, in slices of any size, gets its share and at most one slice more.
        #[test]
        fn the_share_is_exact_in_the_long_run(milli in 1u64..1000, slice in 1u64..20_000_000) {
            let mut bucket = Bucket::new(milli);
            let (mut now, mut used) = (0, 0);
            while now < 50 * PERIOD {
                match bucket.admit(now) {
                    Some(until) => {
                        prop_assert!(until > now);
                        now = until;
                    }
                    None => {
                        bucket.charge(slice);
                        used += slice;
                        now += slice;
                    }
                }
            }
            let share = now.div_ceil(PERIOD) * bucket.quota_nanos;
            prop_assert!(used <= share + slice, "{} over {}", used, share);
            prop_assert!(used + bucket.quota_nanos + slice >= share.min(now), "{} under {}", used, share);
        }
    }
}
