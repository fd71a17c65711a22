//! What a client and a program in a container say to each other, whatever protocol carries it.

use std::sync::Arc;

use bytes::Bytes;
use coracle_api::status::ApiError;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::dial::{ContainerTarget, NodeDialer, ProcessStreams, TerminalSize};
use crate::query::Query;

/// Pieces that wait for the program or for the client. Clients send 32 KiB a piece, so half a MiB each way.
pub(super) const PIECES: usize = 16;
/// Sizes of the terminal that wait. The last one is what counts, and a node takes them as they come.
const SIZES: usize = 8;

/// The streams that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wants {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) terminal: bool,
}

impl Wants {
    /// Reads a request. A terminal has one stream for output and errors.
    pub(super) fn parse(query: &Query) -> Result<Self, ApiError> {
        let terminal = query.flag("tty")?;
        let wants = Self {
            stdin: query.flag("stdin")?,
            stdout: query.flag("stdout")?,
            stderr: query.flag("stderr")? && !terminal,
            terminal,
        };
        if !(wants.stdin || wants.stdout || wants.stderr) {
            return Err(ApiError::bad_request(
                "you must specify at least 1 of stdin, stdout, stderr",
            ));
        }
        Ok(wants)
    }
}

/// The protocol's ends of the channels to and from a program.
pub(super) struct Ends {
    pub(super) stdin: Option<mpsc::Sender<Bytes>>,
    pub(super) sizes: Option<mpsc::Sender<TerminalSize>>,
    pub(super) stdout: mpsc::Receiver<Bytes>,
    pub(super) stderr: mpsc::Receiver<Bytes>,
}

/// Both sides of what a client asks for.
pub(super) fn channels(wants: Wants) -> (ProcessStreams, Ends) {
    let (stdin, from_client) = mpsc::channel(PIECES);
    let (sizes, terminal) = mpsc::channel(SIZES);
    let (out, stdout) = mpsc::channel(PIECES);
    let (err, stderr) = mpsc::channel(PIECES);
    let process = ProcessStreams {
        stdin: wants.stdin.then_some(from_client),
        stdout: wants.stdout.then_some(out),
        stderr: wants.stderr.then_some(err),
        terminal: wants.terminal.then_some(terminal),
    };
    let ends = Ends {
        stdin: wants.stdin.then_some(stdin),
        sizes: wants.terminal.then_some(sizes),
        stdout,
        stderr,
    };
    (process, ends)
}

/// What is to be done on the node.
pub(super) struct Job {
    pub(super) nodes: Arc<dyn NodeDialer>,
    pub(super) node: String,
    pub(super) target: ContainerTarget,
    /// The program to run; without one the container's own is joined.
    pub(super) command: Option<Vec<String>>,
}

impl Job {
    /// Does it, and says how it went as clients are told.
    pub(super) async fn run(self, streams: ProcessStreams) -> Value {
        let Some(command) = &self.command else {
            return match self.nodes.attach(&self.node, &self.target, streams).await {
                // How the container ended is in the pod's status.
                Ok(_) => success(),
                Err(error) => failure(&format!("error attaching to container: {}", error.message)),
            };
        };
        match self.nodes.exec(&self.node, &self.target, command, streams).await {
            Ok(0) => success(),
            Ok(code) => exited(code),
            Err(error) => failure(&format!("error executing command in container: {}", error.message)),
        }
    }
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

fn exited(code: i32) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn failure(message: &str) -> Value {
    ApiError::internal(message).to_status()
}

/// The same for the older protocols, which say nothing where all went well and plain text where it did not.
pub(super) fn plain(verdict: &Value) -> Option<&str> {
    match verdict.get("status").and_then(Value::as_str) {
        Some("Success") => None,
        _ => verdict.get("message").and_then(Value::as_str),
    }
}

/// The size that a client's message gives: `{"Width":80,"Height":24}`.
pub(super) fn size(text: &[u8]) -> Option<TerminalSize> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let number = |name: &str| u16::try_from(value.get(name)?.as_u64()?).ok();
    Some(TerminalSize {
        width: number("Width")?,
        height: number("Height")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_no_stream_of_errors() {
        let wants = |text| Wants::parse(&Query::parse(Some(text)));
        let terminal = wants("stdin=1&stdout=true&stderr=true&tty=true").unwrap();
        assert!(terminal.stdin && terminal.stdout && terminal.terminal && !terminal.stderr);
        assert_eq!(wants("command=ls").unwrap_err().code, 400);
    }

    #[test]
    fn an_exit_code_is_told_as_clients_read_it() {
        let status = exited(42);
        assert_eq!(status["details"]["causes"][0]["message"], "42");
        assert_eq!(
            plain(&status),
            Some("command terminated with non-zero exit code: exit status 42")
        );
        assert_eq!(plain(&success()), None);
    }

    #[test]
    fn sizes() {
        let given = TerminalSize { width: 80, height: 24 };
        assert_eq!(size(b"{\"Width\":80,\"Height\":24}\n"), Some(given));
        assert_eq!(size(b"{\"Width\":-1}"), None);
    }
}
