//! The handle that everybody holds, and how a store is opened.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use crate::decide;
use crate::engine::{Engine, Loaded, OpenError};
use crate::history::{Expired, Limits};
use crate::key::Revision;
use crate::record::{Event, EventKind, Header, Record};
use crate::state::{Records, Snapshot, State};
use crate::transaction::{CommitError, Committed, Transaction};
use crate::watch::{Hub, Watch};
use crate::writer::{self, Job};

/// Where the time comes from: asked once per group of writes, to know how old events are.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Gives the header of a record of which only key and JSON are kept. Called for every record
/// and every recent event when a store is opened.
pub type Extract = fn(key: &str, json: &[u8]) -> Header;

/// How much a store keeps and takes in.
#[derive(Clone)]
pub struct Config {
    /// The source of time.
    pub clock: Clock,
    /// How long, in time, a revision can be watched from and listed at.
    pub history_age: Duration,
    /// How many events are kept at most for that.
    pub history_events: usize,
    /// How many bytes these events may hold.
    pub history_bytes: usize,
    /// How many transactions may wait for the writer; further callers wait for room.
    pub queue_transactions: usize,
    /// Where the writer runs.
    pub writer: WriterPlace,
}

/// Where a store's writer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterPlace {
    /// On a thread of its own, because engines block while they wait for the disk.
    Thread,
    /// In a task of the runtime in which the store is opened, for an engine that never blocks: no thread, and in a runtime
    /// of one thread with paused time nothing that happens at a time of its own.
    Task,
}

/// Kubernetes' etcd forgets the past every five minutes; clients and conformance tests expect
/// that a list's continuation works for about that long and not for ever.
const HISTORY_AGE: Duration = Duration::from_secs(300);

/// Ten seconds of the fastest writes that we aim at: longer than any client needs to reconnect.
/// Also what a start has to read again: some tens of thousands of entries take about 0.2 s.
const HISTORY_EVENTS: usize = 50_000;

/// The history's share of the memory of a whole cluster in one process. Ordinary objects of a
/// few KiB reach this before they reach the number of events.
const HISTORY_BYTES: usize = 32 << 20;

/// Several full groups: the writer never waits for work while callers wait for room, and what
/// waits is acknowledged within a fraction of a second.
const QUEUE_TRANSACTIONS: usize = 1024;

impl Default for Config {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemTime::now),
            history_age: HISTORY_AGE,
            history_events: HISTORY_EVENTS,
            history_bytes: HISTORY_BYTES,
            queue_transactions: QUEUE_TRANSACTIONS,
            writer: WriterPlace::Thread,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("history_age", &self.history_age)
            .field("history_events", &self.history_events)
            .field("history_bytes", &self.history_bytes)
            .field("queue_transactions", &self.queue_transactions)
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}

/// The revision asked for does not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {requested} does not exist yet (the current one is {current})")]
pub struct TooNew {
    /// The revision that was asked for.
    pub requested: Revision,
    /// The current revision.
    pub current: Revision,
}

/// A handle on an open store; clones share it. The store closes when [`Store::close`] is called
/// or the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    queue: mpsc::Sender<Job>,
    hub: Arc<Hub>,
}

impl Store {
    /// Opens a store over an engine: reads everything that it keeps, and starts the writer.
    /// Blocks while it reads.
    pub fn open(engine: Arc<dyn Engine>, extract: Extract, config: Config) -> Result<Self, OpenError> {
        let Config {
            clock,
            history_age,
            history_events,
            history_bytes,
            queue_transactions,
            writer,
        } = config;
        let limits = Limits {
            events: history_events,
            bytes: history_bytes,
            age: history_age,
        };
        let loaded = engine.load().map_err(|source| OpenError::Load {
            place: engine.place(),
            source,
        })?;
        let floor = loaded.floor;
        let (state, events) = replay(loaded, extract);
        let base = State {
            revision: floor,
            records: Records::new(),
        };
        let hub = Arc::new(Hub::new(base, floor, limits, clock));
        let forgotten = hub.publish(state, events).wake();
        let (queue, jobs) = mpsc::channel(queue_transactions.max(1));
        writer::start(writer, engine, hub.clone(), jobs, floor, forgotten).map_err(OpenError::Writer)?;
        Ok(Self { queue, hub })
    }

    /// The state now. Costs a pointer copy.
    pub fn snapshot(&self) -> Snapshot {
        self.hub.snapshot()
    }

    /// The state as it was after a revision, for the pages of a list and for exact reads.
    /// Revisions that are older than the history, or that do not exist, are `Expired`.
    pub fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, Expired> {
        self.hub.snapshot_at(revision)
    }

    /// The state now, which is at least that of the given revision; waits for it up to `timeout`.
    pub async fn wait_for(&self, revision: Revision, timeout: Duration) -> Result<Snapshot, TooNew> {
        let current = self.snapshot();
        if current.revision() >= revision {
            return Ok(current);
        }
        let mut revisions = self.hub.revisions();
        let reached = revisions.wait_for(|current| *current >= revision);
        match tokio::time::timeout(timeout, reached).await {
            Ok(Ok(_)) => Ok(self.snapshot()),
            _ => Err(TooNew {
                requested: revision,
                current: self.snapshot().revision(),
            }),
        }
    }

    /// Makes a transaction happen. When it returns `Ok`, the transaction is durable, and
    /// visible in snapshots. A caller that stops waiting does not undo it.
    pub async fn commit(&self, transaction: Transaction) -> Result<Committed, CommitError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Commit { transaction, reply };
        self.queue.send(job).await.map_err(|_| CommitError::Closed)?;
        answer.await.unwrap_or(Err(CommitError::Closed))
    }

    /// The events of keys that start with `prefix`, of all transactions after the revision
    /// `from`. Start from the revision of a snapshot to miss nothing.
    pub fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Expired> {
        self.hub.watch(prefix, from)
    }

    /// The oldest revision that can be watched from and read.
    pub fn compacted(&self) -> Revision {
        self.hub.floor()
    }

    /// Takes no more transactions, finishes those that wait, and lets go of the engine. Watches
    /// end after their last event; snapshots stay readable.
    pub async fn close(self) {
        let (reply, done) = oneshot::channel();
        if self.queue.send(Job::Close { reply }).await.is_ok() {
            // An error means that the writer is gone already, which is what was asked for.
            let _ = done.await;
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("revision", &self.snapshot().revision())
            .finish_non_exhaustive()
    }
}

/// The state and the events that an engine kept.
fn replay(loaded: Loaded, extract: Extract) -> (State, Vec<(u64, Arc<Event>)>) {
    let base = loaded.records.into_iter().map(|stored| {
        let header = extract(stored.key.as_str(), &stored.json);
        let record = Record {
            key: stored.key.clone(),
            revision: stored.revision,
            json: stored.json,
            header,
        };
        (stored.key, Arc::new(record))
    });
    let mut records: Records = base.collect();
    let mut revision = loaded.floor;
    let mut events = Vec::new();
    for entry in loaded.log {
        revision = entry.revision;
        for change in entry.changes {
            let event = match change.kind {
                EventKind::Put => {
                    let header = extract(change.key.as_str(), &change.json);
                    decide::put(&mut records, change.key, change.json, header, revision)
                }
                EventKind::Delete => decide::delete(&mut records, change.key, change.json, revision),
            };
            events.push((entry.millis, event));
        }
    }
    (State { revision, records }, events)
}
