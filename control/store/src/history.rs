//! The recent past: a ring of events, from which watches are served and earlier states are
//! reconstructed.
//!
//! The ring holds whole transactions without a gap from `floor + 1` to the newest revision.
//! An earlier state is the newest one with the later events undone, so remembering every
//! revision costs no memory beside the events themselves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::key::Revision;
use crate::record::Event;
use crate::state::{State, undo};

/// How much of the past is kept, whichever limit is reached first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) age: Duration,
}

/// The revision asked for is not among the recent ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {requested} is not kept any more (the oldest is {oldest})")]
pub struct Expired {
    /// The revision that was asked for.
    pub requested: Revision,
    /// The oldest revision that can be asked for.
    pub oldest: Revision,
}

/// An event and what it weighs.
struct Slot {
    event: Arc<Event>,
    millis: u64,
    bytes: usize,
}

/// What an event takes beside its JSON: the event, its record with header and key, its slot.
const EVENT_OVERHEAD_BYTES: usize = 512;

/// Reconstructed states are remembered, because the pages of a list ask for the same revision
/// again and again. 16 lists in progress at a time; a further one costs a reconstruction per page.
const REMEMBERED_STATES: usize = 16;

/// The events after `floor`, oldest first. Each has a sequence number that never changes.
pub(crate) struct History {
    slots: VecDeque<Slot>,
    first: u64,
    bytes: usize,
    floor: Revision,
    limits: Limits,
    remembered: VecDeque<Arc<State>>,
}

impl History {
    pub(crate) fn new(floor: Revision, limits: Limits) -> Self {
        Self {
            slots: VecDeque::new(),
            first: 0,
            bytes: 0,
            floor,
            limits,
            remembered: VecDeque::new(),
        }
    }

    /// The oldest revision of which all later events are here.
    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    /// The sequence number of the oldest event here.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The sequence number that the next event will get.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Adds an event; those of one transaction follow one another. Times never go back, even
    /// if the clock does.
    pub(crate) fn push(&mut self, event: Arc<Event>, millis: u64) {
        let record = &event.record;
        let bytes = record.json.len() + record.key.as_str().len() + EVENT_OVERHEAD_BYTES;
        let millis = self.slots.back().map_or(millis, |last| last.millis.max(millis));
        self.bytes += bytes;
        self.slots.push_back(Slot { event, millis, bytes });
    }

    /// Raises the floor above the events that are too old. They stay until the next `trim`.
    pub(crate) fn expire(&mut self, now_millis: u64) {
        let age_millis = u64::try_from(self.limits.age.as_millis()).unwrap_or(u64::MAX);
        let limit = now_millis.saturating_sub(age_millis);
        let old = self.slots.partition_point(|slot| slot.millis < limit);
        if let Some(last) = old.checked_sub(1).and_then(|index| self.slots.get(index)) {
            self.floor = self.floor.max(last.event.revision);
        }
        let floor = self.floor;
        self.remembered.retain(|state| state.revision >= floor);
    }

    /// Forgets what is beyond the limits, whole transactions only, and hands it to `dropped`.
    pub(crate) fn trim(&mut self, now_millis: u64, mut dropped: impl FnMut(Arc<Event>)) {
        self.expire(now_millis);
        while let Some(slot) = self.slots.front() {
            let fits = self.slots.len() <= self.limits.events && self.bytes <= self.limits.bytes;
            if fits && slot.event.revision > self.floor {
                break;
            }
            self.floor = slot.event.revision;
            if let Some(slot) = self.slots.pop_front() {
                self.first += 1;
                self.bytes -= slot.bytes;
                dropped(slot.event);
            }
        }
        let floor = self.floor;
        self.remembered.retain(|state| state.revision >= floor);
    }

    /// The sequence number of the first event after a revision.
    pub(crate) fn after(&self, revision: Revision) -> u64 {
        let older = self.slots.partition_point(|slot| slot.event.revision <= revision);
        self.first + older as u64
    }

    /// The event of a sequence number.
    pub(crate) fn get(&self, sequence: u64) -> Option<&Arc<Event>> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.slots.get(index).map(|slot| &slot.event)
    }

    /// What is needed to reconstruct a state, if its revision is recent; `newest` is the state
    /// after all events here.
    pub(crate) fn recall(&self, revision: Revision, newest: &Arc<State>) -> Result<Recall, Expired> {
        if revision < self.floor || revision > newest.revision {
            return Err(Expired {
                requested: revision,
                oldest: self.floor,
            });
        }
        let near = self.remembered.iter().filter(|state| state.revision >= revision);
        let base = near.min_by_key(|state| state.revision).unwrap_or(newest);
        let count = (self.after(base.revision) - self.after(revision)) as usize;
        let from = (self.after(revision) - self.first) as usize;
        let events = self
            .slots
            .iter()
            .skip(from)
            .take(count)
            .map(|slot| slot.event.clone())
            .collect();
        Ok(Recall {
            revision,
            base: base.clone(),
            events,
        })
    }

    /// Remembers a reconstructed state.
    pub(crate) fn remember(&mut self, state: &Arc<State>) {
        let known = self.remembered.iter().any(|other| other.revision == state.revision);
        if known || state.revision < self.floor {
            return;
        }
        if self.remembered.len() >= REMEMBERED_STATES {
            self.remembered.pop_front();
        }
        self.remembered.push_back(state.clone());
    }
}

/// A state to start from and the events to undo; done without holding any lock.
pub(crate) struct Recall {
    revision: Revision,
    base: Arc<State>,
    events: Vec<Arc<Event>>,
}

impl Recall {
    /// The state as it was.
    pub(crate) fn state(self) -> Arc<State> {
        if self.base.revision == self.revision {
            return self.base;
        }
        let mut records = self.base.records.clone();
        undo(&mut records, self.events.iter().rev());
        Arc::new(State {
            revision: self.revision,
            records,
        })
    }
}
