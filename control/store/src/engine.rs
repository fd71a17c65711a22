//! What the store needs of the thing that keeps its bytes.
//!
//! An engine keeps two things: the *log*, one entry per transaction of the recent past, and the
//! *base*, the records as they were before the first entry of the log. Committing appends to
//! the log; [`Engine::compact`] moves the oldest entries into the base. So a transaction is one
//! entry, written in one piece, and no engine needs a second mechanism to make it atomic; and
//! after a restart the log gives back not only the records but also the recent events, with
//! which watches and paged lists go on.
//!
//! An engine takes calls from one thread, the store's writer, and may block it. An engine that
//! is shared by several stores (etcd) additionally has to tell each about the writes of the
//! others; that will be one more method beside these, with the embedded engines having nothing to tell.

pub(crate) mod codec;
mod journal;
pub(crate) mod memory;
pub(crate) mod sled;

use std::path::PathBuf;

use bytes::Bytes;

use crate::key::{Key, Revision};
use crate::record::EventKind;

/// Keeps the log and the base. Calls come from one thread at a time and may block.
pub trait Engine: Send + Sync + 'static {
    /// Where it is kept, for messages to users: a directory, an address.
    fn place(&self) -> String;

    /// Everything that is kept. Called once, before all else.
    fn load(&self) -> Result<Loaded, EngineError>;

    /// Appends entries to the log, whose revisions follow one another without a gap. Returns
    /// when they are durable. After a crash before that, a prefix of them is found, entries
    /// whole. After an error the engine is not used any more.
    fn commit(&self, group: &[LogEntry]) -> Result<(), EngineError>;

    /// Moves the entries with revisions up to and including `floor` from the log to the base.
    /// `records` is what these entries amount to: the last state of each record they changed.
    /// After a crash in the middle, loading shows it as done or as not done.
    fn compact(&self, floor: Revision, records: &[FoldedRecord]) -> Result<(), EngineError>;

    /// Lets go of all resources. Nothing is called after this.
    fn close(&self);
}

/// What an engine kept.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The revision whose state the base is.
    pub floor: Revision,
    /// The base, in any order.
    pub records: Vec<StoredRecord>,
    /// The log: entries with the revisions `floor + 1`, `floor + 2`, and so on.
    pub log: Vec<LogEntry>,
}

/// A record of the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// The record's name.
    pub key: Key,
    /// The revision that wrote it.
    pub revision: Revision,
    /// Its JSON, with the revision inside.
    pub json: Bytes,
}

/// One transaction in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The transaction's revision.
    pub revision: Revision,
    /// When it was committed, in milliseconds since the Unix epoch.
    pub millis: u64,
    /// What it changed.
    pub changes: Vec<LogChange>,
}

/// One change in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChange {
    /// Whether the record was written or removed.
    pub kind: EventKind,
    /// The record's name.
    pub key: Key,
    /// Its JSON after the change; for a deletion what watchers are shown.
    pub json: Bytes,
}

/// What entries that leave the log amount to for one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldedRecord {
    /// The record's name.
    pub key: Key,
    /// The revision and JSON of the last of these entries that wrote it; `None` if it removed it.
    pub state: Option<(Revision, Bytes)>,
}

/// Why an engine could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Reading what is kept failed.
    #[error("reading {what} failed: {detail}")]
    Read {
        /// What was read.
        what: &'static str,
        /// What the engine's library says.
        detail: String,
    },
    /// Writing failed; disk full, for example.
    #[error("writing {what} failed: {detail}")]
    Write {
        /// What was written.
        what: &'static str,
        /// What the engine's library says.
        detail: String,
    },
    /// What is kept contradicts itself.
    #[error("{what} is damaged: {detail}")]
    Damaged {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The engine was closed.
    #[error("the engine is closed")]
    Closed,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory open.
    #[error(
        "the store in {} is in use by another process; stop that process or choose another data directory",
        path.display()
    )]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// The directory cannot be created, read or written.
    #[error("the store in {} cannot be opened: {detail}", path.display())]
    Directory {
        /// The store's directory.
        path: PathBuf,
        /// What the operating system says.
        detail: String,
    },
    /// The directory's content is not a store that this version can read.
    #[error(
        "the store in {} is damaged or of another version ({detail}); restore the directory from a copy, \
         or move it away to start with an empty cluster",
        path.display()
    )]
    Damaged {
        /// The store's directory.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The engine opened but could not give what it keeps.
    #[error(
        "the store in {place} cannot be read ({source}); restore it from a copy, \
         or move it away to start with an empty cluster"
    )]
    Load {
        /// Where the engine keeps it.
        place: String,
        /// What went wrong.
        source: EngineError,
    },
    /// There is no thread for the writer, or no runtime for its task.
    #[error("the store's writer could not be started: {0}")]
    Writer(#[source] std::io::Error),
}
