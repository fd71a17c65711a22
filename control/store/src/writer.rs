//! The one who writes.
//!
//! It takes what waits, decides each transaction on a working copy of the records (so a later
//! one in the group sees what an earlier one did), hands the accepted ones to the engine as
//! one group, and only then publishes the new state and answers. It has a thread, because engines
//! block while they wait for the disk, or is a task for an engine that does not.
//!
//! After an engine's error nothing more is written: what reached the disk is unknown, and a
//! later write on top of it could contradict what a restart finds.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::decide;
use crate::engine::{Engine, EngineError, FoldedRecord, LogChange, LogEntry};
use crate::key::{Key, Revision};
use crate::record::{Event, EventKind};
use crate::state::{Records, State};
use crate::store::WriterPlace;
use crate::transaction::{CommitError, Committed, Transaction};
use crate::watch::{Hub, Published};

/// What the writer is asked to do.
pub(crate) enum Job {
    Commit {
        transaction: Transaction,
        reply: oneshot::Sender<Result<Committed, CommitError>>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

/// The group's limits bound how long its first transaction waits for the last. One flush costs
/// as much as some hundred small transactions, so larger groups gain nothing.
const GROUP_TRANSACTIONS: usize = 256;
/// About what a disk takes in one flush's time.
const GROUP_BYTES: usize = 1 << 20;

/// How many events that the history forgot are moved to the engine's base at a time. Each step
/// costs a flush, so it must not be small; whoever writes next waits for its end, so not large
/// either: with sled some milliseconds.
const FOLD_EVENTS: usize = 64;

/// Steps are made while nobody waits. Under a load without pauses this many events may wait for
/// their step, some seconds' worth; then each group pays for twice its own.
const BACKLOG_EVENTS: usize = 8_192;

/// While more writers wait, watchers are woken for so many groups at once. Of what an event costs, waking each watcher and
/// bringing it what it reads is by far the most; one that reads four groups at a time pays once. They come a few commits
/// later, a millisecond or so, and only while writers queue.
const WAKE_GROUPS: usize = 4;

/// Starts the writer. `floor` is the engine's; `forgotten` is what the history did not take
/// of the engine's log. The engine is dropped before a close is answered.
pub(crate) fn start(
    place: WriterPlace,
    engine: Arc<dyn Engine>,
    hub: Arc<Hub>,
    jobs: mpsc::Receiver<Job>,
    floor: Revision,
    forgotten: Vec<Arc<Event>>,
) -> std::io::Result<()> {
    let writer = Writer {
        engine,
        hub: Closing(hub),
        folded: floor,
        forgotten,
        unwoken: Unwoken::default(),
        broken: None,
    };
    match place {
        WriterPlace::Thread => std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || futures::executor::block_on(writer.run(jobs)))
            .map(drop),
        WriterPlace::Task => {
            let runtime = tokio::runtime::Handle::try_current().map_err(std::io::Error::other)?;
            runtime.spawn(writer.run(jobs));
            Ok(())
        }
    }
}

/// Ends the watches when the writer ends, however it ends.
struct Closing(Arc<Hub>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Watchers that have something to read and are not woken yet. They are when the writer ends, however it ends.
#[derive(Default)]
struct Unwoken {
    groups: usize,
    wakers: Vec<Waker>,
}

impl Unwoken {
    fn add(&mut self, wakers: Vec<Waker>) {
        self.groups += 1;
        self.wakers.extend(wakers);
    }

    fn wake(&mut self) {
        self.groups = 0;
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Unwoken {
    fn drop(&mut self) {
        self.wake();
    }
}

struct Writer {
    engine: Arc<dyn Engine>,
    hub: Closing,
    /// The engine's floor.
    folded: Revision,
    /// Events that the history forgot and the engine still has in its log.
    forgotten: Vec<Arc<Event>>,
    unwoken: Unwoken,
    broken: Option<Arc<EngineError>>,
}

type Reply = oneshot::Sender<Result<Committed, CommitError>>;

/// Transactions that were accepted and wait for the engine.
struct Group {
    records: Records,
    revision: Revision,
    millis: u64,
    log: Vec<LogEntry>,
    events: Vec<(u64, Arc<Event>)>,
    bytes: usize,
    replies: Vec<(Reply, Result<Committed, CommitError>)>,
}

impl Writer {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut closing = Vec::new();
        while let Some(job) = self.next(&mut jobs).await {
            let mut group = self.begin();
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Commit { transaction, reply } => group.decide(transaction, reply),
                    Job::Close { reply } => {
                        jobs.close();
                        closing.push(reply);
                    }
                }
                if !group.is_full() {
                    next = jobs.try_recv().ok();
                }
            }
            let events = group.events.len();
            self.finish(group);
            if self.forgotten.len() > BACKLOG_EVENTS {
                self.unwoken.wake();
                self.fold(FOLD_EVENTS.max(2 * events));
            }
        }
        self.engine.close();
        drop(self);
        for reply in closing {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(());
        }
    }

    /// Waits for the next job; wakes watchers and folds meanwhile.
    async fn next(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        loop {
            let waiting = jobs.try_recv();
            if waiting.is_err() || self.unwoken.groups >= WAKE_GROUPS {
                self.unwoken.wake();
            }
            match waiting {
                Ok(job) => return Some(job),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {
                    if !self.fold(FOLD_EVENTS) {
                        return jobs.recv().await;
                    }
                }
            }
        }
    }

    fn begin(&self) -> Group {
        let hub = &self.hub.0;
        let snapshot = hub.snapshot();
        Group {
            records: snapshot.0.records.clone(),
            revision: snapshot.revision(),
            millis: hub.now_millis(),
            log: Vec::new(),
            events: Vec::new(),
            bytes: 0,
            replies: Vec::new(),
        }
    }

    /// Makes the group durable, then visible, then answers. Watchers are woken later: there may be very many of them, and
    /// writers would wait behind them.
    fn finish(&mut self, group: Group) {
        let Group {
            records,
            revision,
            log,
            events,
            mut replies,
            ..
        } = group;
        let mut published = None;
        if !log.is_empty() {
            match self.write(&log) {
                Ok(()) => published = Some(self.hub.0.publish(State { revision, records }, events)),
                Err(error) => {
                    // Refusals too: they may rest on a transaction that did not happen.
                    for (_, answer) in &mut replies {
                        *answer = Err(CommitError::Engine(error.clone()));
                    }
                }
            }
        }
        for (reply, answer) in replies {
            // Whoever asked may have stopped waiting; the transaction stands.
            let _ = reply.send(answer);
        }
        if let Some(Published { forgotten, wake }) = published {
            self.forgotten.extend(forgotten);
            self.unwoken.add(wake);
        }
    }

    fn write(&mut self, log: &[LogEntry]) -> Result<(), Arc<EngineError>> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.engine.commit(log).map_err(|error| self.give_up(error))
    }

    fn give_up(&mut self, error: EngineError) -> Arc<EngineError> {
        tracing::error!(%error, "the store's engine failed; no more writes until a restart");
        let error = Arc::new(error);
        self.broken = Some(error.clone());
        error
    }

    /// Moves what the history forgot from the engine's log to its base, a step at a time. Returns
    /// whether there was enough for a step and it worked.
    fn fold(&mut self, events: usize) -> bool {
        if self.forgotten.len() < FOLD_EVENTS || self.broken.is_some() {
            return false;
        }
        let started = Instant::now();
        let (floor, records, count) = fold(&self.forgotten, events);
        match self.engine.compact(floor, &records) {
            Ok(()) => {
                self.forgotten.drain(..count);
                tracing::debug!(from = self.folded, to = floor, elapsed = ?started.elapsed(), "folded the store's log");
                self.folded = floor;
                true
            }
            Err(error) => {
                self.give_up(error);
                false
            }
        }
    }
}

/// What the first `limit` events amount to, rounded up to whole transactions. All of the events given are of transactions that the history forgot as a whole.
fn fold(forgotten: &[Arc<Event>], limit: usize) -> (Revision, Vec<FoldedRecord>, usize) {
    let mut last: HashMap<&Key, &Event> = HashMap::new();
    let mut floor = 0;
    let mut count = 0;
    for event in forgotten {
        if count >= limit && event.revision != floor {
            break;
        }
        floor = event.revision;
        count += 1;
        last.insert(&event.record.key, event);
    }
    let records = last.into_values().map(|event| FoldedRecord {
        key: event.record.key.clone(),
        state: (event.kind == EventKind::Put).then(|| (event.revision, event.record.json.clone())),
    });
    (floor, records.collect(), count)
}

impl Group {
    fn is_full(&self) -> bool {
        self.replies.len() >= GROUP_TRANSACTIONS || self.bytes >= GROUP_BYTES
    }

    /// Decides a transaction after all earlier ones of the group.
    fn decide(&mut self, transaction: Transaction, reply: Reply) {
        let revision = self.revision + 1;
        let answer = decide::apply(&mut self.records, transaction, revision).map(|events| self.accept(events));
        self.replies.push((reply, answer));
    }

    fn accept(&mut self, events: Vec<Arc<Event>>) -> Committed {
        let records = events.iter().map(|event| event.record.clone()).collect();
        if events.is_empty() {
            return Committed {
                revision: self.revision,
                records,
            };
        }
        self.revision += 1;
        self.log.push(entry(self.revision, self.millis, &events));
        self.bytes += events.iter().map(|event| event.record.json.len()).sum::<usize>();
        self.events.extend(events.into_iter().map(|event| (self.millis, event)));
        Committed {
            revision: self.revision,
            records,
        }
    }
}

fn entry(revision: Revision, millis: u64, events: &[Arc<Event>]) -> LogEntry {
    let changes = events.iter().map(|event| LogChange {
        kind: event.kind,
        key: event.record.key.clone(),
        json: event.record.json.clone(),
    });
    LogEntry {
        revision,
        millis,
        changes: changes.collect(),
    }
}
