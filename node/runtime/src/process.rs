//! Programs in a container: its own, those that exec starts, and those that programs start.
//!
//! A process has an instance of its own and shares everything else with its container: files, the pod's network, the memory
//! account and the CPU quota. It ends with its container, with its handle, or by itself. What exec starts forms a group with
//! all that it starts in turn: if it is ended from outside, so are they; if it ends by itself, they may go on.

pub(crate) mod ends;
mod family;
mod interface;
mod tty;

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::{Instrument, debug, info_span};

use crate::container::Shared;
use crate::cpu::Governed;
use crate::engine::Metering;
use crate::exit::{self, Exit};
use crate::host::Streams;
use crate::limits;
use crate::memory::Charge;
use crate::module::{Code, Module};
use crate::spec::ProcessSpec;

use ends::{End, Ends, Sink, Source};
pub(crate) use family::{Family, Kin, MAIN, Member, signal};
pub(crate) use interface::{Me, View, add_to_linker};
pub use tty::{Size, Tty};

/// A program cannot be started in a container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The module serves requests; it has no entry point.
    #[error("the module is a service without an entry point of its own")]
    NotACommand,
    /// There are enough already.
    #[error("{0} programs run in this container already")]
    TooMany(usize),
}

/// A program's name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Nobody knows the name.
    #[error("not found")]
    Unknown,
    /// There is such a program, and it cannot be made ready.
    #[error("{0}")]
    Failed(String),
}

/// Finds the programs that a container's programs start by name.
pub trait Programs: Send + Sync + 'static {
    /// The module behind a name. Called on a thread that runs guests, so it must not block.
    ///
    /// # Errors
    /// When there is no such program or it cannot be loaded.
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<Module>, FindError>>;
}

/// A program in a container. Dropping it kills the program.
pub struct Process {
    shared: Arc<Shared>,
    member: Arc<Member>,
    exit: watch::Receiver<Option<Exit>>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.member.pid)
            .finish_non_exhaustive()
    }
}

impl Process {
    /// Waits for the end, and says how it was.
    pub async fn wait(&self) -> Exit {
        ended(self.exit.clone()).await
    }

    /// The interrupt key: those in the foreground who do not catch it end with code 130.
    pub fn interrupt(&self) {
        self.shared.family.interrupt(self.member.group);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            self.shared.family.kill_group(self.member.group);
        }
    }
}

/// Waits for a process's end.
pub(crate) async fn ended(mut exit: watch::Receiver<Option<Exit>>) -> Exit {
    match exit.wait_for(Option::is_some).await {
        Ok(exit) => exit.clone().unwrap_or_else(|| Exit::killed(exit::KILLED)),
        // The task went away without a word, which happens when the runtime is shut down.
        Err(_) => Exit::killed(exit::KILLED),
    }
}

/// Starts a program for somebody outside.
pub(crate) fn exec(shared: &Arc<Shared>, module: Arc<Module>, spec: ProcessSpec) -> Result<Process, ExecError> {
    let place = shared
        .execs
        .clone()
        .try_acquire_owned()
        .map_err(|_| ExecError::TooMany(limits::EXECS))?;
    let terminal = spec.terminal.is_some();
    let mut ends = Ends::new();
    if let Some(reader) = spec.stdin {
        ends.insert(0, End::Source(Source::pipe(reader, terminal)));
    }
    ends.insert(1, End::Sink(Sink::log(spec.stdout, terminal)));
    ends.insert(2, End::Sink(Sink::log(spec.stderr, terminal)));
    let launch = Launch {
        kin: Kin::alone(),
        args: spec.args,
        env: None,
        directory: None,
        ends,
        tty: spec.terminal,
        paid: None,
    };
    let (member, exit) = start(shared, module, launch, place)?;
    Ok(Process {
        shared: shared.clone(),
        member,
        exit,
    })
}

/// Everything about a program to start.
pub(crate) struct Launch {
    pub(crate) kin: Kin,
    pub(crate) args: Vec<String>,
    /// None: the container's.
    pub(crate) env: Option<Vec<(String, String)>>,
    pub(crate) directory: Option<String>,
    pub(crate) ends: Ends,
    pub(crate) tty: Option<Arc<Tty>>,
    /// For its arguments and variables, where a guest chose them.
    pub(crate) paid: Option<Charge>,
}

/// Starts a program, and says how it can be told something and where its end is told.
pub(crate) fn start(
    shared: &Arc<Shared>,
    module: Arc<Module>,
    launch: Launch,
    place: OwnedSemaphorePermit,
) -> Result<(Arc<Member>, watch::Receiver<Option<Exit>>), ExecError> {
    let Code::Command(pre) = &module.code else {
        return Err(ExecError::NotACommand);
    };
    let pre = pre.clone();
    let complain = launch.ends.get(&2).cloned();
    let span = info_span!("process", program = launch.args.first().map_or("", String::as_str));
    let member = shared.family.join(launch.kin, launch.args.clone());
    let me = Arc::new(Me::new(shared.clone(), member.clone(), launch.ends, launch.tty));
    let io = Streams {
        args: &launch.args,
        env: launch.env.as_deref(),
        directory: launch.directory.as_deref(),
        me,
    };
    let mut store = shared.store_of(&module, io);
    let (exit_sender, exit) = watch::channel(None);
    let (meter, family, running, paid) = (shared.meter.clone(), shared.clone(), member.clone(), launch.paid);
    let mut container = shared.family.container_end();
    shared.guests.spawn(
        shared.meter.share(),
        async move {
            let ticker = module.engine.ticker.clone();
            let call = async {
                if module.metering() == Metering::Fuel {
                    // The container's fuel is its own program's; this one is held by the CPU quota alone.
                    store.set_fuel(u64::MAX)?;
                    store.fuel_async_yield_interval(Some(limits::FUEL_PER_YIELD))?;
                }
                let command = pre.instantiate_async(&mut store).await?;
                command.wasi_cli_run().call_run(&mut store).await
            };
            let run = async {
                match Governed::new(call, meter, ticker).await {
                    Ok(Ok(())) => Exit::code(0),
                    Ok(Err(())) => Exit::code(1),
                    Err(error) => Exit::of(&error),
                }
            };
            let exit = tokio::select! {
                biased;
                _ = container.wait_for(|ended| *ended) => Exit::killed(exit::KILLED),
                code = running.ordered_to_end() => Exit::killed(code),
                exit = run => exit,
            };
            debug!(code = exit.code, "ended");
            if let (Some(message), Some(End::Sink(err))) = (&exit.message, &complain) {
                // Where nobody reads there is nobody to tell.
                let _ = err.write(format!("{message}\n").into()).await;
            }
            // The streams end before the exit is told.
            drop(store);
            drop(complain);
            family.family.leave(running.pid);
            drop((place, paid));
            exit_sender.send_replace(Some(exit));
        }
        .instrument(span),
    );
    Ok((member, exit))
}
