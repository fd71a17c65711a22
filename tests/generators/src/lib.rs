//! Guests that nobody wrote by hand, under the full host with every limit on, and what must hold after each of them.
//!
//! Bytes are the only source of chance, so that a fuzzer, a test and a person with a reproducer run the same. A [`Sandbox`] runs
//! what [`modules`] makes of them, or has the guest `driver` make calls to the host as they say, and then looks at what the host
//! has: nothing may be left of the guest, nothing outside its mounts may have changed, and no thread may have panicked.
//! [`engines`] runs the same program under two configurations of the engine, which must not be told apart. [`specs`] is the same
//! for objects of the API, and needs no runtime. [`targets`] is what the fuzz targets do of this.

#[cfg(feature = "runtime")]
pub mod engines;
#[cfg(feature = "runtime")]
pub mod modules;
#[cfg(feature = "runtime")]
mod peer;
#[cfg(feature = "runtime")]
mod process;
#[cfg(feature = "runtime")]
pub mod sandbox;
pub mod specs;
pub mod steps;
#[cfg(feature = "runtime")]
pub mod targets;

#[cfg(feature = "runtime")]
pub use process::{handles, peak_bytes};
#[cfg(feature = "runtime")]
pub use sandbox::{Run, Sandbox, Violation};

/// The families of calls that the guest `driver` knows.
pub const FAMILIES: [&str; 6] = ["io", "files", "sockets", "http", "processes", "all"];
