//! Streams over upgraded connections: SPDY and WebSocket, and what runs over them.

mod channels;
pub(crate) mod forward;
mod ports;
pub(crate) mod remote;
pub(crate) mod spdy;
mod streams;
mod target;
mod upgrade;
mod websocket;
