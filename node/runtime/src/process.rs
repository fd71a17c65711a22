//! Further programs in a container, as exec starts them.
//!
//! A process has an instance of its own and shares everything else with its container: files, environment, the pod's network,
//! the memory account and the CPU quota. It ends with its container, with its handle, or by itself.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::{Instrument, debug, info_span};

use crate::container::Shared;
use crate::cpu::Governed;
use crate::engine::Metering;
use crate::exit::{self, Exit};
use crate::host::{MountError, Streams};
use crate::limits;
use crate::module::{Code, Module};
use crate::spec::ProcessSpec;

/// A program cannot be started in a container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The module serves requests; it has no entry point.
    #[error("the module is a service without an entry point of its own")]
    NotACommand,
    /// There are enough already.
    #[error("{} programs run in this container already", limits::EXECS)]
    TooMany,
    /// A mount's host directory is missing or is none.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// A program in a container. Dropping it kills the program.
pub struct Process {
    exit: watch::Receiver<Option<Exit>>,
    /// Closed on drop, which the program's task sees.
    stop: watch::Sender<Option<i32>>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

impl Process {
    /// Waits for the end, and says how it was.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_else(|| Exit::killed(exit::KILLED)),
            Err(_) => Exit::killed(exit::KILLED),
        }
    }

    /// Ends the program at once, with this code.
    pub fn end(&self, code: i32) {
        self.stop.send_replace(Some(code));
    }
}

/// Starts a program; `container` tells of the container's end.
pub(crate) fn start(
    shared: &Arc<Shared>,
    module: Arc<Module>,
    spec: ProcessSpec,
    mut container: watch::Receiver<Option<Exit>>,
) -> Result<Process, ExecError> {
    let Code::Command(pre) = &module.code else {
        return Err(ExecError::NotACommand);
    };
    let pre = pre.clone();
    let place = shared
        .execs
        .clone()
        .try_acquire_owned()
        .map_err(|_| ExecError::TooMany)?;
    let complain = spec.stderr.clone();
    let io = Streams {
        args: &spec.args,
        stdin: spec.stdin,
        terminal: spec.terminal,
        stdout: spec.stdout,
        stderr: spec.stderr,
    };
    let mut store = shared.store_of(&module, io)?;
    let (exit_sender, exit) = watch::channel(None);
    let (stop, mut stopped) = watch::channel(None);
    let span = info_span!("exec", program = spec.args.first().map_or("", String::as_str));
    let meter = shared.meter.clone();
    let run = async move {
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
        match Governed::new(call, meter, ticker).await {
            Ok(Ok(())) => Exit::code(0),
            Ok(Err(())) => Exit::code(1),
            Err(error) => Exit::of(&error),
        }
    };
    shared.guests.spawn(
        async move {
            let exit = tokio::select! {
                biased;
                _ = container.wait_for(Option::is_some) => Exit::killed(exit::KILLED),
                order = stopped.wait_for(Option::is_some) => Exit::killed(order.map_or(exit::KILLED, |code| code.unwrap_or(exit::KILLED))),
                exit = run => exit,
            };
            debug!(code = exit.code, "ended");
            if let Some(message) = &exit.message {
                complain.write(format!("{message}\n").as_bytes());
            }
            // The streams end before the exit is told.
            drop(complain);
            drop(place);
            exit_sender.send_replace(Some(exit));
        }
        .instrument(span),
    );
    Ok(Process { exit, stop })
}
