//! The two configurations of the compiler and sandbox, and the linker that belongs to each.
//!
//! Nearly all guests run under the engine that yields by time. One that counts instructions is made when the first container
//! with a fuel limit asks for it: its code is slower and differs, so nothing is shared between them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine};

use crate::executor::Executor;
use crate::host::{self, Host};
use crate::limits;
use crate::ticker::Ticker;
use crate::{preview1, unroll};

/// How guests under an engine are made to yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metering {
    /// At ticks of a clock. The default.
    Time,
    /// By counting instructions, and at ticks: the same program ends at the same instruction, on every machine.
    Fuel,
}

/// The sandbox could not be set up on this machine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The processor or system lacks something that compiled code needs.
    #[error("cannot set up the WebAssembly engine: {0:#}")]
    Configure(wasmtime::Error),
    /// The host functions contradict each other; a defect of this program.
    #[error("cannot link the host functions: {0:#}")]
    Link(wasmtime::Error),
    /// No thread for the ticker.
    #[error("cannot start the ticker thread: {0}")]
    Ticker(#[source] std::io::Error),
}

/// One engine with what every module under it needs.
pub(crate) struct GuestEngine {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<Host>,
    pub(crate) metering: Metering,
    pub(crate) ticker: Ticker,
    /// Changes whenever code compiled earlier would not fit: version, options, processor features.
    pub(crate) compatibility: String,
}

impl GuestEngine {
    fn new(metering: Metering) -> Result<Arc<Self>, EngineError> {
        let engine = Engine::new(&config(metering)).map_err(EngineError::Configure)?;
        let linker = host::linker(&engine).map_err(EngineError::Link)?;
        let ticker = Ticker::start(engine.weak()).map_err(EngineError::Ticker)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        (unroll::VERSION, preview1::VERSION).hash(&mut hasher);
        let compatibility = format!("{:016x}", hasher.finish());
        Ok(Arc::new(Self {
            engine,
            linker,
            metering,
            ticker,
            compatibility,
        }))
    }
}

/// What compiles for guests of this kind, and runs none.
pub(crate) fn compiler(metering: Metering) -> Result<Engine, EngineError> {
    Engine::new(&config(metering)).map_err(EngineError::Configure)
}

/// What is the same and what differs.
fn config(metering: Metering) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(metering == Metering::Fuel)
        // Only who asks for a dump gets one; what others leave costs a look at their instances when they fail.
        .coredump_on_trap(true)
        .max_wasm_stack(limits::WASM_STACK_BYTES)
        .async_stack_size(limits::ASYNC_STACK_BYTES)
        .wasm_backtrace_max_frames(NonZeroUsize::new(limits::PROFILE_FRAMES))
        // Zero pages and the data of the image are shared until written, which is most of what an idle guest is.
        .memory_init_cow(true)
        // WASI 0.3 is not offered; without it a call has less to book.
        .concurrency_support(false)
        // What one container may hold must fit in 32 bits of address, and one guest must not share memory with another.
        .wasm_memory64(false)
        .wasm_threads(false);
    config
}

/// The engines of a runtime.
pub(crate) struct Engines {
    time: Arc<GuestEngine>,
    fuel: Mutex<Option<Arc<GuestEngine>>>,
    executor: Executor,
}

impl Engines {
    /// Engines for guests that run there.
    pub(crate) fn new(executor: Executor) -> Result<Self, EngineError> {
        let time = GuestEngine::new(Metering::Time)?;
        executor.interrupts_by(time.ticker.clone());
        Ok(Self {
            time,
            fuel: Mutex::new(None),
            executor,
        })
    }

    pub(crate) fn get(&self, metering: Metering) -> Result<Arc<GuestEngine>, EngineError> {
        if metering == Metering::Time {
            return Ok(self.time.clone());
        }
        let mut fuel = self.fuel.lock();
        match &*fuel {
            Some(engine) => Ok(engine.clone()),
            None => {
                let engine = fuel.insert(GuestEngine::new(Metering::Fuel)?);
                self.executor.interrupts_by(engine.ticker.clone());
                Ok(engine.clone())
            }
        }
    }
}
