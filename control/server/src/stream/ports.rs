//! The older port-forward over WebSocket: a channel for data and one for errors per port, one connection each.
//!
//! Channel 2i carries the data of the i-th port, 2i+1 its error. The first message on each is the port, two bytes,
//! little-endian.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use coracle_api::status::ApiError;
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::forward::Target;
use crate::query::Query;

/// Ports of one session; the channel number is one byte.
const PORTS: usize = 64;
/// Messages that wait for the socket, over all ports.
const MESSAGES: usize = 64;
/// Pieces that wait for a pod's connection.
const PIECES: usize = 16;
/// How much is read from a pod at a time.
const PIECE_BYTES: usize = 32 * 1024;

/// The ports that a query names, each once or in comma-separated lists.
pub(super) fn parse(query: &Query) -> Result<Vec<u16>, ApiError> {
    let mut ports = Vec::new();
    for text in query
        .all("ports")
        .flat_map(|list| list.split(','))
        .filter(|text| !text.is_empty())
    {
        let port = text.parse::<u16>().ok().filter(|port| *port > 0);
        ports.push(port.ok_or_else(|| ApiError::bad_request(format!("invalid port {text:?}")))?);
    }
    match ports.len() {
        0 => Err(ApiError::bad_request("query parameter \"ports\" is required")),
        1..=PORTS => Ok(ports),
        _ => Err(ApiError::bad_request(format!("more than {PORTS} ports"))),
    }
}

/// Serves all ports until the client goes or every pod's connection has ended.
pub(super) async fn serve(
    mut incoming: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    mut outgoing: impl Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
    target: Target,
    ports: Vec<u16>,
    stop: CancellationToken,
) {
    let (messages, mut waiting) = mpsc::channel::<Bytes>(MESSAGES);
    let mut writers = Vec::new();
    for (index, port) in (0_u8..).zip(ports) {
        let (writer, pieces) = mpsc::channel(PIECES);
        writers.push(Some(writer));
        tokio::spawn(one(target.clone(), port, 2 * index, pieces, messages.clone()));
    }
    drop(messages);
    let receive = async {
        while let Some(Ok(message)) = incoming.next().await {
            let Some((channel, bytes)) = message.split_first() else {
                continue;
            };
            let writer = writers.get_mut(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
            if let Some(Some(writer)) = writer
                && writer.send(message.slice_ref(bytes)).await.is_err()
            {
                continue;
            }
        }
    };
    let send = async {
        while let Some(message) = waiting.recv().await {
            if outgoing.send(message).await.is_err() {
                return;
            }
        }
        // What is closed already cannot be closed better.
        let _ = outgoing.close().await;
    };
    tokio::select! {
        () = receive => {}
        () = send => {}
        () = stop.cancelled() => {}
    }
}

fn message(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}

async fn one(target: Target, port: u16, channel: u8, mut pieces: mpsc::Receiver<Bytes>, messages: mpsc::Sender<Bytes>) {
    for number in [channel, channel + 1] {
        if messages.send(message(number, &port.to_le_bytes())).await.is_err() {
            return;
        }
    }
    let connection = match target.connect(port).await {
        Ok(connection) => connection,
        Err(error) => {
            // A client that went away needs no explanation.
            let _ = messages
                .send(message(channel + 1, target.explain(port, &error).as_bytes()))
                .await;
            return;
        }
    };
    let (mut reader, mut writer) = tokio::io::split(connection);
    let up = async {
        while let Some(bytes) = pieces.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The pod may have closed first.
        let _ = writer.shutdown().await;
        std::future::pending::<()>().await;
    };
    let down = async {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(count) = reader.read(&mut buffer).await {
            let bytes = buffer.get(..count).unwrap_or_default();
            if count == 0 || messages.send(message(channel, bytes)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_in_lists() {
        let ports = |text| parse(&Query::parse(Some(text)));
        assert_eq!(ports("ports=80&ports=443,8080").unwrap(), [80, 443, 8080]);
        assert!(ports("").is_err());
        assert!(ports("ports=0").is_err());
        assert!(ports("ports=70000").is_err());
    }
}
