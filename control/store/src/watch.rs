//! Who is told what: the current state, the recent events, and the watchers that read them.
//!
//! Events are not copied to watchers. A watcher is a position in the history, and reads from
//! there when it is polled. A watcher that has seen everything is *idle*: it has no position,
//! costs a publish nothing unless an event matches its prefix, and can never fall behind. At
//! the first match it gets that event's position and is woken, once; however many events follow
//! before it reads, nobody touches it again. If the history forgets an event that a watcher has
//! not read, that watcher is told so and ends. It cannot slow the writer or anybody else.
//!
//! One lock guards history and watchers. It is held for comparisons and pointer copies only,
//! never across an await, an engine call, or a wake-up.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;
use futures::Stream;
use parking_lot::Mutex;

use crate::history::{Expired, History, Limits};
use crate::key::Revision;
use crate::record::Event;
use crate::state::{Snapshot, State};
use crate::store::Clock;

/// How many events a watcher takes at a time. Enough that the lock is no cost per event, few
/// enough that what a slow watcher holds on to beyond the history's limits is small.
const TAKE_EVENTS: usize = 64;

/// How many events a watcher looks at before it lets others have the lock: some microseconds.
const SCAN_EVENTS: u64 = 1024;

/// The watcher was too slow: events it should have seen are forgotten. List again, then watch
/// from the list's revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watch fell behind; the oldest revision to watch from is now {oldest}")]
pub struct Lagged {
    /// The oldest revision from which a watch can start.
    pub oldest: Revision,
}

/// Joins the state, its history and the watchers.
pub(crate) struct Hub {
    state: ArcSwap<State>,
    inner: Mutex<Inner>,
    revision: tokio::sync::watch::Sender<Revision>,
    clock: Clock,
}

struct Inner {
    history: History,
    watchers: Watchers,
    closed: bool,
}

/// The watchers, by number and by the part of their prefix up to and including the first `/`.
#[derive(Default)]
struct Watchers {
    slots: Vec<Option<Watcher>>,
    free: Vec<usize>,
    by_resource: HashMap<Box<str>, Vec<usize>>,
    without_resource: Vec<usize>,
}

struct Watcher {
    prefix: Box<str>,
    /// Events up to here are not for this watcher.
    after: Revision,
    place: Place,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Everything has been looked at.
    Idle,
    /// The next event to look at.
    At(u64),
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        event.revision > self.after && event.record.key.as_str().starts_with(&*self.prefix)
    }
}

/// The part of a key or prefix that watchers are grouped by.
fn resource_of(text: &str) -> Option<&str> {
    text.find('/').and_then(|slash| text.get(..=slash))
}

impl Watchers {
    fn insert(&mut self, watcher: Watcher) -> usize {
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        match resource_of(&watcher.prefix) {
            Some(resource) => self.by_resource.entry(resource.into()).or_default().push(id),
            None => self.without_resource.push(id),
        }
        if let Some(slot) = self.slots.get_mut(id) {
            *slot = Some(watcher);
        }
        id
    }

    fn get_mut(&mut self, id: usize) -> Option<&mut Watcher> {
        self.slots.get_mut(id).and_then(Option::as_mut)
    }

    fn remove(&mut self, id: usize) {
        let Some(watcher) = self.slots.get_mut(id).and_then(Option::take) else {
            return;
        };
        self.free.push(id);
        let Some(resource) = resource_of(&watcher.prefix) else {
            self.without_resource.retain(|other| *other != id);
            return;
        };
        if let Some(ids) = self.by_resource.get_mut(resource) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_resource.remove(resource);
            }
        }
    }

    /// Gives idle watchers that want the event its position, and collects whom to wake.
    fn notice(&mut self, event: &Event, sequence: u64, wake: &mut Vec<Waker>) {
        let named = resource_of(event.record.key.as_str()).and_then(|name| self.by_resource.get(name));
        for id in named.into_iter().flatten().chain(&self.without_resource) {
            let Some(Some(watcher)) = self.slots.get_mut(*id) else {
                continue;
            };
            if watcher.place == Place::Idle && watcher.wants(event) {
                watcher.place = Place::At(sequence);
                wake.extend(watcher.waker.take());
            }
        }
    }
}

/// What is left to do when a group of transactions is visible.
#[must_use]
pub(crate) struct Published {
    /// The events that the history forgot.
    pub(crate) forgotten: Vec<Arc<Event>>,
    /// Who has something to read.
    pub(crate) wake: Vec<Waker>,
}

impl Published {
    /// Wakes the watchers; gives back what the history forgot.
    pub(crate) fn wake(self) -> Vec<Arc<Event>> {
        self.wake.into_iter().for_each(Waker::wake);
        self.forgotten
    }
}

impl Hub {
    pub(crate) fn new(state: State, floor: Revision, limits: Limits, clock: Clock) -> Self {
        let revision = tokio::sync::watch::Sender::new(state.revision);
        let history = History::new(floor, limits);
        let inner = Inner {
            history,
            watchers: Watchers::default(),
            closed: false,
        };
        Self {
            state: ArcSwap::from_pointee(state),
            inner: Mutex::new(inner),
            revision,
            clock,
        }
    }

    /// The current state.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot(self.state.load_full())
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_millis(&self) -> u64 {
        let since = (self.clock)().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Makes a group of transactions visible: first the state, then the events. Whoever is to be
    /// told is in the answer.
    pub(crate) fn publish(&self, state: State, events: Vec<(u64, Arc<Event>)>) -> Published {
        let now = self.now_millis();
        let revision = state.revision;
        let mut wake = Vec::new();
        let mut forgotten = Vec::new();
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        for (millis, event) in events {
            inner.watchers.notice(&event, inner.history.end(), &mut wake);
            inner.history.push(event, millis);
        }
        inner.history.trim(now, |event| forgotten.push(event));
        // Swapped under the lock: who has seen this state finds its events in the history.
        self.state.store(Arc::new(state));
        drop(guard);
        self.revision.send_replace(revision);
        Published { forgotten, wake }
    }

    /// Ends all watches after what they can still read.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let watchers = inner.watchers.slots.iter_mut().flatten();
        let wake: Vec<Waker> = watchers.filter_map(|watcher| watcher.waker.take()).collect();
        drop(inner);
        wake.into_iter().for_each(Waker::wake);
    }

    /// The oldest revision that can be watched from or listed.
    pub(crate) fn floor(&self) -> Revision {
        self.with_recent(|inner| inner.history.floor())
    }

    /// The state as it was after a recent revision.
    pub(crate) fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, Expired> {
        let recall = self.with_recent(|inner| inner.history.recall(revision, &self.state.load_full()))?;
        let state = recall.state();
        self.inner.lock().history.remember(&state);
        Ok(Snapshot(state))
    }

    /// A receiver of the current revision.
    pub(crate) fn revisions(&self) -> tokio::sync::watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// Starts a watch of the events after a revision; one in the future is waited for.
    pub(crate) fn watch(self: &Arc<Self>, prefix: &str, after: Revision) -> Result<Watch, Expired> {
        let id = self.with_recent(|inner| {
            let oldest = inner.history.floor();
            if after < oldest {
                return Err(Expired {
                    requested: after,
                    oldest,
                });
            }
            let start = inner.history.after(after);
            let place = if start == inner.history.end() {
                Place::Idle
            } else {
                Place::At(start)
            };
            Ok(inner.watchers.insert(Watcher {
                prefix: prefix.into(),
                after,
                place,
                waker: None,
            }))
        })?;
        Ok(Watch {
            hub: self.clone(),
            id,
            taken: VecDeque::new(),
            seen: after,
            ended: false,
        })
    }

    /// Runs a function under the lock, on a history without events that are too old. They stay
    /// in the engine's log until the next write; that does no harm.
    fn with_recent<T>(&self, run: impl FnOnce(&mut Inner) -> T) -> T {
        let now = self.now_millis();
        let mut inner = self.inner.lock();
        inner.history.expire(now);
        run(&mut inner)
    }
}

/// The matching events after a revision, in order and without a gap.
pub struct Watch {
    hub: Arc<Hub>,
    id: usize,
    taken: VecDeque<Arc<Event>>,
    seen: Revision,
    ended: bool,
}

/// What a look into the history gave.
enum Taken {
    Some,
    /// Nothing for this watcher yet in what was looked at.
    More,
    Idle,
    Lagged(Lagged),
    Closed,
}

impl Watch {
    /// The next event; waits for it. `None` when the store is closed or after an error.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, Lagged>> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// The next event if there is one already; `None` otherwise, also when the watch has ended.
    pub fn try_next(&mut self) -> Option<Result<Arc<Event>, Lagged>> {
        match self.poll_event(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }

    /// The next event if it was taken from the history together with the last one; never looks there.
    /// For callers who pass on several events at a time.
    pub fn next_taken(&mut self) -> Option<Arc<Event>> {
        let event = self.taken.pop_front()?;
        // A transaction counts as seen when its last event was returned.
        let more = self.taken.front().is_some_and(|next| next.revision == event.revision);
        self.seen = event.revision - u64::from(more);
        Some(event)
    }

    /// The revision up to which nothing is missing from what this watch has returned: to resume
    /// from, and to show in a bookmark. Moves on even when no event matches.
    pub fn revision(&self) -> Revision {
        if let Some(next) = self.taken.front() {
            return self.seen.max(next.revision.saturating_sub(1));
        }
        let current = &self.hub.state;
        let mut inner = self.hub.inner.lock();
        let unread = match inner.watchers.get_mut(self.id).map(|watcher| watcher.place) {
            Some(Place::Idle) => return self.seen.max(current.load().revision),
            Some(Place::At(sequence)) => inner.history.get(sequence),
            None => None,
        };
        unread.map_or(self.seen, |event| self.seen.max(event.revision.saturating_sub(1)))
    }

    /// The next event, as a future sees it.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Arc<Event>, Lagged>>> {
        loop {
            if let Some(event) = self.next_taken() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match self.take(context) {
                Taken::Some | Taken::More => {}
                Taken::Idle => return Poll::Pending,
                Taken::Closed => self.ended = true,
                Taken::Lagged(lagged) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(lagged)));
                }
            }
        }
    }

    /// Takes the next few matching events, or leaves the waker.
    fn take(&mut self, context: &Context<'_>) -> Taken {
        let mut guard = self.hub.inner.lock();
        let Inner {
            history,
            watchers,
            closed,
        } = &mut *guard;
        let Some(watcher) = watchers.get_mut(self.id) else {
            return Taken::Closed;
        };
        let Place::At(start) = watcher.place else {
            if *closed {
                return Taken::Closed;
            }
            leave(&mut watcher.waker, context.waker());
            return Taken::Idle;
        };
        if start < history.first() {
            return Taken::Lagged(Lagged {
                oldest: history.floor(),
            });
        }
        let mut sequence = start;
        let mut last = None;
        while let Some(event) = history.get(sequence) {
            let enough = self.taken.len() >= TAKE_EVENTS || sequence - start >= SCAN_EVENTS;
            // Whole transactions only, so that `revision` is true between two takes.
            if enough && last != Some(event.revision) {
                break;
            }
            if watcher.wants(event) {
                self.taken.push_back(event.clone());
            }
            last = Some(event.revision);
            sequence += 1;
        }
        watcher.place = if sequence == history.end() {
            Place::Idle
        } else {
            Place::At(sequence)
        };
        if self.taken.is_empty() {
            Taken::More
        } else {
            Taken::Some
        }
    }
}

/// Leaves a waker, keeping the old one if it wakes the same task.
fn leave(slot: &mut Option<Waker>, waker: &Waker) {
    if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
        *slot = Some(waker.clone());
    }
}

impl Stream for Watch {
    type Item = Result<Arc<Event>, Lagged>;

    fn poll_next(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(context)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.inner.lock().watchers.remove(self.id);
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("id", &self.id)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
