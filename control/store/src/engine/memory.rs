//! The engine that keeps everything in memory: for tests, and for clusters that may vanish.
//!
//! Durable here means: found by the next store that is opened over the same engine value.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use super::{Engine, EngineError, FoldedRecord, Loaded, LogEntry, StoredRecord};
use crate::key::{Key, Revision};

/// Keeps the log and the base in memory.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    floor: Revision,
    base: BTreeMap<Key, StoredRecord>,
    log: VecDeque<LogEntry>,
}

impl MemoryEngine {
    /// An engine that keeps nothing yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Engine for MemoryEngine {
    fn place(&self) -> String {
        "memory".into()
    }

    fn load(&self) -> Result<Loaded, EngineError> {
        let kept = self.kept.lock();
        Ok(Loaded {
            floor: kept.floor,
            records: kept.base.values().cloned().collect(),
            log: kept.log.iter().cloned().collect(),
        })
    }

    fn commit(&self, group: &[LogEntry]) -> Result<(), EngineError> {
        self.kept.lock().log.extend(group.iter().cloned());
        Ok(())
    }

    fn compact(&self, floor: Revision, records: &[FoldedRecord]) -> Result<(), EngineError> {
        let mut kept = self.kept.lock();
        for FoldedRecord { key, state } in records {
            match state {
                Some((revision, json)) => {
                    let record = StoredRecord {
                        key: key.clone(),
                        revision: *revision,
                        json: json.clone(),
                    };
                    kept.base.insert(key.clone(), record);
                }
                None => {
                    kept.base.remove(key);
                }
            }
        }
        while kept.log.front().is_some_and(|entry| entry.revision <= floor) {
            kept.log.pop_front();
        }
        kept.floor = floor;
        Ok(())
    }

    fn close(&self) {}
}
