//! The locks, the atomics and the channel through which threads of the network meet.
//!
//! Ordinary builds have those of parking_lot, the standard library and tokio here, with nothing in between. The crate
//! `tests/interleavings` compiles this crate's sources once more with `cfg(interleavings)`: there each of them is a point
//! at which a model checker changes threads. Shared state that does not go through this module is never interleaved.

#[cfg(interleavings)]
mod checked;

#[cfg(interleavings)]
pub(crate) use checked::{Mutex, RwLock, atomic, oneshot};
#[cfg(not(interleavings))]
pub(crate) use {
    parking_lot::{Mutex, RwLock},
    std::sync::atomic,
    tokio::sync::oneshot,
};
