//! Runs WebAssembly guests as containers: engine, limits, WASI, the pod's network under `wasi:sockets` and `wasi:http`.
//!
//! The only crate that knows wasmtime. It is told everything about a container in a [`ContainerSpec`] and asks nobody: not the
//! API, not the image store, not the host's network. A guest gets what its specification lists and no more; each host resource
//! that it can take has a limit in [`limits`]. Nothing here may block a thread that runs guests.

mod cache;
mod compiler;
mod container;
mod core_dump;
mod cpu;
mod crowd;
mod engine;
mod executor;
mod exit;
mod files;
mod host;
mod http;
pub mod limits;
mod memory;
mod module;
mod pipe;
mod preview1;
mod process;
mod profile;
mod repeat;
mod runtime;
mod seats;
mod shortage;
mod sockets;
mod spec;
mod taps;
mod ticker;
mod unroll;

pub use compiler::{COMPILE_COMMAND, compile_as_child};
pub use container::{Container, StartError, Usage};
pub use cpu::Throttling;
pub use engine::{EngineError, Metering};
pub use exit::{Exit, ExitReason};
pub use files::{Accounts, MountError, PodFiles, Quota, QuotaUsage};
pub use http::tls::TrustError;
pub use limits::{FUEL_PER_CPU_SECOND, USAGE_WINDOW};
pub use memory::BelowUse;
pub use module::{Interfaces, LoadError, Module, ModuleInfo, ModuleKind, interfaces};
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use process::{ExecError, FindError, Process, Programs, Size, Tty};
pub use runtime::{Runtime, RuntimeConfig, RuntimeError};
pub use spec::{ContainerSpec, LogSink, Mount, ProcessSpec, Stdin};
pub use taps::Attached;
