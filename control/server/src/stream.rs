//! Streams over upgraded connections: SPDY and WebSocket, and what runs over them.

pub(crate) mod forward;
mod ports;
mod spdy;
mod upgrade;
mod websocket;
