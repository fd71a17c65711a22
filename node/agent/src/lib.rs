//! What the kubelet is for Linux containers, for WebAssembly: the pods of one node, from their assignment to their end.
//!
//! The agent knows the cluster only as a client of the Kubernetes API. It keeps a node object and a lease, runs a task for
//! each pod that is assigned to the node, and tells the pod network about services. Decisions are pure functions
//! (`plan`, `status`, `env`, `backoff`, `probe`); `pod` observes and carries out.
//!
//! Positive invariants: a pod's task is the only writer of its status; a restart count never falls and a phase never goes
//! back; a container runs only while its pod is assigned here; no thread and no timer belongs to a pod that is at rest.

mod address;
mod admit;
mod agent;
mod api;
mod backoff;
mod capacity;
mod cell;
mod claims;
mod clock;
mod config;
mod diagnosis;
mod directory;
mod elsewhere;
mod env;
mod etc;
mod events;
mod exec;
mod fields;
mod handle;
mod hooks;
mod host_ports;
mod image_files;
mod lease;
mod listing;
mod logs;
mod node;
mod objects;
mod observed;
mod plan;
mod pod;
mod pods;
mod policies;
mod probe;
mod proxy;
mod pull;
mod quantity;
mod recover;
mod register;
mod resize;
mod runtime_class;
mod sidecar;
mod spec;
mod start;
mod static_pods;
mod stats;
mod status;
mod status_patch;
mod terminal;
mod termination;
#[cfg(test)]
mod testing;
mod token;
mod traffic;
mod verdict;
mod volume;

pub use agent::{Agent, BuildError};
pub use api::{Caller, serve as serve_api};
pub use backoff::Limits as BackoffLimits;
pub use clock::{Clock, SystemClock};
pub use config::{Config, Identity};
pub use directory::Directories;
pub use elsewhere::{LINK_ANNOTATION, follow as follow_elsewhere};
pub use exec::{ExecError, Streams};
pub use fields::Capacity;
pub use handle::{AgentHandle, ContainerUsage, DialError};
pub use host_ports::tell as tell_host_ports;
pub use logs::{LogError, LogOptions};
pub use stats::Told;
pub use verdict::Verdict;
