//! The thread that makes running guests yield.
//!
//! Compiled code looks at a counter in its engine at every loop and call, and returns to the host when the counter has moved.
//! This thread moves it once a [`limits::TICK`]. While no guest runs it is parked: an idle node wakes nobody.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Instant;

use wasmtime::{Engine, EngineWeak};

use crate::limits;

/// Ticks without a running guest after which the thread parks. Waking it costs a system call on the way into a guest, and a
/// guest that answers requests comes and goes many times within so many of them.
const IDLE_TICKS: u32 = 40;

/// The ticker of one engine; clones share the thread, which ends with the engine.
#[derive(Clone, Debug)]
pub(crate) struct Ticker(Arc<Shared>);

struct Shared {
    engine: EngineWeak,
    /// How often the counter was moved, or is about to be.
    count: AtomicU64,
    running: AtomicUsize,
    parked: AtomicBool,
    thread: Thread,
    start: Instant,
    /// What is to be done at each tick beside.
    beside: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// When guests were last interrupted between two ticks, in nanoseconds since the start.
    interrupted_at: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticker").finish_non_exhaustive()
    }
}

/// Says that a guest runs on this thread, until it drops.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    /// Starts the thread. It holds no strong reference to the engine.
    pub(crate) fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let (send, receive) = std::sync::mpsc::sync_channel::<std::sync::Weak<Shared>>(1);
        let handle = thread::Builder::new().name("coracle-ticker".into()).spawn(move || {
            if let Ok(shared) = receive.recv() {
                tick(&shared);
            }
        })?;
        let shared = Arc::new(Shared {
            engine,
            count: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            thread: handle.thread().clone(),
            start: Instant::now(),
            beside: OnceLock::new(),
            interrupted_at: AtomicU64::new(0),
        });
        // The receiver lives until it has got this.
        let _ = send.send(Arc::downgrade(&shared));
        Ok(Self(shared))
    }

    /// Has something done at each tick, for the first who asks. It must not keep alive whom the ticker serves.
    pub(crate) fn at_each_tick(&self, beside: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.beside.set(Box::new(beside));
    }

    /// To be held while a guest's code runs.
    pub(crate) fn running(&self) -> Running<'_> {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        if self.0.parked.load(Ordering::SeqCst) && self.0.parked.swap(false, Ordering::SeqCst) {
            self.0.thread.unpark();
        }
        Running(&self.0)
    }

    /// How often guests have been interrupted.
    pub(crate) fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Makes those who run yield before the next tick, unless that was done just now: somebody came who goes before them.
    pub(crate) fn interrupt(&self) {
        let now = self.0.start.elapsed().as_nanos() as u64;
        let last = self.0.interrupted_at.load(Ordering::Relaxed);
        if now.saturating_sub(last) < limits::INTERRUPTS.as_nanos() as u64
            || self.0.running.load(Ordering::Relaxed) == 0
            || self.0.interrupted_at.swap(now, Ordering::Relaxed) != last
        {
            return;
        }
        if let Some(engine) = self.0.engine.upgrade() {
            self.0.interrupt_all(&engine);
        }
    }
}

impl Shared {
    fn interrupt_all(&self, engine: &Engine) {
        self.count.fetch_add(1, Ordering::Relaxed);
        engine.increment_epoch();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.thread.unpark(); // so that the thread sees that nobody is left
    }
}

/// The body of the thread.
fn tick(shared: &std::sync::Weak<Shared>) {
    let mut idle = 0;
    loop {
        // Held only for this turn: the thread must not keep alive what it serves.
        let Some(state) = shared.upgrade() else { return };
        let Some(engine) = state.engine.upgrade() else { return };
        if state.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
            state.interrupt_all(&engine);
            if let Some(beside) = state.beside.get() {
                beside();
            }
        } else {
            idle += 1;
        }
        let park = idle >= IDLE_TICKS && {
            state.parked.store(true, Ordering::SeqCst);
            // A guest that came before the store has not seen it, so look again.
            state.running.load(Ordering::SeqCst) == 0
        };
        drop((engine, state));
        if park {
            thread::park();
            idle = 0;
        } else {
            thread::sleep(limits::TICK);
        }
    }
}
