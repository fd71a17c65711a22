//! One container: started, watched, ended.
//!
//! A container is a task on the guests' threads. It ends when its guest does, when somebody ends it, or with its handle;
//! dropping its task unwinds the guest's stack and frees all it held. A guest cannot refuse: it is at most a tick away from the
//! place where it is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coracle_net::NetError;
use tokio::sync::{Semaphore, watch};
use tracing::{Instrument, debug, info_span, warn};
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::core_dump;
use crate::cpu::{self, CpuMeter, Governed, Throttling};
use crate::engine::Metering;
use crate::executor::Executor;
use crate::exit::{self, Exit};
use crate::files::{MountError, Mounts};
use crate::host::{self, Host, Streams};
use crate::http::incoming;
use crate::http::outgoing::Outgoing;
use crate::http::tls::Trust;
use crate::limits;
use crate::memory::{BelowUse, MemoryAccount};
use crate::module::{Code, Module};
use crate::pipe::{PipeReader, PipeWriter, pipe};
use crate::process::ends::{End, Ends, Sink, Source};
use crate::process::{self, ExecError, Family, MAIN, Me, Member, Process, Tty, signal};
use crate::profile::Profiler;
use crate::shortage::Holders;
use crate::spec::{ContainerSpec, ProcessSpec, Stdin};
use crate::taps::{self, Attached, Taps};

/// A container cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A mount's host directory is missing or is none.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The port of an HTTP module is not to be had.
    #[error("cannot listen on port {port} of the pod: {reason}")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        reason: NetError,
    },
    /// A fuel limit was given for a module that does not count.
    #[error("a container that is metered by fuel needs a module that was loaded for metering")]
    NotMetered,
}

/// What a container has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in nanoseconds, host calls on the guest's behalf included.
    pub cpu_nanos: u64,
    /// Nanoseconds of CPU a second, over the last [`USAGE_WINDOW`](crate::USAGE_WINDOW).
    pub cpu_rate_nanos: u64,
    /// Bytes of linear memories, tables and socket buffers that it holds now.
    pub memory_bytes: u64,
    /// How often and for how long it had to wait for its CPU limit.
    pub throttling: Throttling,
}

/// A container that was started. Dropping it kills the container.
pub struct Container {
    shared: Arc<Shared>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Drop for Container {
    fn drop(&mut self) {
        self.shared.main.end(exit::KILLED);
    }
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("name", &self.shared.spec.name)
            .finish_non_exhaustive()
    }
}

impl Container {
    /// Waits for the end, and says how it was. May be called any number of times.
    pub async fn wait(&self) -> Exit {
        process::ended(self.exit.clone()).await
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.exit.borrow().clone()
    }

    /// Ends the container at once, with code 137.
    pub fn kill(&self) {
        self.shared.main.end(exit::KILLED);
    }

    /// Asks the container to end. A guest that catches the signal decides for itself; any other ends at once, with code 143.
    pub fn terminate(&self) {
        self.shared.main.tell(signal::TERMINATE);
    }

    /// The interrupt key of the container's terminal: what it started in the foreground and does not catch it ends with code
    /// 130, the container itself among them.
    pub fn interrupt(&self) {
        self.shared.family.interrupt(self.shared.main.group);
    }

    /// Runs another program in the container. It ends with the container at the latest.
    ///
    /// # Errors
    /// When the module is no command, too many run already, or a mount is gone.
    pub fn exec(&self, module: Arc<Module>, spec: ProcessSpec) -> Result<Process, ExecError> {
        process::exec(&self.shared, module, spec)
    }

    /// Joins the container's standard streams: its output from now on, and its input if it has one. `None` when too many
    /// are attached.
    pub fn attach(&self) -> Option<Attached> {
        let (stdout, stderr) = self.shared.taps.tap()?;
        let stdin = match (self.shared.spec.stdin, &self.shared.stdin) {
            (Stdin::Closed, _) | (_, None) => None,
            (Stdin::Open, Some((writer, _))) => Some((writer.clone(), false)),
            (Stdin::Once, Some((writer, _))) => Some((writer.clone(), true)),
        };
        Some(Attached { stdin, stdout, stderr })
    }

    /// The terminal that the standard streams are to the guest, if they are one.
    pub fn terminal(&self) -> Option<&Arc<Tty>> {
        self.shared.tty.as_ref()
    }

    /// What it has used so far; after its end, what it had used.
    pub fn usage(&self) -> Usage {
        Usage {
            cpu_nanos: self.shared.meter.total_nanos(),
            cpu_rate_nanos: self.shared.meter.rate_nanos(),
            memory_bytes: self.shared.account.used_bytes(),
            throttling: self.throttling(),
        }
    }

    /// How often and how long it had to wait for its CPU limit.
    pub fn throttling(&self) -> Throttling {
        self.shared.meter.throttling()
    }

    /// Gives it another request of CPU while it runs, in thousandths of a core.
    pub fn reweigh(&self, cpu_request_milli: Option<u64>) {
        self.shared.meter.share().reweigh(cpu_request_milli);
    }

    /// Gives it other limits while it runs; none means no limit.
    ///
    /// # Errors
    /// When it holds more memory than it is to have. Its CPU limit is the new one all the same.
    pub fn resize(&self, memory_limit_bytes: Option<u64>, cpu_limit_milli: Option<u64>) -> Result<(), BelowUse> {
        self.shared.meter.resize(cpu_limit_milli);
        self.shared.account.resize(memory_limit_bytes)
    }
}

/// What all parts of a running container share.
pub(crate) struct Shared {
    pub(crate) spec: ContainerSpec,
    pub(crate) module: Arc<Module>,
    pub(crate) meter: Arc<CpuMeter>,
    pub(crate) guests: Executor,
    pub(crate) account: Arc<MemoryAccount>,
    outgoing: Outgoing,
    mounts: Arc<Mounts>,
    /// Both ends of a standard input that is open: the guest's, and that of those who attach.
    stdin: Option<(PipeWriter, PipeReader)>,
    taps: Arc<Taps>,
    tty: Option<Arc<Tty>>,
    /// All processes, and the container's own among them.
    pub(crate) family: Family,
    main: Arc<Member>,
    profiler: Option<Arc<Profiler>>,
    /// Places for programs that are started from outside.
    pub(crate) execs: Arc<Semaphore>,
    /// Places for programs that programs start.
    pub(crate) processes: Arc<Semaphore>,
    /// What is left of the fuel limit while no instance holds it.
    fuel: AtomicU64,
    /// It was ended because the machine has no memory left.
    starved: AtomicBool,
}

impl Shared {
    /// Ends the container because the machine has no memory left.
    pub(crate) fn starve(&self) {
        self.starved.store(true, Ordering::Release);
        self.main.end(exit::KILLED);
    }

    /// Whether it was told to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.main.is_ordered_to_end()
    }

    /// How it ended, after an order from outside.
    fn killed(&self, code: i32) -> Exit {
        match self.starved.load(Ordering::Acquire) {
            true => Exit::starved(self.account.used_bytes()),
            false => Exit::killed(code),
        }
    }

    /// A new instance's store.
    pub(crate) fn store(self: &Arc<Self>) -> Store<Host> {
        let terminal = self.spec.terminal;
        let mut ends = Ends::new();
        if let Some((_, reader)) = &self.stdin {
            ends.insert(0, End::Source(Source::pipe(reader.clone(), terminal)));
        }
        ends.insert(1, End::Sink(Sink::log(self.spec.stdout.clone(), terminal)));
        ends.insert(2, End::Sink(Sink::log(self.spec.stderr.clone(), terminal)));
        let io = Streams {
            args: &self.spec.args,
            env: None,
            directory: None,
            me: Arc::new(Me::new(self.clone(), self.main.clone(), ends, self.tty.clone())),
        };
        self.store_of(&self.module, io)
    }

    /// A store for an instance of any module, with the container's files, network and limits.
    pub(crate) fn store_of(&self, module: &Module, io: Streams<'_>) -> Store<Host> {
        let mut store = host::store(
            &module.engine,
            &self.spec,
            &self.mounts,
            io,
            &self.account,
            self.outgoing.clone(),
        );
        let meter = self.meter.clone();
        let by_fuel = self.spec.cpu_by_fuel && module.metering() == Metering::Fuel;
        let own = std::ptr::eq(module, &*self.module);
        let profiler = self.profiler.clone().filter(|_| own);
        let ticker = module.engine.ticker.clone();
        store.epoch_deadline_callback(move |mut context| {
            if !cpu::interrupted(&ticker) {
                return Ok(UpdateDeadline::Continue(1));
            }
            if let Some(profiler) = &profiler {
                profiler.sample(&context);
            }
            if by_fuel {
                let left = context.get_fuel()?;
                meter.charge_fuel(context.data_mut().fuel_used(left));
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }

    /// Gives a store what is left of the container's fuel.
    pub(crate) fn fuel_in(&self, store: &mut Store<Host>) -> wasmtime::Result<()> {
        if self.module.metering() == Metering::Fuel {
            let fuel = match self.spec.fuel {
                Some(_) => self.fuel.swap(0, Ordering::Relaxed),
                // More than it can use in a century.
                None => u64::MAX,
            };
            store.set_fuel(fuel)?;
            store.data_mut().fuelled(fuel);
            store.fuel_async_yield_interval(Some(limits::FUEL_PER_YIELD))?;
        }
        Ok(())
    }

    /// Takes back what a store did not use.
    pub(crate) fn fuel_out(&self, store: &mut Store<Host>) {
        if let Ok(left) = store.get_fuel() {
            if self.spec.cpu_by_fuel {
                self.meter.charge_fuel(store.data_mut().fuel_used(left));
            }
            self.fuel.store(left, Ordering::Relaxed);
        }
    }

    /// Leaves a core dump of a failed instance of the container's own program, if one is wanted. Gives the error back.
    pub(crate) async fn dumped(&self, store: Store<Host>, error: wasmtime::Error) -> wasmtime::Error {
        let Some(to) = &self.spec.core_dump else {
            return error;
        };
        let (error, written) = core_dump::write(to.as_path().into(), store, error).await;
        if let Err(reason) = written {
            self.complain(&format!("no core dump: {reason}"));
        }
        error
    }

    /// Writes a line of our own to the container's standard error.
    pub(crate) fn complain(&self, message: &str) {
        self.spec.stderr.write(format!("{message}\n").as_bytes());
    }
}

/// Starts a container on the guests' threads.
pub(crate) fn start(
    guests: &Executor,
    trust: Option<Trust>,
    holders: &Holders,
    module: Arc<Module>,
    mut spec: ContainerSpec,
) -> Result<Container, StartError> {
    if (spec.fuel.is_some() || spec.cpu_by_fuel) && module.metering() != Metering::Fuel {
        return Err(StartError::NotMetered);
    }
    let meter = CpuMeter::new(spec.cpu_limit_milli, spec.cpu_request_milli);
    let account = MemoryAccount::new(spec.memory_limit_bytes, spec.sidecar);
    let mounts = Arc::new(Mounts::open(&spec.mounts, &spec.files)?);
    let taps = Arc::new(Taps::new(spec.terminal));
    spec.stdout = taps::stdout(spec.stdout, &taps);
    spec.stderr = taps::stderr(spec.stderr, &taps);
    let (family, main) = Family::new(spec.args.clone());
    let shared = Arc::new(Shared {
        tty: spec.terminal.then(Arc::default),
        profiler: spec.profile.clone().map(|to| Profiler::new(to, &spec.name)),
        family,
        main,
        processes: Arc::new(Semaphore::new(limits::PROCESSES)),
        guests: guests.clone(),
        stdin: (spec.stdin != Stdin::Closed).then(pipe),
        taps,
        execs: Arc::new(Semaphore::new(limits::EXECS)),
        outgoing: Outgoing::new(spec.net.clone(), trust, meter.share().clone()),
        meter,
        fuel: AtomicU64::new(spec.fuel.unwrap_or_default()),
        starved: AtomicBool::new(false),
        account,
        mounts,
        module,
        spec,
    });
    let life = prepare(&shared)?;
    holders.add(&shared);

    let (exit_sender, exit) = watch::channel(None);
    let span = info_span!(
        "container",
        name = shared.spec.name,
        pod = shared.spec.net.identity().name
    );
    let running = shared.clone();
    let ended = shared.taps.clone();
    guests.spawn(
        shared.meter.share(),
        async move {
            let exit = tokio::select! {
                biased;
                code = running.main.ordered_to_end() => running.killed(code),
                exit = live(running.clone(), life) => exit,
            };
            running.family.leave(MAIN);
            running.family.end();
            debug!(code = exit.code, reason = exit.reason.as_str(), "ended");
            if let Some(profiler) = running.profiler.clone() {
                write(profiler).await;
            }
            ended.end();
            exit_sender.send_replace(Some(exit));
        }
        .instrument(span),
    );
    Ok(Container { shared, exit })
}

/// Writes a profile, beside the threads that run guests.
async fn write(profiler: Arc<Profiler>) {
    let path = profiler.path().display().to_string();
    match tokio::task::spawn_blocking(move || profiler.write()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(path, %error, "cannot write a profile"),
        Err(error) => warn!(path, %error, "cannot write a profile"),
    }
}

/// What was made ready by the caller, so that what can be refused is refused at once.
enum Life {
    Command(CommandPre<Host>, Box<Store<Host>>),
    Http(wasmtime_wasi_http::p2::bindings::ProxyPre<Host>, coracle_net::Binding),
}

fn prepare(shared: &Arc<Shared>) -> Result<Life, StartError> {
    let store = shared.store();
    match &shared.module.code {
        Code::Command(pre) => Ok(Life::Command(pre.clone(), Box::new(store))),
        Code::Http(pre) => {
            let refused = |reason| StartError::Listen {
                port: shared.spec.http_port,
                reason,
            };
            Ok(Life::Http(pre.clone(), incoming::listen(shared).map_err(refused)?))
        }
    }
}

async fn live(shared: Arc<Shared>, life: Life) -> Exit {
    match life {
        Life::Command(pre, mut store) => {
            let (meter, ticker) = (shared.meter.clone(), shared.module.engine.ticker.clone());
            let call = Governed::new(run(&shared, &pre, &mut store), meter, ticker);
            let outcome = call.by_fuel(shared.spec.cpu_by_fuel).await;
            let exit = match outcome {
                Ok(Ok(())) => Exit::code(0),
                Ok(Err(())) => Exit::code(1),
                Err(error) => Exit::of(&shared.dumped(*store, error).await),
            };
            if let Some(message) = &exit.message {
                shared.complain(message);
            }
            exit
        }
        Life::Http(pre, binding) => {
            let exit = incoming::serve(shared.clone(), pre, binding).await;
            if let Some(message) = &exit.message {
                shared.complain(message);
            }
            exit
        }
    }
}

/// Runs a command to its end.
async fn run(shared: &Shared, pre: &CommandPre<Host>, store: &mut Store<Host>) -> wasmtime::Result<Result<(), ()>> {
    shared.fuel_in(store)?;
    let command = pre.instantiate_async(&mut *store).await?;
    command.wasi_cli_run().call_run(&mut *store).await
}
