//! exec and attach: somebody's streams, joined to a program in a container.
//!
//! What `exec` runs is found by its name, as everywhere: the container's own program, or one of the toolbox, a wasm program with
//! the usual commands that the node offers to every container. It has the container's files, environment, network and limits.
//! A client that goes away takes the program with it; one that attached leaves the container as it was.

use crate::cell::{Found, PodCell};
use crate::node::{ModuleError, Node};
use crate::spec;
use crate::terminal::{Terminal, shown};
use bytes::Bytes;
use coracle_images::{Image, ImageError, TOOLBOX_COMMANDS};
use coracle_runtime::{
    Attached, ExecError as StartError, FindError, Module, PipeReader, PipeWriter, ProcessSpec, Programs, Size, Tty,
    pipe,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::mpsc;

/// The image that the usual commands come from.
const TOOLBOX: &str = "toolbox";

/// How much of a probe's or a hook's output is kept for its event: the kubelet's limit.
const OUTPUT_BYTES: usize = 10 * 1024;

/// Somebody's ends of the standard streams.
pub struct Streams {
    /// What goes to standard input; it ends when the channel does.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// Takes standard output.
    pub stdout: Option<mpsc::Sender<Bytes>>,
    /// Takes standard error.
    pub stderr: Option<mpsc::Sender<Bytes>>,
    /// The sizes of the client's terminal, where it has one.
    pub terminal: Option<BoxStream<'static, Size>>,
}

/// No program can be joined.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The node does not have the pod.
    #[error("pod {pod:?} is not on this node")]
    NoPod {
        /// The pod's name.
        pod: String,
    },
    /// The pod has no such container, or it does not run.
    #[error("container not found ({container:?})")]
    NotRunning {
        /// The container's name.
        container: String,
    },
    /// There is no program of that name.
    #[error("exec: {program:?}: executable file not found in $PATH")]
    NoProgram {
        /// The name.
        program: String,
    },
    /// No program was named.
    #[error("exec: no command was given")]
    NoCommand,
    /// The program's image cannot be found.
    #[error("exec: {0}")]
    Image(#[from] ImageError),
    /// The program cannot run here.
    #[error("exec: {0}")]
    Module(#[from] ModuleError),
    /// The program cannot be started.
    #[error("exec: {0}")]
    Start(#[from] StartError),
    /// There are enough already.
    #[error("too many are attached to container {container:?}")]
    Crowded {
        /// The container's name.
        container: String,
    },
}

/// Runs a program in a container, and returns its exit code. Dropping the future ends the program.
pub async fn exec(
    node: &Node,
    cell: &PodCell,
    container: &str,
    command: Vec<String>,
    streams: Streams,
) -> Result<i32, ExecError> {
    let found = running(cell, container)?;
    let (module, args) = program(node, &found, command).await?;
    let (input, stdin) = pipe();
    let (out, err) = (sink(streams.stdout), sink(streams.stderr));
    let sizes = streams.terminal;
    let tty = sizes.as_ref().map(|_| Arc::new(Tty::default()));
    let terminal = tty.is_some();
    let process = found.container.exec(
        module,
        ProcessSpec {
            args,
            stdin: streams.stdin.is_some().then_some(stdin),
            terminal: tty.clone(),
            stdout: Arc::new(out.0.clone()),
            // A terminal has one stream for both.
            stderr: Arc::new(if terminal { out.0.clone() } else { err.0.clone() }),
        },
    )?;
    let (echo, closing) = (out.0.clone(), [out.0, err.0]);
    let keys = async {
        if let Some(keys) = streams.stdin {
            let screen = tty.clone().map(|tty| (tty, echo));
            copy_in(keys, input, screen, || process.interrupt()).await;
        }
        // The end of the input is not the end of the program.
    };
    let keys = async { tokio::join!(keys, follow(sizes, tty.as_deref())) };
    let ended = async {
        let exit = process.wait().await;
        // All that it wrote is in the pipes.
        closing.iter().for_each(PipeWriter::close);
        exit.code
    };
    let work = async {
        let (code, (), ()) = tokio::join!(ended, copy_out(out.1, terminal), copy_out(err.1, false));
        code
    };
    tokio::pin!(work);
    tokio::select! {
        code = &mut work => Ok(code),
        _ = keys => Ok(work.await),
    }
}

/// Runs a program to its end, as probes and hooks do, and returns its exit code and the beginning of what it wrote. Dropping
/// the future ends the program.
pub async fn output(node: &Node, found: &Found, command: Vec<String>) -> Result<(i32, String), ExecError> {
    let (module, args) = program(node, found, command).await?;
    let (writer, reader) = pipe();
    let process = found.container.exec(
        module,
        ProcessSpec {
            args,
            stdin: None,
            terminal: None,
            stdout: Arc::new(writer.clone()),
            stderr: Arc::new(writer.clone()),
        },
    )?;
    let ended = async {
        let exit = process.wait().await;
        writer.close();
        exit.code
    };
    let said = async {
        let mut said = Vec::new();
        while let Some(bytes) = reader.recv().await {
            let room = OUTPUT_BYTES.saturating_sub(said.len());
            said.extend(bytes.iter().take(room));
        }
        said
    };
    let (code, said) = tokio::join!(ended, said);
    Ok((code, String::from_utf8_lossy(&said).trim_end().to_owned()))
}

/// Joins a container's own streams until it ends, and returns its exit code.
pub async fn attach(cell: &PodCell, container: &str, streams: Streams) -> Result<i32, ExecError> {
    let found = running(cell, container)?;
    let Attached { stdin, stdout, stderr } = found.container.attach().ok_or_else(|| ExecError::Crowded {
        container: container.to_owned(),
    })?;
    let tty = found
        .container
        .terminal()
        .filter(|_| streams.terminal.is_some())
        .cloned();
    let terminal = tty.is_some();
    let sizes = streams.terminal;
    let (echo, echoed) = pipe();
    let out = (streams.stdout, streams.stderr);
    let keys = async {
        if let (Some(keys), Some((input, once))) = (streams.stdin, stdin) {
            let ended = input.clone();
            let screen = tty.clone().map(|tty| (tty, echo));
            copy_in(keys, input, screen, || found.container.interrupt()).await;
            if once {
                ended.close();
            }
        } else {
            drop(echo);
        }
    };
    let echoing = copy_out((echoed, out.0.clone()), true);
    let output = async {
        tokio::join!(copy_out((stdout, out.0), terminal), copy_out((stderr, out.1), terminal));
        found.container.wait().await.code
    };
    tokio::pin!(output);
    tokio::select! {
        code = &mut output => Ok(code),
        _ = async { tokio::join!(keys, echoing, follow(sizes, tty.as_deref())) } => Ok(output.await),
    }
}

fn running(cell: &PodCell, container: &str) -> Result<Found, ExecError> {
    cell.running(container).ok_or_else(|| ExecError::NotRunning {
        container: container.to_owned(),
    })
}

/// The module that a command names, and its arguments as the module wants them.
async fn program(node: &Node, found: &Found, command: Vec<String>) -> Result<(Arc<Module>, Vec<String>), ExecError> {
    let Some(program) = command.first() else {
        return Err(ExecError::NoCommand);
    };
    let own = image_of(node, &found.pod, &found.name);
    Ok((
        module(node, &found.pod, &found.name, own.as_ref(), program).await?,
        command,
    ))
}

/// The image of a container, where it is still there.
fn image_of(node: &Node, pod: &Pod, container: &str) -> Option<Image> {
    let spec = spec::containers(pod).find(|spec| spec.name == container)?;
    node.images.resolve(spec.image.as_deref().unwrap_or_default()).ok()
}

/// The module that a name means in a container, which has an image of its own.
async fn module(
    node: &Node,
    pod: &Pod,
    container: &str,
    own: Option<&Image>,
    program: &str,
) -> Result<Arc<Module>, ExecError> {
    let spec = spec::containers(pod).find(|spec| spec.name == container);
    if let Some((spec, image)) = spec.zip(own)
        && is_own(program, spec, &image.config.entrypoint)
    {
        return Ok(node.module(image, false).await?);
    }
    let name = program.rsplit('/').next().unwrap_or(program);
    if !TOOLBOX_COMMANDS.contains(&name) {
        // Known before it is started: a name that means nothing is the client's error, not a program's.
        return Err(ExecError::NoProgram {
            program: program.to_owned(),
        });
    }
    let toolbox = node.images.resolve(TOOLBOX)?;
    Ok(node.module(&toolbox, false).await?)
}

/// What the programs of a container find when they start others by name.
pub struct Named {
    /// The node, which does not stay for its containers' sake.
    pub node: Weak<Node>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container's name.
    pub container: String,
    /// Its image, once it was asked for: a guest starts programs faster than the store can be read, on a thread that others
    /// wait for.
    pub image: OnceLock<Option<Image>>,
}

impl Programs for Named {
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<Module>, FindError>> {
        async move {
            let node = self.node.upgrade().ok_or(FindError::Unknown)?;
            let own = self.image.get_or_init(|| image_of(&node, &self.pod, &self.container));
            let found = module(&node, &self.pod, &self.container, own.as_ref(), name).await;
            found.map_err(|error| match error {
                ExecError::NoProgram { .. } => FindError::Unknown,
                error => FindError::Failed(error.to_string()),
            })
        }
        .boxed()
    }
}

/// Whether a name means the container's own program.
fn is_own(program: &str, spec: &Spec, entrypoint: &[String]) -> bool {
    let own = spec
        .command
        .as_ref()
        .and_then(|command| command.first())
        .or_else(|| entrypoint.first());
    own.is_some_and(|own| own == program) || entrypoint.first().is_some_and(|own| own == program)
}

/// A pipe for a program's output, and where it leads.
fn sink(to: Option<mpsc::Sender<Bytes>>) -> (PipeWriter, (PipeReader, Option<mpsc::Sender<Bytes>>)) {
    let (writer, reader) = pipe();
    (writer, (reader, to))
}

async fn copy_out((from, to): (PipeReader, Option<mpsc::Sender<Bytes>>), terminal: bool) {
    while let Some(bytes) = from.recv().await {
        let bytes = if terminal { Bytes::from(shown(&bytes)) } else { bytes };
        if let Some(to) = &to
            && to.send(bytes).await.is_err()
        {
            return;
        }
    }
}

/// Tells a terminal how large its window is, as long as its owner says so.
async fn follow(sizes: Option<BoxStream<'static, Size>>, tty: Option<&Tty>) {
    if let (Some(mut sizes), Some(tty)) = (sizes, tty) {
        while let Some(size) = sizes.next().await {
            tty.resize(size);
        }
    }
}

/// Brings a client's input to the program, with a terminal's line discipline where there is one and the program wants it.
async fn copy_in(
    mut keys: mpsc::Receiver<Bytes>,
    input: PipeWriter,
    screen: Option<(Arc<Tty>, PipeWriter)>,
    interrupt: impl Fn(),
) {
    let mut terminal = Terminal::default();
    while let Some(bytes) = keys.recv().await {
        let cooked = screen.as_ref().filter(|(tty, _)| !tty.is_raw());
        let Some((_, echo)) = cooked else {
            // What was typed of a line before is the program's now.
            let begun = Bytes::from(terminal.take_line());
            if !begun.is_empty() && !input.send(begun).await {
                return;
            }
            if !input.send(bytes).await {
                return;
            }
            continue;
        };
        let typed = terminal.type_in(&bytes);
        echo.send(Bytes::from(typed.echo)).await;
        if typed.interrupt {
            interrupt();
        }
        if !typed.input.is_empty() && !input.send(Bytes::from(typed.input)).await {
            return;
        }
        if typed.end {
            input.mark_end();
        }
    }
}
