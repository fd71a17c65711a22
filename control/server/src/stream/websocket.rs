//! WebSockets: the handshake, and a connection as pieces that come and go.

use std::io;

use bytes::Bytes;
use coracle_api::status::ApiError;
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::upgrade;
use crate::respond::Answer;

/// How long a message may be. Clients send 32 KiB at a time.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// A WebSocket with a client.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The subprotocols that a client offers.
pub(super) fn offered(headers: &HeaderMap) -> Vec<&str> {
    let name: HeaderName = SEC_WEBSOCKET_PROTOCOL;
    upgrade::tokens(headers, &name).collect()
}

/// Agrees to a WebSocket, with a subprotocol unless it is empty.
pub(super) fn accept(headers: &HeaderMap, protocol: &'static str) -> Result<Answer, ApiError> {
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or_else(|| ApiError::bad_request("Sec-WebSocket-Key is missing"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let mut answer = upgrade::switching("websocket");
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !protocol.is_empty() {
        answer
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(answer)
}

/// The socket over an upgraded connection.
pub(super) async fn socket(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// The two directions of a socket, as the bytes of its messages. Pings are answered by the library as messages are read.
pub(super) fn split(
    socket: Socket,
) -> (
    impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    impl Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
) {
    let (sink, stream) = socket.split();
    let incoming = stream.filter_map(|message| {
        std::future::ready(match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(Message::Text(text)) => Some(Ok(Bytes::from(text))),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    let outgoing = sink
        .sink_map_err(io::Error::other)
        .with(|bytes: Bytes| std::future::ready(Ok::<_, io::Error>(Message::Binary(bytes))));
    (incoming, outgoing)
}
