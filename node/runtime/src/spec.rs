//! What the node asks of the runtime: one container, described completely.
//!
//! A container gets exactly what its specification lists. There is no ambient file, variable, stream or address.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use coracle_net::PodNet;

use crate::files::{PodFiles, Quota};
use crate::pipe::PipeReader;
use crate::process::{Programs, Tty};

/// One container to start.
pub struct ContainerSpec {
    /// The container's name, for logs and messages.
    pub name: String,
    /// The whole argument vector; the first entry is the program's name, as the guest sees it in `argv[0]`.
    pub args: Vec<String>,
    /// Environment variables, in order. A later entry with the same name wins.
    pub env: Vec<(String, String)>,
    /// The directory that relative paths begin at, for guests that ask; empty means `/`.
    pub work_dir: String,
    /// Host directories that the guest sees.
    pub mounts: Vec<Mount>,
    /// The pod's part of handles and threads for files, shared with the other containers of the pod.
    pub files: Arc<PodFiles>,
    /// The pod's network, shared with the other containers of the pod.
    pub net: Arc<PodNet>,
    /// Whether it is the sidecar through which all of the pod's traffic goes, so that its own does not.
    pub sidecar: bool,
    /// Where a module of kind [`crate::ModuleKind::Http`] is served on all addresses of the pod. Others ignore it.
    pub http_port: u16,
    /// Bytes of linear memories, tables and socket buffers after which the container ends as OOMKilled. None: no limit.
    pub memory_limit_bytes: Option<u64>,
    /// Thousandths of a core that the container may use. None: no limit.
    pub cpu_limit_milli: Option<u64>,
    /// Thousandths of a core that it requests: its weight where more guests want to run than there are cores.
    pub cpu_request_milli: Option<u64>,
    /// Whether the CPU limit counts instructions instead of time, at [`crate::FUEL_PER_CPU_SECOND`] for a core; needs a module from
    /// [`crate::Runtime::load_metered`].
    pub cpu_by_fuel: bool,
    /// Wasm instructions after which the container ends as FuelExhausted; needs a module from
    /// [`crate::Runtime::load_metered`]. None: not metered.
    pub fuel: Option<u64>,
    /// Makes clocks and randomness functions of this number, so that a program meets the same each time: randomness comes from
    /// it, and the clocks begin at a fixed date and move on by a microsecond whenever somebody looks. A sleep takes its time all
    /// the same. Nothing here is secret any more. None: as in the world.
    pub seed: Option<u64>,
    /// A file to which a profile of the container's own program is written when it ends. None: none is taken.
    pub profile: Option<PathBuf>,
    /// A file to which a core dump of the container's own program is written when it fails. None: none is made.
    pub core_dump: Option<PathBuf>,
    /// The programs that the container's programs may start. None: they start none.
    pub programs: Option<Arc<dyn Programs>>,
    /// Whether standard input stays open for those who attach.
    pub stdin: Stdin,
    /// Whether the standard streams are a terminal to the guest.
    pub terminal: bool,
    /// Where standard output goes.
    pub stdout: Arc<dyn LogSink>,
    /// Where standard error goes, and the runtime's own words on a trap.
    pub stderr: Arc<dyn LogSink>,
}

impl ContainerSpec {
    /// A container with its arguments, the pod's network and one place for what it writes, and with nothing else: no limits, no
    /// files, no variables; a `wasi:http` component is served on 8080. Its name is the first argument.
    pub fn new(args: Vec<String>, net: Arc<PodNet>, output: Arc<dyn LogSink>) -> Self {
        Self {
            name: args.first().cloned().unwrap_or_default(),
            args,
            env: Vec::new(),
            work_dir: String::new(),
            mounts: Vec::new(),
            files: Arc::default(),
            net,
            sidecar: false,
            http_port: 8080,
            memory_limit_bytes: None,
            cpu_limit_milli: None,
            cpu_request_milli: None,
            cpu_by_fuel: false,
            fuel: None,
            seed: None,
            profile: None,
            core_dump: None,
            programs: None,
            stdin: Stdin::Closed,
            terminal: false,
            stdout: output.clone(),
            stderr: output,
        }
    }
}

/// What a container's standard input is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stdin {
    /// At its end from the beginning.
    #[default]
    Closed,
    /// Open to whoever attaches, one after the other.
    Open,
    /// Open to the first who attaches; with that one it ends.
    Once,
}

/// Another program to run in a container: with its files, its network and its environment, and within its limits.
pub struct ProcessSpec {
    /// The whole argument vector.
    pub args: Vec<String>,
    /// Standard input; none is at its end from the beginning.
    pub stdin: Option<PipeReader>,
    /// The terminal that the standard streams are to the guest, if they are one.
    pub terminal: Option<Arc<Tty>>,
    /// Where standard output goes.
    pub stdout: Arc<dyn LogSink>,
    /// Where standard error goes, and the runtime's own words on a trap.
    pub stderr: Arc<dyn LogSink>,
}

/// A host directory in a guest's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The directory on the host. It must exist.
    pub host: PathBuf,
    /// Where the guest sees it, an absolute path.
    pub guest: String,
    /// Refuses every change through this mount.
    pub read_only: bool,
    /// What the volume may hold. None: as much as its disk has.
    pub quota: Option<Arc<Quota>>,
    /// The directory is opened when an instance first asks for its files, and an idle one costs no handle. Only where no guest can put
    /// another directory, or a link, in its place meanwhile.
    pub lazy: bool,
}

/// Takes what a guest writes to standard output or standard error.
pub trait LogSink: Send + Sync + 'static {
    /// Takes the bytes, all of them. Called on a thread that runs guests, so it must not block; a sink that is slow says so in
    /// [`LogSink::poll_ready`].
    fn write(&self, bytes: &[u8]);

    /// Ready when the guest may write on. A guest that finds the sink not ready is suspended until it is.
    ///
    /// Several streams may wait for one sink: it must wake all the wakers that it was given.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}
