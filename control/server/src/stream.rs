//! Streams over upgraded connections.

pub(crate) mod forward;
