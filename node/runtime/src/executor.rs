//! The threads that run guests, and the queue before them.
//!
//! A small executor in place of tokio's, for one thing: who answers whom. A guest that wakes another one and then waits for its answer
//! hands it the thread. tokio does so too, but wakes a thread besides every few turns, which costs two guests that talk to each
//! other more than all else that they do. The order of the queue is that of the [crowd](crate::crowd).
//!
//! Timers and what the WASI library spawns are tokio's still: each thread here has its runtime at hand. A thread whose guest is in a call
//! of the system for long has another one in its place meanwhile, see [`crate::seats`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::{io, thread};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Handle, Runtime};

use crate::cpu;
use crate::crowd::{Crowd, FRONT, Member, Ready, Share};
use crate::seats::{self, Seats};
use crate::ticker::Ticker;

/// How many times in a row a thread goes on with who was woken on it, before it looks at the queue. Two guests that talk to
/// each other must not keep the others out.
const HANDED_ON: u32 = 32;

/// It waits for something.
const RESTS: u8 = 0;
/// It is in a queue.
const QUEUED: u8 = 1;
/// A thread polls it.
const RUNS: u8 = 2;
/// A thread polls it, and it has been woken since that began.
const WOKEN: u8 = 3;
/// It has ended.
const ENDED: u8 = 4;

thread_local! {
    /// The executor of this thread.
    static OWN: RefCell<Option<Executor>> = const { RefCell::new(None) };
    /// Who was woken by the task that runs on this thread.
    static NEXT: Cell<Option<Arc<Task>>> = const { Cell::new(None) };
}

/// Timers and threads for blocking calls. They end with the last who has them, and do not wait for what still blocks.
pub(crate) struct Tokio(Option<Runtime>, Handle);

impl Tokio {
    pub(crate) fn new(runtime: Runtime) -> Self {
        let handle = runtime.handle().clone();
        Self(Some(runtime), handle)
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.1
    }
}

impl Drop for Tokio {
    fn drop(&mut self) {
        // Dropping it where it stands would block.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Spawns tasks; clones share the threads, which end with [`Executor::stop`].
#[derive(Clone)]
pub(crate) struct Executor(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Whose turn it is.
    crowd: Crowd,
    /// Whom to tell that those who run should be interrupted.
    tickers: Mutex<Vec<Ticker>>,
    /// Which threads may run guests.
    seats: Arc<Seats>,
    /// What each thread has at hand; none once the executor is stopped.
    tokio: Mutex<Option<Arc<Tokio>>>,
    /// Told when something is in the queue while a thread waits.
    filled: Condvar,
    /// All tasks that have not ended, for the end of the runtime.
    tasks: Mutex<HashMap<u64, Weak<Task>>>,
    next: AtomicU64,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Queue {
    ready: Ready<Arc<Task>>,
    /// Threads that wait.
    waiting: usize,
    /// One of them has been told to come, and has not come yet. It tells the next if there is more to do: each call for a thread is
    /// one of the system, and a burst would make one for each task.
    called: bool,
}

impl Queue {
    /// Whether a thread is to be called now.
    fn call(&mut self) -> bool {
        let call = self.waiting > 0 && !self.called && !self.ready.is_empty();
        self.called |= call;
        call
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    number: u64,
    executor: Executor,
    share: Arc<Share>,
    state: AtomicU8,
    work: Mutex<Option<Work>>,
}

impl Executor {
    /// Starts so many threads.
    pub(crate) fn start(threads: usize, tokio: &Arc<Tokio>) -> io::Result<Self> {
        let executor = Self(Arc::new(Shared {
            queue: Mutex::default(),
            crowd: Crowd::default(),
            tickers: Mutex::default(),
            seats: Arc::new(Seats::new(threads)),
            tokio: Mutex::new(Some(tokio.clone())),
            filled: Condvar::new(),
            tasks: Mutex::default(),
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }));
        for _ in 0..executor.0.seats.look() {
            if let Err(error) = executor.bring() {
                executor.stop();
                return Err(error);
            }
        }
        Ok(executor)
    }

    /// Starts a thread that goes for a seat, which is expected from it.
    fn bring(&self) -> io::Result<()> {
        let Some(tokio) = self.0.tokio.lock().clone() else {
            return Ok(()); // it was stopped meanwhile, and nobody is expected any more
        };
        let own = self.clone();
        let thread = thread::Builder::new().name("coracle-guest".into()).spawn(move || {
            let _timers = tokio.handle().enter();
            OWN.set(Some(own.clone()));
            if own.0.seats.come() {
                own.work();
            }
            OWN.set(None);
        });
        thread.map(drop).inspect_err(|_| self.0.seats.not_brought())
    }

    /// The guests whom this ticker interrupts run here. It looks after threads that block, too.
    pub(crate) fn interrupts_by(&self, ticker: Ticker) {
        let shared = Arc::downgrade(&self.0);
        ticker.at_each_tick(move || {
            if let Some(shared) = shared.upgrade() {
                Self(shared).look();
            }
        });
        self.0.tickers.lock().push(ticker);
    }

    /// Sees to it that there is a thread for each core, whoever blocks.
    fn look(&self) {
        for _ in 0..self.0.seats.look() {
            if let Err(error) = self.bring() {
                tracing::warn!(%error, "no further thread for guests while others wait for files");
            }
        }
    }

    /// Runs a task of a container to its end, or until the executor is stopped.
    pub(crate) fn spawn(&self, share: &Arc<Share>, work: impl Future<Output = ()> + Send + 'static) {
        let task = Arc::new(Task {
            number: self.0.next.fetch_add(1, Ordering::Relaxed),
            executor: self.clone(),
            share: share.clone(),
            state: AtomicU8::new(QUEUED),
            work: Mutex::new(Some(Box::pin(work))),
        });
        self.0.tasks.lock().insert(task.number, Arc::downgrade(&task));
        self.schedule(task);
    }

    /// Ends the threads and drops all tasks. Tasks that run just now go at their next pause.
    pub(crate) fn stop(&self) {
        let ready = {
            let mut queue = self.0.queue.lock();
            self.0.stopped.store(true, Ordering::SeqCst);
            self.0.crowd.clear(&mut queue.ready)
        };
        self.0.filled.notify_all();
        self.0.seats.close();
        // Dropped without the lock.
        let tokio = self.0.tokio.lock().take();
        drop(tokio);
        drop(ready);
        let tasks = std::mem::take(&mut *self.0.tasks.lock());
        for task in tasks.into_values().filter_map(|task| task.upgrade()) {
            // One that runs is dropped by its thread.
            let work = task.work.try_lock().and_then(|mut work| work.take());
            drop(work);
        }
    }

    /// Puts a task that is new or was woken where a thread will find it.
    fn queue(&self, task: Arc<Task>) {
        let place = self.0.crowd.place(&task.share);
        let (call, all_run) = {
            let mut queue = self.0.queue.lock();
            if self.is_stopped() {
                return;
            }
            self.0.crowd.push(&mut queue.ready, place, task);
            (queue.call(), queue.waiting == 0)
        };
        if call {
            self.0.filled.notify_one();
        }
        // Who used as much as the others waits for the next tick: two guests that wake each other all the time would otherwise
        // keep everybody from work.
        if all_run && place == FRONT {
            self.0.tickers.lock().iter().for_each(Ticker::interrupt);
        }
    }

    /// Hands this thread to a task, if it is one of the executor's, or puts the task into the queue. Only one is handed the thread: the
    /// one that was woken last, who is most likely what the others wait for.
    fn schedule(&self, task: Arc<Task>) {
        let here = OWN.with_borrow(|own| own.as_ref().is_some_and(|own| Arc::ptr_eq(&own.0, &self.0)));
        let left = match here {
            true => NEXT.replace(Some(task)),
            false => Some(task),
        };
        if let Some(task) = left {
            self.queue(task);
        }
    }

    fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// What each thread does.
    fn work(&self) {
        let (mut handed_on, mut again, mut tick) = (0, None, 0);
        loop {
            // The system would leave its core for some ticks of its own to a thread that does not wait, whoever else has something short
            // to do: the threads that bring a guest its requests.
            let now = self.0.seats.looks();
            if std::mem::replace(&mut tick, now) != now {
                thread::yield_now();
            }
            if seats::is_lost() {
                // It was away for so long that another thread runs guests in its place.
                let call = {
                    let mut queue = self.0.queue.lock();
                    self.put(&mut queue, NEXT.take(), again.take());
                    queue.call()
                };
                if call {
                    self.0.filled.notify_one();
                }
                if !self.0.seats.sit() {
                    return;
                }
                cpu::unread();
            }
            let task = match NEXT.take() {
                Some(task)
                    if again.is_none()
                        && handed_on < HANDED_ON
                        && self.0.crowd.may_follow(&task.share)
                        && !self.is_stopped() =>
                {
                    handed_on += 1;
                    task
                }
                next => {
                    handed_on = 0;
                    let Some(task) = self.take(next, again) else {
                        return;
                    };
                    task
                }
            };
            self.0.crowd.runs(&task.share);
            again = task.run();
        }
    }

    /// Puts one that was woken and one that goes on into the queue.
    fn put(&self, queue: &mut Queue, woken: Option<Arc<Task>>, again: Option<Arc<Task>>) {
        let crowd = &self.0.crowd;
        if let Some(task) = woken {
            let place = crowd.place(&task.share);
            crowd.push(&mut queue.ready, place, task);
        }
        if let Some(task) = again {
            crowd.again(&mut queue.ready, task);
        }
    }

    /// The first of the queue, in which one that was woken and one that goes on take their places before; none once the executor is
    /// stopped.
    fn take(&self, woken: Option<Arc<Task>>, again: Option<Arc<Task>>) -> Option<Arc<Task>> {
        let crowd = &self.0.crowd;
        let mut queue = self.0.queue.lock();
        if self.is_stopped() {
            return None;
        }
        self.put(&mut queue, woken, again);
        loop {
            if let Some(task) = crowd.pop(&mut queue.ready) {
                if queue.call() {
                    self.0.filled.notify_one();
                }
                return Some(task);
            }
            queue.waiting += 1;
            self.0.filled.wait(&mut queue);
            queue.waiting -= 1;
            queue.called = false;
            if self.is_stopped() {
                return None;
            }
            cpu::unread();
        }
    }
}

/// Runs a task of a container on the threads of its guest, which calls.
pub(crate) fn spawn(share: &Arc<Share>, work: impl Future<Output = ()> + Send + 'static) {
    let own = OWN.with_borrow(Clone::clone);
    match own {
        Some(executor) => executor.spawn(share, work),
        // Not on such a thread: in a test.
        None => drop(tokio::spawn(work)),
    }
}

impl Member for Arc<Task> {
    fn share(&self) -> &Share {
        &self.share
    }
}

impl Task {
    /// Polls it. Gives it back if it wants to go on at once.
    fn run(self: Arc<Self>) -> Option<Arc<Self>> {
        self.state.store(RUNS, Ordering::Release);
        let waker = Waker::from(self.clone());
        let read = cpu::last_read();
        let mut work = self.work.lock();
        let ended = match work.as_mut() {
            // What a task leaves behind is dropped with it; locks here do not poison.
            Some(work) => catch_unwind(AssertUnwindSafe(|| {
                work.as_mut().poll(&mut Context::from_waker(&waker))
            })),
            None => Ok(Poll::Ready(())),
        };
        if cpu::last_read() == read {
            cpu::unread(); // what it did is in nobody's account
        }
        if !matches!(ended, Ok(Poll::Pending)) {
            self.state.store(ENDED, Ordering::Release);
            self.executor.0.tasks.lock().remove(&self.number);
            // A panic in a drop must not end the thread either.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(work.take())));
            cpu::unread();
            return None;
        }
        drop(work);
        if self.executor.is_stopped() {
            // It was stopped just now, and whoever did that could not take what was in use here.
            drop(self.work.lock().take());
            return None;
        }
        let rests = self
            .state
            .compare_exchange(RUNS, RESTS, Ordering::AcqRel, Ordering::Acquire);
        rests.is_err().then(|| {
            self.state.store(QUEUED, Ordering::Release);
            self
        })
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let woken = |state| match state {
            RESTS => Some(QUEUED),
            RUNS => Some(WOKEN),
            _ => None,
        };
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, woken);
        if before != Ok(RESTS) {
            return;
        }
        self.executor.schedule(self.clone());
    }
}

#[cfg(test)]
mod tests;
