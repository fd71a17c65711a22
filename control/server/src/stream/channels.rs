//! Remote commands over a WebSocket: each message begins with the number of its channel.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::streams::{self, Ends, Job, Wants};
use super::websocket::Socket;
use crate::dial::TerminalSize;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Closes the channel that the next byte names; since version 5.
const CLOSE: u8 = 255;
/// How long a client may take to agree to the end. What it still sends meanwhile is read, so that closing does not tear
/// down what it has not read yet.
const FAREWELL: Duration = Duration::from_secs(2);

/// A way to put channels into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) name: &'static str,
    /// Text messages: a digit, then base64.
    base64: bool,
    /// Whether the end is told as a Status, which the first version does not do.
    status: bool,
    /// Whether the client can close a channel.
    closes: bool,
}

/// What is spoken. A client that names none means the first version.
pub(super) const PROTOCOLS: [Protocol; 6] = [
    protocol("v5.channel.k8s.io", false, true, true),
    protocol("v4.channel.k8s.io", false, true, false),
    protocol("v4.base64.channel.k8s.io", true, true, false),
    protocol("channel.k8s.io", false, false, false),
    protocol("base64.channel.k8s.io", true, false, false),
    protocol("", false, false, false),
];

const fn protocol(name: &'static str, base64: bool, status: bool, closes: bool) -> Protocol {
    Protocol {
        name,
        base64,
        status,
        closes,
    }
}

/// The first of the client's protocols that is spoken here.
pub(super) fn choose(offered: &[&str]) -> Option<Protocol> {
    let offered = if offered.is_empty() { &[""] } else { offered };
    offered
        .iter()
        .find_map(|offer| PROTOCOLS.into_iter().find(|own| own.name == *offer))
}

impl Protocol {
    fn message(self, channel: u8, bytes: &[u8]) -> Message {
        if self.base64 {
            return Message::text(format!("{channel}{}", STANDARD.encode(bytes)));
        }
        let mut message = BytesMut::with_capacity(1 + bytes.len());
        message.put_u8(channel);
        message.put_slice(bytes);
        Message::Binary(message.freeze())
    }

    /// The channel and the bytes of a message; nothing for what is no message of this protocol.
    fn parse(self, message: Message) -> Option<(u8, Bytes)> {
        let mut bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            _ => return None,
        };
        let channel = *bytes.first()?;
        let rest = bytes.split_off(1);
        if !self.base64 {
            return Some((channel, rest));
        }
        Some((channel.checked_sub(b'0')?, STANDARD.decode(&rest).ok()?.into()))
    }
}

/// Runs a job with a client at the other end of a socket.
pub(super) async fn serve(socket: Socket, protocol: Protocol, wants: Wants, job: Job, stop: CancellationToken) {
    let (mut sink, mut source) = socket.split();
    let (
        process,
        Ends {
            stdin,
            sizes,
            mut stdout,
            mut stderr,
        },
    ) = streams::channels(wants);
    let work = async {
        let output = async {
            loop {
                let message = tokio::select! {
                    Some(bytes) = stdout.recv() => protocol.message(STDOUT, &bytes),
                    Some(bytes) = stderr.recv() => protocol.message(STDERR, &bytes),
                    else => return true,
                };
                if sink.send(message).await.is_err() {
                    return false;
                }
            }
        };
        let (verdict, delivered) = tokio::join!(job.run(process), output);
        delivered.then_some(verdict)
    };
    let verdict = tokio::select! {
        verdict = work => verdict,
        () = read(&mut source, protocol, stdin, sizes) => None,
        () = stop.cancelled() => None,
    };
    if let Some(verdict) = verdict
        && let Err(error) = finish(&mut sink, protocol, &verdict).await
    {
        return debug!(%error, "the client was gone before the end");
    }
    // A client that does not answer in time is gone.
    let _ = tokio::time::timeout(FAREWELL, async { while let Some(Ok(_)) = source.next().await {} }).await;
}

async fn finish(
    sink: &mut (impl Sink<Message, Error = tokio_tungstenite::tungstenite::Error> + Unpin),
    protocol: Protocol,
    verdict: &Value,
) -> io::Result<()> {
    let last = match protocol.status {
        true => Some(serde_json::to_vec(verdict).unwrap_or_default()),
        false => streams::plain(verdict).map(|text| text.as_bytes().to_vec()),
    };
    if let Some(last) = last {
        sink.send(protocol.message(ERROR, &last))
            .await
            .map_err(io::Error::other)?;
    }
    // Clients take any other code for an error.
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    sink.send(Message::Close(Some(close))).await.map_err(io::Error::other)
}

/// Takes in what the client sends; returns when it is gone.
async fn read(
    source: &mut (impl Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
    protocol: Protocol,
    mut stdin: Option<mpsc::Sender<Bytes>>,
    sizes: Option<mpsc::Sender<TerminalSize>>,
) {
    while let Some(Ok(message)) = source.next().await {
        match protocol.parse(message) {
            Some((STDIN, bytes)) if !bytes.is_empty() => {
                // A program that ended or closed its input does not want the rest.
                if let Some(to) = &stdin
                    && to.send(bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Some((RESIZE, text)) => {
                if let (Some(sizes), Some(size)) = (&sizes, streams::size(&text)) {
                    // A node that is behind gets the next one.
                    let _ = sizes.try_send(size);
                }
            }
            Some((CLOSE, which)) if protocol.closes && which.first() == Some(&STDIN) => stdin = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_clients_order_decides() {
        let name = |offered: &[&str]| choose(offered).map(|protocol| protocol.name);
        assert_eq!(
            name(&["v4.channel.k8s.io", "v5.channel.k8s.io"]),
            Some("v4.channel.k8s.io")
        );
        assert_eq!(name(&["x", "channel.k8s.io"]), Some("channel.k8s.io"));
        assert_eq!(name(&[]), Some(""));
        assert_eq!(name(&["x"]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in prop::collection::vec(any::<u8>(), 0..100), which in 0..PROTOCOLS.len()) {
            let protocol = PROTOCOLS[which];
            let read = protocol.parse(protocol.message(STDOUT, &bytes));
            prop_assert_eq!(read, Some((STDOUT, Bytes::from(bytes))));
        }

        #[test]
        fn no_message_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), which in 0..PROTOCOLS.len()) {
            PROTOCOLS[which].parse(Message::Binary(bytes.into()));
        }
    }
}
