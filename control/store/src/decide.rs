//! The decision about a transaction, without effects: records in, events out.
//!
//! Either every change is applied to the given records or none is.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::key::{Key, Revision};
use crate::record::{Event, EventKind, Header, Record};
use crate::state::Records;
use crate::transaction::{Change, CommitError, Expect, Transaction};

/// Checks a transaction and applies it under the given revision.
pub(crate) fn apply(
    records: &mut Records,
    transaction: Transaction,
    revision: Revision,
) -> Result<Vec<Arc<Event>>, CommitError> {
    for (key, expect) in &transaction.expect {
        check(records, key, expect)?;
    }
    let bodies = splice(records, &transaction.changes, revision)?;
    let changes = transaction.changes.into_iter().zip(bodies);
    Ok(changes
        .map(|(change, json)| change_record(records, change, json, revision))
        .collect())
}

/// Applies one change that has been checked.
fn change_record(records: &mut Records, change: Change, json: Bytes, revision: Revision) -> Arc<Event> {
    match change {
        Change::Put { key, header, .. } => put(records, key, json, header, revision),
        Change::Delete { key, .. } => delete(records, key, json, revision),
    }
}

/// Writes a record and says what happened.
pub(crate) fn put(records: &mut Records, key: Key, json: Bytes, header: Header, revision: Revision) -> Arc<Event> {
    let record = Arc::new(Record {
        key: key.clone(),
        revision,
        json,
        header,
    });
    let previous = records.insert(key, record.clone());
    Arc::new(Event {
        revision,
        kind: EventKind::Put,
        record,
        previous,
    })
}

/// Removes a record and says what happened; the event's record keeps the last header, because
/// selectors decide by it who is told.
pub(crate) fn delete(records: &mut Records, key: Key, json: Bytes, revision: Revision) -> Arc<Event> {
    let previous = records.remove(key.as_str());
    let header = previous.as_ref().map(|last| last.header.clone()).unwrap_or_default();
    let record = Arc::new(Record {
        key,
        revision,
        json,
        header,
    });
    Arc::new(Event {
        revision,
        kind: EventKind::Delete,
        record,
        previous,
    })
}

/// Whether an expectation is met.
fn check(records: &Records, key: &Key, expect: &Expect) -> Result<(), CommitError> {
    let found = records.get(key);
    let met = match (expect, found) {
        (Expect::Any, _) | (Expect::Absent, None) | (Expect::Exists, Some(_)) => true,
        (Expect::Revision(revision), Some(record)) => record.revision == *revision,
        (Expect::Uid(uid), Some(record)) => record.header.uid == *uid,
        _ => false,
    };
    if met {
        return Ok(());
    }
    Err(CommitError::Precondition {
        key: key.clone(),
        found: found.cloned(),
    })
}

/// The finished bytes of all changes, if all of them can be applied.
fn splice(records: &Records, changes: &[Change], revision: Revision) -> Result<Vec<Bytes>, CommitError> {
    let mut bodies = Vec::with_capacity(changes.len());
    let mut seen = HashSet::with_capacity(if changes.len() > 1 { changes.len() } else { 0 });
    for change in changes {
        let key = change.key();
        if changes.len() > 1 && !seen.insert(key) {
            return Err(CommitError::Malformed {
                key: key.clone(),
                problem: "is changed twice",
            });
        }
        if matches!(change, Change::Delete { .. }) {
            check(records, key, &Expect::Exists)?;
        }
        let json = change.body().splice(revision).ok_or_else(|| CommitError::Malformed {
            key: key.clone(),
            problem: "has a revision offset outside of its body",
        })?;
        bodies.push(json);
    }
    Ok(bodies)
}
