//! The runtime: threads for guests, engines, compiled code.
//!
//! Guests run on threads of their own, so that a busy guest never delays the API or the node's work: the operating system
//! arbitrates between the two sets of threads.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Builder;

use crate::cache::{CodeCache, Loaded};
use crate::container::{self, Container, StartError};
use crate::engine::{EngineError, Engines, Metering};
use crate::executor::{Executor, Tokio};
use crate::files::Accounts;
use crate::http::tls::{Trust, TrustError};
use crate::limits;
use crate::module::{self, LoadError, Module, ModuleInfo};
use crate::shortage::{self, Holders};
use crate::spec::ContainerSpec;

/// How a runtime is set up.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Where compiled code is kept. Made if missing, and readable by this user alone. Nobody else may write there: the code is
    /// executed.
    pub cache_dir: PathBuf,
    /// This program, if it has the command [`crate::COMPILE_COMMAND`]: modules are compiled by it in a process of its own, with limits
    /// of time and memory. None: in this process, without.
    pub compiler: Option<PathBuf>,
    /// Threads that run guests; as many as there are cores. At least one is made.
    pub worker_threads: usize,
    /// The certificates, in PEM, of the authority by which guests' requests for `https` know their servers: the cluster's.
    /// None: such requests fail.
    pub trusted_pem: Option<String>,
    /// Bytes of the machine's memory that guests must leave free; when they do not, one of them ends as OOMKilled. None: a
    /// twentieth of what the machine, or the control group of this process, has.
    pub free_memory_bytes: Option<u64>,
}

impl RuntimeConfig {
    /// With as many threads as there are cores, and everything else as `None` has it.
    #[must_use]
    pub fn new(cache_dir: PathBuf) -> Self {
        Self {
            cache_dir,
            compiler: None,
            worker_threads: std::thread::available_parallelism().map_or(1, usize::from),
            trusted_pem: None,
            free_memory_bytes: None,
        }
    }
}

/// The runtime cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The directory for compiled code.
    #[error("cannot use {} for compiled code: {reason}", path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        #[source]
        reason: std::io::Error,
    },
    /// The threads for guests.
    #[error("cannot start the threads for guests: {0}")]
    Threads(#[source] std::io::Error),
    /// The sandbox.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The authority to trust.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Loads modules and runs containers; clones share everything. With the last clone all containers end.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    engines: Engines,
    cache: Arc<CodeCache>,
    loaded: Loaded,
    /// One compilation at a time: each uses all cores, and two would only hold twice the memory.
    compiling: Arc<tokio::sync::Semaphore>,
    trust: Option<Trust>,
    accounts: Accounts,
    holders: Arc<Holders>,
    executor: Executor,
    tokio: Arc<Tokio>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.executor.stop();
    }
}

impl Runtime {
    /// Sets up the sandbox and starts the threads.
    pub fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let trust = config.trusted_pem.as_deref().map(Trust::new).transpose()?;
        let cache =
            CodeCache::open(config.cache_dir.clone(), config.compiler).map_err(|reason| RuntimeError::Cache {
                path: config.cache_dir,
                reason,
            })?;
        let workers = config.worker_threads.max(1);
        let tokio = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(limits::BLOCKING_THREADS)
            .thread_name("coracle-guest-io")
            .enable_time()
            .build()
            .map_err(RuntimeError::Threads)?;
        let tokio = Arc::new(Tokio::new(tokio));
        let holders = Arc::new(Holders::default());
        shortage::watch(&holders, config.free_memory_bytes).map_err(RuntimeError::Threads)?;
        let executor = Executor::start(workers, &tokio).map_err(RuntimeError::Threads)?;
        let engines = Engines::new(executor.clone()).inspect_err(|_| executor.stop())?;
        Ok(Self(Arc::new(Inner {
            engines,
            cache: Arc::new(cache),
            loaded: Loaded::default(),
            compiling: Arc::new(tokio::sync::Semaphore::new(1)),
            trust,
            accounts: Accounts::default(),
            holders,
            executor,
            tokio,
        })))
    }

    /// Looks at a file without compiling it: what it is, and whether it could run here.
    pub fn check(&self, wasm: &[u8]) -> Result<ModuleInfo, LoadError> {
        module::inspect(wasm)
    }

    /// Makes a module ready to start. Compiles at most once for each `digest`, which must name these very bytes; afterwards the
    /// code comes from the disk in well under a millisecond. The module stays loaded while somebody holds it.
    pub async fn load(&self, digest: &str, wasm: Bytes) -> Result<Arc<Module>, LoadError> {
        self.load_for(digest, wasm, Metering::Time).await
    }

    /// As [`Runtime::load`], for containers with a fuel limit. The code counts instructions and is somewhat slower.
    pub async fn load_metered(&self, digest: &str, wasm: Bytes) -> Result<Arc<Module>, LoadError> {
        self.load_for(digest, wasm, Metering::Fuel).await
    }

    async fn load_for(&self, digest: &str, wasm: Bytes, metering: Metering) -> Result<Arc<Module>, LoadError> {
        let slot = self.0.loaded.slot(digest, metering);
        let mut place = slot.lock().await;
        if let Some(module) = place.upgrade() {
            return Ok(module);
        }
        let info = module::inspect(&wasm)?;
        let engine = self.0.engines.get(metering)?;
        let turn = self
            .0
            .compiling
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| LoadError::Closed)?;
        let cache = self.0.cache.clone();
        let made = self.0.tokio.handle().spawn_blocking(move || {
            let _turn = turn;
            let component = cache.component(&engine, &info, &wasm)?;
            module::link(engine, info, &component)
        });
        let module = Arc::new(made.await.map_err(|_| LoadError::Closed)??);
        *place = Arc::downgrade(&module);
        Ok(module)
    }

    /// What the volumes of all nodes hold that share this runtime.
    pub fn accounts(&self) -> &Accounts {
        &self.0.accounts
    }

    /// Starts a container. Returns when its guest is about to run; what goes wrong later is told by [`Container::wait`].
    pub fn start(&self, module: Arc<Module>, spec: ContainerSpec) -> Result<Container, StartError> {
        let trust = self.0.trust.clone();
        container::start(&self.0.executor, trust, &self.0.holders, module, spec)
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}
