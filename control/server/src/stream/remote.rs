//! exec and attach: a client's streams joined to a program in a container, over WebSocket or SPDY.

use std::time::Duration;

use bytes::Bytes;
use coracle_api::status::ApiError;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::channels;
use super::spdy::{Incoming, Writer, session_over};
use super::streams::{self, Job, Wants};
use super::upgrade::{self, Wanted};
use super::{target, websocket};
use crate::chain::Call;
use crate::dial::TerminalSize;
use crate::registry::Scope;
use crate::respond::Answer;
use crate::{document, logs};

/// The stream protocols over SPDY, newest first.
const SPDY: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];
/// How long a client may take to open its streams, as in Kubernetes.
const STREAMS: Duration = Duration::from_secs(30);
/// How long a client may take to close the connection when all is said.
const FAREWELL: Duration = Duration::from_secs(2);
/// How much of a command line is read. Linux takes 2 MiB; a URL of that length would not get here.
const WORDS: usize = 1024;

/// Answers `pods/NAME/exec`.
pub(crate) async fn exec(call: &mut Call<'_>, scope: Scope<'_>, name: &str) -> Result<Answer, ApiError> {
    let command: Vec<String> = call.query.all("command").map(str::to_owned).take(WORDS).collect();
    if command.is_empty() {
        return Err(ApiError::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    answer(call, scope, name, Some(command)).await
}

/// Answers `pods/NAME/attach`.
pub(crate) async fn attach(call: &mut Call<'_>, scope: Scope<'_>, name: &str) -> Result<Answer, ApiError> {
    answer(call, scope, name, None).await
}

async fn answer(
    call: &mut Call<'_>,
    scope: Scope<'_>,
    name: &str,
    command: Option<Vec<String>>,
) -> Result<Answer, ApiError> {
    target::may_connect(call)?;
    let pod = document::tree(&*scope.record(name).await?)?;
    let container = logs::choose(&pod, call.query.get("container"))?;
    let job = Job {
        nodes: call.core.nodes.clone(),
        node: target::node(&pod)?.to_owned(),
        target: target::container(&pod, container),
        command,
    };
    let wants = Wants::parse(call.query)?;
    let stop = call.core.closing.child_token();
    match upgrade::wanted(&call.parts.headers) {
        Some(Wanted::WebSocket) => web_socket(call, wants, job, stop),
        Some(Wanted::Spdy) => spdy(call, wants, job, stop),
        None => Err(ApiError::bad_request("Upgrade request required")),
    }
}

fn web_socket(call: &mut Call<'_>, wants: Wants, job: Job, stop: CancellationToken) -> Result<Answer, ApiError> {
    let offered = websocket::offered(&call.parts.headers);
    let Some(protocol) = channels::choose(&offered) else {
        let spoken: Vec<&str> = channels::PROTOCOLS
            .iter()
            .map(|own| own.name)
            .filter(|name| !name.is_empty())
            .collect();
        return Err(ApiError::bad_request(format!(
            "none of the offered WebSocket protocols is spoken here: {}",
            spoken.join(", ")
        )));
    };
    let answer = websocket::accept(&call.parts.headers, protocol.name)?;
    let upgrade = upgrade::take(call.parts)?;
    tokio::spawn(async move {
        match upgrade.await {
            Err(error) => debug!(%error, "upgrade failed"),
            Ok(upgraded) => channels::serve(websocket::socket(upgraded).await, protocol, wants, job, stop).await,
        }
    });
    Ok(answer)
}

fn spdy(call: &mut Call<'_>, wants: Wants, job: Job, stop: CancellationToken) -> Result<Answer, ApiError> {
    let (protocol, mut answer) = upgrade::agree(&call.parts.headers, &SPDY);
    let Some(protocol) = protocol else {
        return Ok(answer);
    };
    let upgrade = upgrade::take(call.parts)?;
    tokio::spawn(async move {
        match upgrade.await {
            Err(error) => debug!(%error, "upgrade failed"),
            Ok(upgraded) => {
                let mut opened = session_over(upgraded, stop.clone());
                serve(&mut opened, protocol, wants, job).await;
                // A client that does not close in time is closed.
                let _ = tokio::time::timeout(FAREWELL, async { while opened.recv().await.is_some() {} }).await;
                stop.cancel();
            }
        }
    });
    upgrade::confirm(&mut answer, protocol);
    Ok(answer)
}

/// The streams that a client opened, by their purpose.
#[derive(Default)]
struct Opened {
    error: Option<Incoming>,
    stdin: Option<Incoming>,
    stdout: Option<Incoming>,
    stderr: Option<Incoming>,
    resize: Option<Incoming>,
}

impl Opened {
    fn take(&mut self, stream: Incoming) {
        let place = match stream.header("streamtype") {
            "error" => &mut self.error,
            "stdin" => &mut self.stdin,
            "stdout" => &mut self.stdout,
            "stderr" => &mut self.stderr,
            "resize" => &mut self.resize,
            _ => return,
        };
        *place = Some(stream);
    }

    fn is_complete(&self, wants: Wants, resizes: bool) -> bool {
        self.error.is_some()
            && (!wants.stdin || self.stdin.is_some())
            && (!wants.stdout || self.stdout.is_some())
            && (!wants.stderr || self.stderr.is_some())
            && (!(wants.terminal && resizes) || self.resize.is_some())
    }
}

async fn serve(opened: &mut mpsc::Receiver<Incoming>, protocol: &str, wants: Wants, job: Job) {
    let resizes = matches!(protocol, "v3.channel.k8s.io" | "v4.channel.k8s.io");
    let mut streams = Opened::default();
    let complete = async {
        while !streams.is_complete(wants, resizes) {
            match opened.recv().await {
                Some(stream) => streams.take(stream),
                None => return false,
            }
        }
        true
    };
    match tokio::time::timeout(STREAMS, complete).await {
        Ok(true) => {}
        Ok(false) => return,
        Err(_) => return debug!("the client did not open its streams in time"),
    }
    let Some(error) = &streams.error else { return };
    let (process, ends) = streams::channels(wants);
    let outputs = [&streams.stdout, &streams.stderr].map(|stream| stream.as_ref().map(|stream| stream.writer.clone()));
    let [stdout, stderr] = outputs;
    let work = async {
        let (verdict, (), ()) = tokio::join!(
            job.run(process),
            write(ends.stdout, &stdout),
            write(ends.stderr, &stderr)
        );
        verdict
    };
    let read = read(streams.stdin.take(), ends.stdin, streams.resize.take(), ends.sizes);
    // A program may go on when the client has sent all it had to send, not when the session has ended.
    let read = async {
        read.await;
        std::future::pending::<()>().await;
    };
    let gone = async { while opened.recv().await.is_some() {} };
    let verdict = tokio::select! {
        verdict = work => verdict,
        () = read => return,
        () = gone => return,
    };
    tell(&error.writer, protocol, &verdict).await;
    for writer in [stdout, stderr].into_iter().flatten() {
        writer.finish().await;
    }
    error.writer.finish().await;
}

async fn tell(error: &Writer, protocol: &str, verdict: &Value) {
    if protocol == "v4.channel.k8s.io" {
        error.send(&serde_json::to_vec(verdict).unwrap_or_default()).await;
    } else if let Some(text) = streams::plain(verdict) {
        error.send(text.as_bytes()).await;
    }
}

async fn write(mut from: mpsc::Receiver<Bytes>, to: &Option<Writer>) {
    while let Some(bytes) = from.recv().await {
        if let Some(to) = to
            && !to.send(&bytes).await
        {
            return;
        }
    }
}

/// Takes in what the client sends, until it has sent all.
async fn read(
    stdin: Option<Incoming>,
    to_stdin: Option<mpsc::Sender<Bytes>>,
    resize: Option<Incoming>,
    to_terminal: Option<mpsc::Sender<TerminalSize>>,
) {
    let bytes = async {
        let (Some(mut stdin), Some(to)) = (stdin, to_stdin) else {
            return;
        };
        while let Some(bytes) = stdin.reader.recv().await {
            if to.send(bytes).await.is_err() {
                return;
            }
        }
    };
    let sizes = async {
        let (Some(mut resize), Some(to)) = (resize, to_terminal) else {
            return;
        };
        while let Some(text) = resize.reader.recv().await {
            if let Some(size) = streams::size(&text) {
                // A node that is behind gets the next one.
                let _ = to.try_send(size);
            }
        }
    };
    tokio::join!(bytes, sizes);
}
