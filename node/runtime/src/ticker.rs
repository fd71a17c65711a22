//! The thread that makes running guests yield.
//!
//! Compiled code looks at a counter in its engine at every loop and call, and returns to the host when the counter has moved.
//! This thread moves it once a [`limits::TICK`]. While no guest runs it is parked: an idle node wakes nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};

use wasmtime::EngineWeak;

use crate::limits;

/// Ticks without a running guest after which the thread parks. Waking it costs a system call on the way into a guest, and a
/// guest that answers requests comes and goes many times within so many milliseconds.
const IDLE_TICKS: u32 = 20;

/// The ticker of one engine; clones share the thread, which ends with the engine.
#[derive(Clone, Debug)]
pub(crate) struct Ticker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    running: AtomicUsize,
    parked: AtomicBool,
    thread: Thread,
}

/// Says that a guest runs on this thread, until it drops.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    /// Starts the thread. It holds no strong reference to the engine.
    pub(crate) fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let (send, receive) = std::sync::mpsc::sync_channel::<std::sync::Weak<Shared>>(1);
        let handle = thread::Builder::new().name("coracle-ticker".into()).spawn(move || {
            if let Ok(shared) = receive.recv() {
                tick(&engine, &shared);
            }
        })?;
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            thread: handle.thread().clone(),
        });
        // The receiver lives until it has got this.
        let _ = send.send(Arc::downgrade(&shared));
        Ok(Self(shared))
    }

    /// To be held while a guest's code runs.
    pub(crate) fn running(&self) -> Running<'_> {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        if self.0.parked.load(Ordering::SeqCst) && self.0.parked.swap(false, Ordering::SeqCst) {
            self.0.thread.unpark();
        }
        Running(&self.0)
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
fn tick(engine: &EngineWeak, shared: &std::sync::Weak<Shared>) {
    let mut idle = 0;
    loop {
        // Held only for this turn: the thread must not keep alive what it serves.
        let Some(engine) = engine.upgrade() else { return };
        let Some(state) = shared.upgrade() else { return };
        if state.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
            engine.increment_epoch();
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
