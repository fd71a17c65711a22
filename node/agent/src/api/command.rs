//! exec and attach over a WebSocket: each message begins with the number of its channel, and the last one is a Status that
//! says how it ended.

use super::path::{Pod, Query};
use super::{Body, switching, text, upgrade};
use crate::exec::{ExecError, Streams};
use crate::handle::AgentHandle;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

/// The versions that are spoken: they differ only in that the newer one can close the input.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// How long a message may be. Clients send 32 KiB at a time.
const MESSAGE_BYTES: usize = 1024 * 1024;
/// Pieces that wait for the program or for the client: half a MiB each way.
const PIECES: usize = 16;
/// Sizes of the terminal that wait. The last one is what counts.
const SIZES: usize = 8;
/// How long a client may take to agree to the end.
const FAREWELL: Duration = Duration::from_secs(2);
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Answers `/exec`, and `/attach` where there is no command.
pub(super) fn answer(
    handle: AgentHandle,
    pod: Pod,
    container: String,
    command: Option<Vec<String>>,
    query: &Query,
    request: &mut Request<Incoming>,
    stop: CancellationToken,
) -> Response<Body> {
    let (process, ends) = channels(query);
    let headers = request.headers();
    let key = headers.get(SEC_WEBSOCKET_KEY).cloned();
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered: Vec<String> = offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_owned()))
        .collect();
    let protocol = PROTOCOLS.into_iter().find(|own| offered.iter().any(|name| name == own));
    let (Some(key), Some(protocol), Some(upgraded)) = (key, protocol, upgrade(request, "websocket")) else {
        let words = format!(
            "a WebSocket of one of these protocols is needed: {}",
            PROTOCOLS.join(", ")
        );
        return text(StatusCode::BAD_REQUEST, words);
    };
    tokio::spawn(async move {
        let serve = async {
            match upgraded.await {
                Ok(upgraded) => {
                    let config = WebSocketConfig::default()
                        .max_message_size(Some(MESSAGE_BYTES))
                        .max_frame_size(Some(MESSAGE_BYTES));
                    let socket = TokioIo::new(upgraded);
                    let socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
                    let place = (pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str());
                    let work = async {
                        match command {
                            Some(command) => handle.exec(place, &container, command, process).await,
                            None => handle.attach(place, &container, process).await,
                        }
                    };
                    join(socket, ends, work).await;
                }
                Err(error) => tracing::debug!(%error, "upgrade failed"),
            }
        };
        stop.run_until_cancelled(serve).await;
    });
    let mut answer = switching("websocket");
    let headers = answer.headers_mut();
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    answer
}

/// The client's ends of the channels to and from a program.
struct Ends {
    stdin: Option<mpsc::Sender<Bytes>>,
    sizes: Option<mpsc::Sender<(u16, u16)>>,
    stdout: mpsc::Receiver<Bytes>,
    stderr: mpsc::Receiver<Bytes>,
}

/// Both sides of what a client asks for.
fn channels(query: &Query) -> (Streams, Ends) {
    let wants = |name| query.flag(name);
    let (stdin, from_client) = mpsc::channel(PIECES);
    let (sizes, terminal) = mpsc::channel::<(u16, u16)>(SIZES);
    let (out, stdout) = mpsc::channel(PIECES);
    let (err, stderr) = mpsc::channel(PIECES);
    let terminal = futures::stream::unfold(terminal, |mut sizes| async move { Some((sizes.recv().await?, sizes)) });
    let process = Streams {
        stdin: wants("input").then_some(from_client),
        stdout: wants("output").then_some(out),
        stderr: (wants("error") && !wants("tty")).then_some(err),
        terminal: wants("tty").then(|| terminal.boxed()),
    };
    let ends = Ends {
        stdin: wants("input").then_some(stdin),
        sizes: wants("tty").then_some(sizes),
        stdout,
        stderr,
    };
    (process, ends)
}

/// Runs a program's work with a client at the other end of a socket; a client that goes away ends it.
async fn join(socket: Socket, ends: Ends, work: impl Future<Output = Result<i32, ExecError>>) {
    let (mut sink, mut source) = socket.split();
    let Ends {
        stdin,
        sizes,
        stdout,
        stderr,
    } = ends;
    let verdict = tokio::select! {
        (ended, delivered) = async { tokio::join!(work, write(&mut sink, stdout, stderr)) } => {
            if !delivered {
                return;
            }
            verdict(ended)
        }
        () = read(&mut source, stdin, sizes) => return,
    };
    let last = message(ERROR, verdict.to_string().as_bytes());
    if sink.send(last).await.is_err() || sink.close().await.is_err() {
        return;
    }
    // A client that does not answer in time is gone.
    let _ = tokio::time::timeout(FAREWELL, async { while let Some(Ok(_)) = source.next().await {} }).await;
}

/// Brings a program's output to the client; false when the client is gone.
async fn write(
    sink: &mut SplitSink<Socket, Message>,
    mut stdout: mpsc::Receiver<Bytes>,
    mut stderr: mpsc::Receiver<Bytes>,
) -> bool {
    loop {
        let message = tokio::select! {
            Some(bytes) = stdout.recv() => message(STDOUT, &bytes),
            Some(bytes) = stderr.recv() => message(STDERR, &bytes),
            else => return true,
        };
        if sink.send(message).await.is_err() {
            return false;
        }
    }
}

/// Takes in what the client sends; returns when it is gone.
async fn read(
    source: &mut SplitStream<Socket>,
    mut stdin: Option<mpsc::Sender<Bytes>>,
    sizes: Option<mpsc::Sender<(u16, u16)>>,
) {
    while let Some(Ok(message)) = source.next().await {
        let Message::Binary(mut bytes) = message else { continue };
        let Some(channel) = bytes.first().copied() else {
            continue;
        };
        let rest = bytes.split_off(1);
        match channel {
            STDIN if !rest.is_empty() => {
                // A program that ended or closed its input does not want the rest.
                if let Some(to) = &stdin
                    && to.send(rest).await.is_err()
                {
                    stdin = None;
                }
            }
            RESIZE => {
                if let (Some(sizes), Some(size)) = (&sizes, size(&rest)) {
                    // A program that is behind gets the next one.
                    let _ = sizes.try_send(size);
                }
            }
            CLOSE if rest.first() == Some(&STDIN) => stdin = None,
            _ => {}
        }
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

/// The size that a client's message gives: `{"Width":80,"Height":24}`.
fn size(text: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let number = |name: &str| u16::try_from(value.get(name)?.as_u64()?).ok();
    Some((number("Width")?, number("Height")?))
}

/// How it ended, as clients are told.
fn verdict(ended: Result<i32, ExecError>) -> Value {
    match ended {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "message": error.to_string(), "code": 500,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_ended_is_told() {
        assert_eq!(verdict(Ok(0))["status"], "Success");
        assert_eq!(verdict(Ok(7))["details"]["causes"][0]["message"], "7");
        let missing = verdict(Err(ExecError::NoProgram { program: "x".into() }));
        assert!(missing["message"].as_str().unwrap().contains("not found in $PATH"));
    }

    #[test]
    fn a_size_is_read() {
        assert_eq!(size(b"{\"Width\":80,\"Height\":24}\n"), Some((80, 24)));
        assert_eq!(size(b"{}"), None);
    }
}
