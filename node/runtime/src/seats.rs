//! Who of the threads may run guests: there are as many seats as there are cores, and more threads than that.
//!
//! A guest's code comes back to the host at every tick, see [`crate::ticker`], and what waits gives its thread away. A call of the system
//! that works on files does neither: it holds its thread for as long as the disk likes. Such a call is made in [`blocking`], and a thread
//! that is in it for some ticks loses its seat to another thread, which is brought where none waits. What was called goes on; when it is
//! done, the thread goes for a seat again before it runs anybody else. So the quick calls, which are nearly all, cost no other thread
//! and no wake-up, and are the work of the guest that made them; and a disk that hangs keeps no core from the other guests.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::limits::{BLOCKED_TICKS, SPARE_THREAD, THREAD_AGAIN_TICKS};

/// The thread that has the seat runs guests.
const RUNS: u64 = 0;
/// The seat was given to somebody else.
const LOST: u64 = u64::MAX;

/// One thread's right to run guests: [`RUNS`], [`LOST`], or the look before which a call began that may block.
#[derive(Debug, Default)]
struct Seat(AtomicU64);

impl Seat {
    fn change(&self, from: u64, to: u64) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The call is over. A seat that was lost stays so.
    fn back(&self) {
        let began = self.0.load(Ordering::Relaxed);
        if began != LOST {
            self.change(began, RUNS);
        }
    }

    /// Takes it from a thread that has been in one call for too long.
    fn take_away(&self, look: u64) -> bool {
        match self.0.load(Ordering::Acquire) {
            RUNS | LOST => false,
            began => look.saturating_sub(began) >= BLOCKED_TICKS && self.change(began, LOST),
        }
    }
}

thread_local! {
    /// The seat of this thread, and where it is from.
    static OWN: RefCell<Option<(Arc<Seats>, Arc<Seat>)>> = const { RefCell::new(None) };
}

/// All seats.
#[derive(Debug)]
pub(crate) struct Seats {
    state: Mutex<State>,
    /// Told when there is a free one and somebody waits.
    freed: Condvar,
    /// How often somebody has looked for threads that block; the first time is 1.
    looks: AtomicU64,
}

#[derive(Debug)]
struct State {
    taken: Vec<Arc<Seat>>,
    free: usize,
    /// Threads that wait for one.
    waiting: usize,
    /// Threads that have been called and have not come yet.
    coming: usize,
    /// The look before which no further thread is called, since the last could not be had.
    call_again: u64,
    closed: bool,
}

impl Seats {
    /// So many, all of them free.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            state: Mutex::new(State {
                taken: Vec::with_capacity(count),
                free: count,
                waiting: 0,
                coming: 0,
                call_again: 0,
                closed: false,
            }),
            freed: Condvar::new(),
            looks: AtomicU64::new(1),
        }
    }

    /// Takes the seats of threads that block. Says how many threads are to be brought for the free ones; they are expected from now on.
    pub(crate) fn look(&self) -> usize {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        let before = state.taken.len();
        state.taken.retain(|seat| !seat.take_away(look));
        state.free += before - state.taken.len();
        if state.free == 0 || state.closed {
            return 0;
        }
        for _ in 0..state.free.min(state.waiting) {
            self.freed.notify_one();
        }
        if look < state.call_again {
            return 0;
        }
        let missing = state.free.saturating_sub(state.waiting + state.coming);
        state.coming += missing;
        missing
    }

    /// How often there was a look. They come with the ticks.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// One that was to be brought cannot be had. The free seat waits for who comes back, or for a later try.
    pub(crate) fn not_brought(&self) {
        let mut state = self.state.lock();
        state.coming -= 1;
        state.call_again = self.looks() + THREAD_AGAIN_TICKS;
    }

    /// Gives this thread, which has none, a seat; waits for it. False if there is none for long, or no more.
    pub(crate) fn sit(self: &Arc<Self>) -> bool {
        let mut state = self.state.lock();
        while state.free == 0 && !state.closed {
            state.waiting += 1;
            let waited = self.freed.wait_for(&mut state, SPARE_THREAD);
            state.waiting -= 1;
            if waited.timed_out() {
                break;
            }
        }
        let sits = state.free > 0 && !state.closed;
        OWN.set(sits.then(|| {
            let seat = Arc::new(Seat::default());
            state.free -= 1;
            state.taken.push(seat.clone());
            (self.clone(), seat)
        }));
        sits
    }

    /// As [`Seats::sit`], for a thread that was brought.
    pub(crate) fn come(self: &Arc<Self>) -> bool {
        self.state.lock().coming -= 1;
        self.sit()
    }

    /// Nobody gets a seat any more.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.freed.notify_all();
    }
}

/// Whether this thread has lost its seat, and is to run nobody before it has another one.
pub(crate) fn is_lost() -> bool {
    OWN.with_borrow(|own| {
        own.as_ref()
            .is_none_or(|(_, seat)| seat.0.load(Ordering::Relaxed) == LOST)
    })
}

/// Makes calls of the system that may block.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    let mark = |change: fn(&Seats, &Seat)| {
        OWN.with_borrow(|own| {
            if let Some((seats, seat)) = own {
                change(seats, seat);
            }
        });
    };
    mark(|seats, seat| {
        seat.change(RUNS, seats.looks());
    });
    let done = work();
    mark(|_, seat| seat.back());
    done
}

/// As [`blocking`], for a future that makes such calls when it is polled.
pub(crate) async fn blocking_async<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| blocking(|| work.as_mut().poll(context))).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    /// Runs on a thread of its own, which sits down first.
    fn seated<T: Send + 'static>(
        seats: &Arc<Seats>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let seats = seats.clone();
        thread::spawn(move || {
            assert!(seats.come());
            work()
        })
    }

    fn looks(seats: &Seats) -> usize {
        (0..=BLOCKED_TICKS).map(|_| seats.look()).sum()
    }

    #[test]
    fn who_blocks_loses_the_seat_and_who_runs_keeps_it() {
        let seats = Arc::new(Seats::new(2));
        assert_eq!(seats.look(), 2);
        assert_eq!(seats.look(), 0, "they are expected");
        let (done, wait) = mpsc::channel::<()>();
        let ((began, begins), again) = (mpsc::channel(), seats.clone());
        let blocks = seated(&seats, move || {
            blocking(|| {
                began.send(()).unwrap();
                wait.recv().unwrap();
            });
            (is_lost(), again.sit(), is_lost())
        });
        let (end, ends) = mpsc::channel::<()>();
        let runs = seated(&seats, move || {
            // Quick calls are none that block.
            (0..1000).for_each(|_| blocking(|| {}));
            ends.recv().unwrap();
            is_lost()
        });
        begins.recv().unwrap();
        assert_eq!(looks(&seats), 1, "one is to be brought");
        // It comes, and has the seat.
        assert!(!seated(&seats, is_lost).join().unwrap());
        done.send(()).unwrap();
        // The one that is back waits: nobody gives up a seat.
        while seats.state.lock().waiting == 0 {
            thread::yield_now();
        }
        assert_eq!(looks(&seats), 0);
        end.send(()).unwrap();
        assert!(!runs.join().unwrap());
        seats.close();
        assert_eq!(blocks.join().unwrap(), (true, false, true));
    }

    #[test]
    fn who_comes_back_takes_a_seat_that_is_free() {
        let seats = Arc::new(Seats::new(1));
        assert_eq!(seats.look(), 1);
        let own = seats.clone();
        let found = seated(&seats, move || {
            blocking(|| {
                assert_eq!(looks(&own), 1);
                // It cannot be had, and is not tried for at every look.
                own.not_brought();
                assert_eq!(looks(&own), 0);
            });
            (is_lost(), own.sit(), is_lost())
        });
        assert_eq!(found.join().unwrap(), (true, true, false));
    }
    #[test]
    fn threads_that_cannot_be_had_are_tried_for_again() {
        let seats = Seats::new(2);
        for _ in 0..3 {
            assert_eq!(seats.look(), 2);
            (0..2).for_each(|_| seats.not_brought());
            assert_eq!((0..THREAD_AGAIN_TICKS).map(|_| seats.look()).sum::<usize>(), 0);
        }
    }
}
