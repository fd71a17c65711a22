//! The records at one revision, as a persistent map: taking a snapshot copies a pointer.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

use crate::key::{Key, Revision};
use crate::record::{Event, Record};

/// All records by name. Copies share structure, so a copy costs nothing and a write costs a path.
pub(crate) type Records = OrdMap<Key, Arc<Record>>;

/// All records at one revision. Never changes; cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct Snapshot(pub(crate) Arc<State>);

/// What a snapshot points at.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) records: Records,
}

impl Snapshot {
    /// The revision whose state this is.
    pub fn revision(&self) -> Revision {
        self.0.revision
    }

    /// The record of a name.
    pub fn get(&self, key: &str) -> Option<&Arc<Record>> {
        self.0.records.get(key)
    }

    /// The records whose names start with `prefix`, in order; with `after` only those whose
    /// names come later than it, whether or not there is a record of that name.
    pub fn range<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Record>> + 'a {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.0
            .records
            .range::<_, str>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(prefix))
            .map(|(_, record)| record)
    }

    /// How many records there are whose names start with `prefix`.
    pub fn count(&self, prefix: &str) -> usize {
        self.range(prefix, None).count()
    }
}

/// The records as they were before the events, which are given newest first.
pub(crate) fn undo<'a>(records: &mut Records, newest_first: impl Iterator<Item = &'a Arc<Event>>) {
    for event in newest_first {
        match &event.previous {
            Some(previous) => records.insert(previous.key.clone(), previous.clone()),
            None => records.remove(event.record.key.as_str()),
        };
    }
}
