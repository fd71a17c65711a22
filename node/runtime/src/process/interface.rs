//! `coracle:process`: what a program may ask about processes, pipes and its terminal. The words are in `wit/process`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::select_all;
use parking_lot::Mutex;
use tokio::sync::watch;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::ends::{self, Depth, End, Ends, Fault, Sink, Source};
use super::{ExecError, FindError, Kin, Launch, Member, Tty};
use crate::container::Shared;
use crate::engine::Metering;
use crate::exit::Exit;
use crate::host::Host;
use crate::limits;
use crate::memory::Charge;
use crate::pipe;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/process",
        world: "coracle:process/host",
        imports: {
            "coracle:process/streams.[method]source.read": async | trappable,
            "coracle:process/streams.[method]source.read-until": async | trappable,
            "coracle:process/streams.[method]sink.write": async | trappable,
            "coracle:process/processes.spawn": async | trappable,
            "coracle:process/processes.kill": async | trappable,
            "coracle:process/processes.wait": async | trappable,
            "coracle:process/processes.sleep": async | trappable,
            default: trappable,
        },
        with: {
            "wasi:io/streams": wasmtime_wasi::p2::bindings::io::streams,
            "coracle:process/streams.source": crate::process::ends::Source,
            "coracle:process/streams.sink": crate::process::ends::Sink,
        },
        require_store_data_send: true,
    });
}

use bindings::coracle::process::{processes, streams, terminal};

/// What one instance is among the processes of its container.
pub(crate) struct Me {
    shared: Arc<Shared>,
    member: Arc<Member>,
    ends: Ends,
    tty: Option<Arc<Tty>>,
    /// Those that were started and not yet waited for.
    children: Mutex<BTreeMap<u32, watch::Receiver<Option<Exit>>>>,
}

impl Me {
    pub(crate) fn new(shared: Arc<Shared>, member: Arc<Member>, ends: Ends, tty: Option<Arc<Tty>>) -> Self {
        Self {
            shared,
            member,
            ends,
            tty,
            children: Mutex::default(),
        }
    }

    /// The stream of a number, where the program was given one.
    pub(crate) fn source(&self, number: u32) -> Option<Source> {
        match self.ends.get(&number)? {
            End::Source(source) => Some(source.clone()),
            End::Sink(_) => None,
        }
    }

    /// See [`Me::source`].
    pub(crate) fn sink(&self, number: u32) -> Option<Sink> {
        match self.ends.get(&number)? {
            End::Sink(sink) => Some(sink.clone()),
            End::Source(_) => None,
        }
    }
}

/// A guest's view of the processes around it.
pub(crate) struct View<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) me: &'a Arc<Me>,
}

struct Interface;

impl HasData for Interface {
    type Data<'a> = View<'a>;
}

/// Links the three interfaces.
pub(crate) fn add_to_linker(l: &mut Linker<Host>) -> wasmtime::Result<()> {
    streams::add_to_linker::<Host, Interface>(l, Host::processes)?;
    processes::add_to_linker::<Host, Interface>(l, Host::processes)?;
    terminal::add_to_linker::<Host, Interface>(l, Host::processes)
}

impl From<Fault> for streams::Fault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Closed => Self::Closed,
            Fault::Failed(why) => Self::Failed(why),
        }
    }
}

impl View<'_> {
    /// How deep a stream is that this program makes of another one.
    fn depth(&self) -> wasmtime::Result<Depth> {
        Depth::beyond(&self.me.ends).ok_or_else(|| wasmtime::Error::msg("too many streams stand in each other"))
    }

    fn ends_of(&mut self, source: Source, sink: Sink) -> wasmtime::Result<(Resource<Source>, Resource<Sink>)> {
        Ok((self.table.push(source)?, self.table.push(sink)?))
    }
}

impl streams::HostSource for View<'_> {
    fn over(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<Source>> {
        let (depth, account) = (self.depth()?, self.me.shared.account.clone());
        let stream = self.table.delete(stream)?;
        Ok(self.table.push(Source::over(stream, depth, account))?)
    }

    async fn read(&mut self, this: Resource<Source>, limit: u32) -> wasmtime::Result<Result<Vec<u8>, streams::Fault>> {
        let source = self.table.get(&this)?.clone();
        let limit = limits::TRANSFER_BYTES.min(limit as usize);
        Ok(source.read(limit).await.map(Vec::from).map_err(Into::into))
    }

    fn try_read(
        &mut self,
        this: Resource<Source>,
        limit: u32,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, streams::Fault>> {
        let limit = limits::TRANSFER_BYTES.min(limit as usize);
        let source = self.table.get(&this)?;
        // Ready or not: who is not woken asks again.
        let now = source.read(limit).now_or_never();
        Ok(now.transpose().map(|bytes| bytes.map(Vec::from)).map_err(Into::into))
    }

    async fn read_until(
        &mut self,
        this: Resource<Source>,
        delimiter: u8,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, streams::Fault>> {
        let source = self.table.get(&this)?.clone();
        let limit = limits::TRANSFER_BYTES.min(limit as usize);
        Ok(source.read_until(delimiter, limit).await.map_err(Into::into))
    }

    fn share(&mut self, this: Resource<Source>) -> wasmtime::Result<Resource<Source>> {
        let source = self.table.get(&this)?.clone();
        Ok(self.table.push(source)?)
    }

    fn is_terminal(&mut self, this: Resource<Source>) -> wasmtime::Result<bool> {
        use wasmtime_wasi::cli::IsTerminal as _;
        Ok(self.table.get(&this)?.is_terminal())
    }

    fn drop(&mut self, this: Resource<Source>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl streams::HostSink for View<'_> {
    fn over(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<Sink>> {
        let (depth, account) = (self.depth()?, self.me.shared.account.clone());
        let stream = self.table.delete(stream)?;
        Ok(self.table.push(Sink::over(stream, depth, account))?)
    }

    async fn write(&mut self, this: Resource<Sink>, bytes: Vec<u8>) -> wasmtime::Result<Result<(), streams::Fault>> {
        let sink = self.table.get(&this)?.clone();
        Ok(sink.write(bytes.into()).await.map_err(Into::into))
    }

    fn share(&mut self, this: Resource<Sink>) -> wasmtime::Result<Resource<Sink>> {
        let sink = self.table.get(&this)?.clone();
        Ok(self.table.push(sink)?)
    }

    fn is_terminal(&mut self, this: Resource<Sink>) -> wasmtime::Result<bool> {
        use wasmtime_wasi::cli::IsTerminal as _;
        Ok(self.table.get(&this)?.is_terminal())
    }

    fn drop(&mut self, this: Resource<Sink>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl streams::Host for View<'_> {
    fn pipe(&mut self) -> wasmtime::Result<(Resource<Source>, Resource<Sink>)> {
        let (writer, reader) = pipe::charged(limits::PIPE_BYTES, self.me.shared.account.clone());
        self.ends_of(Source::pipe(reader, false), Sink::Pipe(writer))
    }

    fn buffer(&mut self) -> wasmtime::Result<(Resource<Source>, Resource<Sink>)> {
        // The account is the limit.
        let (writer, reader) = pipe::charged(usize::MAX, self.me.shared.account.clone());
        self.ends_of(Source::pipe(reader, false), Sink::Pipe(writer))
    }

    fn inherited(&mut self, number: u32) -> wasmtime::Result<Option<streams::End>> {
        Ok(match self.me.ends.get(&number) {
            Some(End::Source(source)) => Some(streams::End::Source(self.table.push(source.clone())?)),
            Some(End::Sink(sink)) => Some(streams::End::Sink(self.table.push(sink.clone())?)),
            None => None,
        })
    }
}

impl View<'_> {
    fn given(&mut self, streams: Vec<(u32, streams::End)>) -> wasmtime::Result<Ends> {
        let mut ends = Ends::new();
        for (number, end) in streams {
            let end = match end {
                streams::End::Source(source) => End::Source(self.table.delete(source)?),
                streams::End::Sink(sink) => End::Sink(self.table.delete(sink)?),
            };
            ends.insert(number, end);
        }
        Ok(ends)
    }
}

/// What the arguments and variables of a program cost, beside the places in its lists. The host has them twice: for the program,
/// and for whoever asks what runs. One call may hand over two megabytes of them, and each of its programs may start others.
fn cost(program: &processes::Program) -> usize {
    const TEXT_BYTES: usize = 24;
    let texts = program
        .args
        .iter()
        .chain(program.env.iter().flat_map(|(name, value)| [name, value]));
    2 * texts.map(|text| text.len() + TEXT_BYTES).sum::<usize>() + program.directory.len()
}

impl Me {
    async fn spawn(&self, program: processes::Program, ends: ends::Ends) -> Result<u32, processes::SpawnError> {
        use processes::SpawnError;
        let failed = |why: &dyn std::fmt::Display| SpawnError::Failed(why.to_string());
        let shared = &self.shared;
        if shared.module.metering() == Metering::Fuel {
            return Err(failed(&"a container with a limit of fuel runs one program"));
        }
        if self.children.lock().len() >= limits::CHILDREN {
            return Err(SpawnError::TooMany);
        }
        let place = shared
            .processes
            .clone()
            .try_acquire_owned()
            .map_err(|_| SpawnError::TooMany)?;
        let Some(programs) = &shared.spec.programs else {
            return Err(SpawnError::NotFound);
        };
        let module = programs.find(&program.name).await.map_err(|error| match error {
            FindError::Unknown => SpawnError::NotFound,
            FindError::Failed(why) => SpawnError::Failed(why),
        })?;
        let paid = Charge::take(&shared.account, cost(&program)).map_err(|_| failed(&ends::NO_MEMORY))?;
        let launch = Launch {
            kin: Kin::of(&self.member, program.background),
            args: program.args,
            env: Some(program.env),
            directory: Some(program.directory),
            ends,
            tty: self.tty.clone(),
            paid: Some(paid),
        };
        let (member, exit) = super::start(shared, module, launch, place).map_err(|error| match error {
            ExecError::TooMany(_) => SpawnError::TooMany,
            error => failed(&error),
        })?;
        self.children.lock().insert(member.pid, exit);
        Ok(member.pid)
    }

    /// Forgets a child that has ended.
    fn reap(&self, pid: u32, exit: &Exit) -> processes::Exit {
        self.children.lock().remove(&pid);
        processes::Exit {
            pid,
            code: u32::try_from(exit.code).unwrap_or(u32::MAX),
        }
    }

    async fn wait(&self, pids: &[u32]) -> Result<processes::Exit, processes::WaitError> {
        let children: BTreeMap<u32, _> = {
            let children = self.children.lock();
            let wanted = |pid: &u32| Some((*pid, children.get(pid)?.clone()));
            match pids {
                [] => children.clone(),
                // Each is looked up: of half a million numbers, none is compared with a thousand children.
                pids => pids.iter().filter_map(wanted).collect(),
            }
        };
        if children.is_empty() {
            return Err(processes::WaitError::NoChild);
        }
        let first = select_all(
            children
                .into_iter()
                .map(|(pid, exit)| Box::pin(async move { (pid, super::ended(exit).await) })),
        );
        tokio::select! {
            biased;
            ((pid, exit), _, _) = first => Ok(self.reap(pid, &exit)),
            () = self.member.told() => Err(processes::WaitError::Interrupted),
        }
    }
}

impl processes::Host for View<'_> {
    async fn spawn(
        &mut self,
        program: processes::Program,
        streams: Vec<(u32, streams::End)>,
    ) -> wasmtime::Result<Result<u32, processes::SpawnError>> {
        let ends = self.given(streams)?;
        Ok(self.me.clone().spawn(program, ends).await)
    }

    async fn wait(&mut self, pids: Vec<u32>) -> wasmtime::Result<Result<processes::Exit, processes::WaitError>> {
        Ok(self.me.clone().wait(&pids).await)
    }

    fn ended(&mut self) -> wasmtime::Result<Vec<processes::Exit>> {
        let ended: Vec<(u32, Exit)> = {
            let children = self.me.children.lock();
            let ended = |(pid, exit): (&u32, &watch::Receiver<Option<Exit>>)| Some((*pid, exit.borrow().clone()?));
            children.iter().filter_map(ended).collect()
        };
        Ok(ended.iter().map(|(pid, exit)| self.me.reap(*pid, exit)).collect())
    }

    async fn kill(&mut self, pid: u32, signal: u8) -> wasmtime::Result<Result<(), processes::KillError>> {
        let Some(member) = self.me.shared.family.find(pid) else {
            return Ok(Err(processes::KillError::NoProcess));
        };
        if !member.tell(signal) {
            return Ok(Err(processes::KillError::NoSignal));
        }
        if member.pid == self.me.member.pid && member.is_ordered_to_end() {
            // Who ends itself does nothing after that.
            std::future::pending::<()>().await;
        }
        Ok(Ok(()))
    }

    fn catch(&mut self, signals: Vec<u8>) -> wasmtime::Result<()> {
        self.me.member.catch(&signals);
        Ok(())
    }

    fn caught(&mut self) -> wasmtime::Result<Vec<u8>> {
        Ok(self.me.member.caught())
    }

    async fn sleep(&mut self, nanoseconds: u64) -> wasmtime::Result<bool> {
        let me = self.me.clone();
        Ok(tokio::select! {
            biased;
            () = me.member.told() => false,
            () = tokio::time::sleep(Duration::from_nanos(nanoseconds)) => true,
        })
    }

    fn ids(&mut self) -> wasmtime::Result<(u32, u32)> {
        Ok((self.me.member.pid, self.me.member.parent))
    }

    fn all(&mut self) -> wasmtime::Result<Vec<processes::Process>> {
        let of = |member: &Arc<Member>| processes::Process {
            pid: member.pid,
            parent: member.parent,
            args: member.args.clone(),
            nanoseconds: u64::try_from(member.age().as_nanos()).unwrap_or(u64::MAX),
        };
        Ok(self.me.shared.family.all().iter().map(of).collect())
    }
}

impl terminal::Host for View<'_> {
    fn set_raw(&mut self, raw: bool) -> wasmtime::Result<()> {
        if let Some(tty) = &self.me.tty {
            tty.set_raw(raw);
        }
        Ok(())
    }

    fn size(&mut self) -> wasmtime::Result<Option<(u16, u16)>> {
        Ok(self.me.tty.as_ref().and_then(|tty| tty.size()))
    }
}
