//! Revisions, snapshots and watch: where the state of a cluster lives.
//!
//! One writer takes transactions, checks their preconditions against memory, gives each that
//! passes the next revision, hands what is waiting to the [`Engine`] as one group, and tells
//! readers, watchers and the callers only after the engine has made the group durable.
//!
//! What holds, always:
//! - there is one revision for the whole store; it grows by one per transaction, also over restarts;
//! - a transaction is seen whole or not at all, by readers, by watchers and after a crash;
//! - what was acknowledged is found after a restart;
//! - a [`Snapshot`] never changes and costs nothing to take;
//! - a [`Watch`] delivers every matching event once and in order, or says that it cannot.
//!
//! The store knows bytes, keys and headers. It must never learn what a Kubernetes object is:
//! what it needs of one (labels, owners, selectable fields) it is given, or extracts at start
//! with the function that [`Store::open`] receives.

mod decide;
mod engine;
mod history;
mod key;
mod record;
mod state;
mod store;
mod transaction;
mod watch;
mod writer;

#[cfg(test)]
mod suite;

pub use engine::memory::MemoryEngine;
pub use engine::sled::SledEngine;
pub use engine::{Engine, EngineError, FoldedRecord, Loaded, LogChange, LogEntry, OpenError, StoredRecord};
pub use history::Expired;
pub use key::{Key, Revision};
pub use record::{Body, Event, EventKind, Header, Record};
pub use state::Snapshot;
pub use store::{Clock, Config, Extract, Store, TooNew, WriterPlace};
pub use transaction::{Change, CommitError, Committed, Expect, Transaction};
pub use watch::{Lagged, Watch};
