//! What a writer asks for, and what it is told.

use std::sync::Arc;

use crate::engine::EngineError;
use crate::key::{Key, Revision};
use crate::record::{Body, Header, Record};

/// What must be true of a key for a transaction to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// There is no such record.
    Absent,
    /// There is one.
    Exists,
    /// There is one, last written by this revision.
    Revision(Revision),
    /// There is one, and its header has this uid.
    Uid(String),
}

/// One change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Create or replace.
    Put {
        /// The record's name.
        key: Key,
        /// Its JSON, waiting for the revision.
        body: Body,
        /// What is extracted from that JSON.
        header: Header,
    },
    /// Remove. A record that does not exist fails the transaction's preconditions.
    Delete {
        /// The record's name.
        key: Key,
        /// The last body, which watchers are shown with the deletion's revision.
        body: Body,
    },
}

impl Change {
    /// The name of the record that changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// The JSON that the change brings.
    pub fn body(&self) -> &Body {
        match self {
            Self::Put { body, .. } | Self::Delete { body, .. } => body,
        }
    }
}

/// Changes that happen together, under one revision, if all expectations are met.
///
/// Every key may be changed once. A transaction without changes only checks: it takes no
/// revision and reports the current one. A watcher that resumes from revision N gets nothing
/// of transaction N, so records that one client follows one by one are best changed in
/// transactions of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The preconditions; a key may occur several times.
    pub expect: Vec<(Key, Expect)>,
    /// The changes, in the order in which watchers see them.
    pub changes: Vec<Change>,
}

/// A transaction that is durable.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The transaction's revision.
    pub revision: Revision,
    /// One record per change, in the same order; for a deletion what watchers are shown.
    pub records: Vec<Arc<Record>>,
}

/// Why a transaction did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// An expectation was not met, or a record to delete does not exist.
    #[error("precondition failed for {key}")]
    Precondition {
        /// The record in question.
        key: Key,
        /// What there is instead; `None` for nothing.
        found: Option<Arc<Record>>,
    },
    /// The transaction itself is wrong: a key changed twice, or a revision offset outside of the body.
    #[error("malformed transaction: {key} {problem}")]
    Malformed {
        /// The record in question.
        key: Key,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The engine could not make the transaction durable. Whether it will be found after a
    /// restart is unknown, so the store takes no further writes until then.
    #[error("the store's engine failed: {0}")]
    Engine(#[source] Arc<EngineError>),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}
