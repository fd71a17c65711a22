//! The API server: HTTP in, one chain, one registry, HTTP out.
//!
//! Every write of every kind, from a user, a controller or this crate's own start-up, goes through the same chain
//! (authenticate, authorise, decode, default, admit, validate, commit, encode); callers in the same process only skip
//! the socket. Nothing here knows how a pod runs or how its network works: what the server needs of them it asks of the
//! two traits in [`dial`].

mod admission;
mod aggregate;
mod allocate;
mod audit;
mod authn;
mod authz;
mod body;
mod bootstrap;
mod chain;
mod component_status;
mod compress;
mod config;
mod core;
mod decode;
mod dial;
mod discovery;
mod document;
mod flow;
mod follow;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod health;
mod identity;
mod ip_addresses;
mod keeper;
mod kubelet;
mod listen;
mod local;
mod logs;
mod matching;
mod metrics;
mod negotiate;
mod oidc;
mod openapi;
mod outbound;
pub mod pki;
mod policy;
mod presence;
mod proxy;
mod query;
mod registry;
mod request;
mod respond;
mod review;
mod served;
mod server;
mod service_ranges;
mod sight;
mod stream;
mod tls;
mod token_request;
mod tokens;
mod transcode;
mod turns;
mod usage;
mod view;
mod webhook;

pub use audit::AuditLog;
pub use body::ResponseBody;
pub use config::{Config, SIGNING_SECONDS, Version};
pub use dial::{
    ClusterDialer, ContainerTarget, Duplex, LogOptions, LogStream, NodeAnswer, NodeDialer, PodTarget, ProcessStreams,
    TerminalSize, Unconnected, WantedImage,
};
pub use document::header_of;
pub use health::ReadyCheck;
pub use identity::Identity;
pub use kubelet::{Everywhere, KubeletError, Kubelets};
pub use local::LocalService;
pub use pki::{Pki, PkiError};
pub use server::{BuildError, Server};
