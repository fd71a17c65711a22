//! Watch: the state, then every change of it, in the store's order.
//!
//! What a watcher is shown of an event is decided by [`shown`], purely: objects enter and leave a selection as they
//! change. The rest of this page turns the store's watch into a body.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coracle_api::status::ApiError;
use coracle_api::{object, table};
use coracle_store::{Event, EventKind, Record, Revision, Watch};
use futures::future::BoxFuture;
use futures::stream::{self, Stream};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};

use super::list::matches;
use super::{Scope, custom};
use crate::body::BodyError;
use crate::core::Core;
use crate::document;
use crate::frames::{Change, frame};
use crate::negotiate::View;
use crate::query::ListOptions;

/// How often a quiet watch tells its client how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch without a time limit of its own ends after a random time in this range, as in Kubernetes: without an end,
/// connections would never be balanced, and all at once is worse than one by one.
const TIMEOUT_SECONDS: std::ops::Range<u64> = 1800..3600;
/// How much of what is ready is sent in one piece: what fits a TLS record, which is also the usual frame of HTTP/2, with its head.
const PIECE_BYTES: usize = (16 << 10) - 64;
/// A last bookmark comes this long before the end.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// What a watcher is shown of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The stored object as it is.
    Stored(Change),
    /// The object as it was before it left the selection, with the revision of the change.
    Left,
}

/// How an event concerns a watcher.
enum Concern<'a> {
    /// As a change of the object that was stored.
    Stored(Change, &'a Arc<Event>),
    /// As the end of the object that was there before, at a revision.
    Left(&'a Arc<Record>, Revision),
}

impl Concern<'_> {
    /// The object that is shown.
    fn record(&self) -> &Arc<Record> {
        match self {
            Self::Stored(_, event) => &event.record,
            Self::Left(previous, _) => previous,
        }
    }
}

/// Decides what a watcher with a selection is shown; `was` and `is` say whether the object before and after the event
/// belongs to it.
pub(crate) fn shown(kind: EventKind, was: bool, is: bool) -> Option<Shown> {
    match (kind, was, is) {
        (EventKind::Put, false, true) => Some(Shown::Stored(Change::Added)),
        (EventKind::Put, true, true) => Some(Shown::Stored(Change::Modified)),
        (EventKind::Put, true, false) => Some(Shown::Left),
        (EventKind::Delete, true, _) => Some(Shown::Stored(Change::Deleted)),
        (EventKind::Put, false, false) | (EventKind::Delete, false, _) => None,
    }
}

/// A watch that is being served.
struct Served {
    core: Arc<Core>,
    kind: Arc<coracle_api::kinds::Kind>,
    options: ListOptions,
    view: View,
    /// The state at the start that is still to be sent.
    initial: VecDeque<Arc<Record>>,
    /// The revision of the bookmark that ends the initial events, until it is sent.
    initial_end: Option<u64>,
    watch: Watch,
    /// Comes when the server closes or the kind is served no more.
    closed: BoxFuture<'static, ()>,
    /// Columns of a table are sent with its first row only.
    columns_sent: bool,
    /// When to send a bookmark, or to end. One alarm for the whole watch: a new one for each event would cost more than
    /// the event.
    alarm: Pin<Box<Sleep>>,
    end: Instant,
    last_bookmark_sent: bool,
    done: bool,
}

impl Scope<'_> {
    /// Starts a watch: the stream of its events.
    pub(crate) async fn watch(
        &self,
        core: &Arc<Core>,
        options: ListOptions,
        view: View,
    ) -> Result<impl Stream<Item = Result<Bytes, BodyError>> + use<>, ApiError> {
        let options = self.selection(&options)?.into_owned();
        let prefix = match (options.single_name(), self.namespace, self.kind.namespaced) {
            (Some(name), Some(_), true) | (Some(name), _, false) => self.key(name).to_string(),
            _ => document::prefix_in(self.kind, self.namespace),
        };
        let with_state = match (options.initial_events, options.version) {
            (Some(wanted), _) => wanted,
            (None, version) => matches!(version, None | Some(0)),
        };
        let (initial, from) = if with_state {
            let snapshot = match options.version {
                None | Some(0) => self.core.store.snapshot(),
                Some(wanted) => self.wait_for(wanted).await?,
            };
            let records = snapshot.range(&prefix, None);
            let records = custom::chosen(self.core, self.kind, records, &options).await?;
            (VecDeque::from(records), snapshot.revision())
        } else {
            let current = self.core.store.snapshot().revision();
            let from = options.version.filter(|version| *version > 0).unwrap_or(current);
            if from > current {
                self.wait_for(from).await?;
            }
            (VecDeque::new(), from)
        };
        let watch = self.core.store.watch(&prefix, from).map_err(|expired| {
            ApiError::gone_expired(format!("too old resource version: {from} ({})", expired.oldest))
        })?;
        let seconds = options
            .timeout_seconds
            .unwrap_or_else(|| rand::random_range(TIMEOUT_SECONDS));
        let end = Instant::now() + Duration::from_secs(seconds);
        let gone = self.core.serving.current().gone(self.kind).unwrap_or_default();
        let closing = core.closing.clone();
        let mut served = Served {
            core: core.clone(),
            kind: self.shown.clone(),
            view,
            initial,
            initial_end: (options.initial_events == Some(true) && options.bookmarks).then_some(from),
            watch,
            closed: Box::pin(async move {
                tokio::select! {
                    () = closing.cancelled() => {}
                    () = gone.cancelled() => {}
                }
            }),
            columns_sent: false,
            alarm: Box::pin(tokio::time::sleep_until(end)),
            end,
            last_bookmark_sent: false,
            done: false,
            options,
        };
        served.set_alarm();
        Ok(stream::unfold(served, |mut served| async move {
            let first = served.next().await?;
            Some((Ok(served.piece(first)), served))
        }))
    }
}

impl Served {
    /// The next frame.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(record) = self.initial.pop_front() {
            return Some(self.stored(Change::Added, &record, None));
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(self.bookmark(revision, true));
        }
        while !self.done {
            tokio::select! {
                biased;
                event = self.watch.next() => match event {
                    Some(Ok(event)) => {
                        match self.event(&event).await {
                            Ok(Some(frame)) => return Some(frame),
                            Ok(None) => {}
                            Err(error) => {
                                self.done = true;
                                return Some(frame("ERROR", &document::bytes(&error.to_status())));
                            }
                        }
                    }
                    Some(Err(lagged)) => {
                        self.done = true;
                        let error = ApiError::gone_expired(format!("too old resource version ({})", lagged.oldest));
                        return Some(frame("ERROR", &document::bytes(&error.to_status())));
                    }
                    None => return None,
                },
                () = self.alarm.as_mut() => {
                    let due = self.alarm.deadline();
                    if due >= self.end {
                        return None;
                    }
                    self.last_bookmark_sent = due + BOOKMARK_BEFORE_END >= self.end;
                    self.set_alarm();
                    let revision = self.watch.revision();
                    return Some(self.bookmark(revision, false));
                }
                () = self.closed.as_mut() => self.done = true,
            }
        }
        None
    }

    /// Joins to a frame those that are ready with it. A watcher that is a little behind gets them in one piece, which costs
    /// one passage through all layers to the socket and not one each.
    fn piece(&mut self, first: Bytes) -> Bytes {
        let mut joined = BytesMut::new();
        // The next frame will be about as long as the first.
        while joined.len().max(first.len()) + first.len() < PIECE_BYTES {
            let Some(frame) = self.ready() else { break };
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&frame);
        }
        match joined.is_empty() {
            true => first,
            false => joined.freeze(),
        }
    }

    /// The next frame, if it is one of an object and there already.
    fn ready(&mut self) -> Option<Bytes> {
        if let Some(record) = self.initial.pop_front() {
            return Some(self.stored(Change::Added, &record, None));
        }
        // What ends the initial events comes before the events after them. Custom kinds may wait for a conversion, and what
        // is there already is not held back for that.
        if self.initial_end.is_some() || self.kind.custom.is_some() {
            return None;
        }
        while let Some(event) = self.watch.next_taken() {
            if let Some(concern) = self.concern(&event) {
                return Some(self.told(&concern, &concern.record().clone()));
            }
        }
        None
    }

    /// Sets the alarm to when the next bookmark is due, regularly and once shortly before the end, or to the end.
    fn set_alarm(&mut self) {
        let before_end = self.end.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(self.end);
        let due = match self.options.bookmarks && !self.last_bookmark_sent {
            true => before_end.max(Instant::now()).min(Instant::now() + BOOKMARK_EVERY),
            false => self.end,
        };
        self.alarm.as_mut().reset(due.min(self.end));
    }

    /// What is sent of an event, if it concerns the watcher.
    async fn event(&mut self, event: &Arc<Event>) -> Result<Option<Bytes>, ApiError> {
        if custom::selects_converted(&self.kind, &self.options) {
            return self.converted_event(event).await;
        }
        let Some(concern) = self.concern(event) else {
            return Ok(None);
        };
        let record = custom::present_one(&self.core, &self.kind, concern.record().clone()).await?;
        Ok(Some(self.told(&concern, &record)))
    }

    /// The same where only its conversion tells whether an object is selected.
    async fn converted_event(&mut self, event: &Arc<Event>) -> Result<Option<Bytes>, ApiError> {
        let both = std::iter::once(&event.record).chain(&event.previous);
        let both = custom::present(&self.core, &self.kind, both.cloned().collect()).await?;
        let meets = |record: &Arc<Record>| custom::meets(&self.kind, record, &self.options);
        let (is, was) = (both.first().is_some_and(meets), both.get(1).is_some_and(meets));
        let mut both = both.iter();
        Ok(match (shown(event.kind, was, is), both.next(), both.next()) {
            (Some(Shown::Stored(change)), Some(record), _) => Some(self.stored(change, record, None)),
            (Some(Shown::Left), _, Some(previous)) => {
                Some(self.told(&Concern::Left(previous, event.revision), previous))
            }
            _ => None,
        })
    }

    /// How an event concerns the watcher.
    fn concern<'a>(&self, event: &'a Arc<Event>) -> Option<Concern<'a>> {
        let all = self.options.wants_all();
        let is = all || matches(&self.kind, &event.record, &self.options);
        let was = event
            .previous
            .as_ref()
            .is_some_and(|previous| all || matches(&self.kind, previous, &self.options));
        match (shown(event.kind, was, is), event.previous.as_ref()) {
            (Some(Shown::Stored(change)), _) => Some(Concern::Stored(change, event)),
            (Some(Shown::Left), Some(previous)) => Some(Concern::Left(previous, event.revision)),
            _ => None,
        }
    }

    /// The frame of an event, with its record in the version that is watched.
    fn told(&mut self, concern: &Concern<'_>, record: &Arc<Record>) -> Bytes {
        match concern {
            Concern::Stored(change, event) => {
                let unchanged = Arc::ptr_eq(record, &event.record);
                self.stored(*change, record, unchanged.then_some(*event))
            }
            Concern::Left(_, revision) => {
                let mut value = self.read(record).unwrap_or_default();
                object::set_resource_version(&mut value, &revision.to_string());
                self.tree(Change::Deleted, &value)
            }
        }
    }

    /// A record in the version that is watched, with the event whose bytes these are.
    fn stored(&mut self, change: Change, record: &Arc<Record>, event: Option<&Arc<Event>>) -> Bytes {
        match (self.view, event) {
            (View::Object, Some(event)) if self.kind.conversion.is_none() => self.core.frames.of(event, change),
            (View::Object, None) if self.kind.conversion.is_none() => frame(change.name(), &record.json),
            (View::Metadata, _) if self.kind.conversion.is_none() => {
                frame(change.name(), &document::partial(&record.json).unwrap_or_default())
            }
            _ => {
                let value = self.read(record).unwrap_or_default();
                self.tree(change, &value)
            }
        }
    }

    /// A stored object as one of the kind that is watched.
    fn read(&self, record: &Record) -> Option<Value> {
        let mut value = document::tree(record).ok()?;
        if let Some(conversion) = self.kind.conversion {
            (conversion.from_stored)(&mut value);
        }
        Some(value)
    }

    fn tree(&mut self, change: Change, value: &Value) -> Bytes {
        let shown = match self.view {
            View::Object => return frame(change.name(), &document::bytes(value)),
            View::Metadata => table::partial(value),
            View::Table(include) => {
                let metadata = json!({"resourceVersion": object::resource_version(value)});
                let mut shown = table::table(&self.kind, &[value], include, self.core.now_micros(), metadata);
                if std::mem::replace(&mut self.columns_sent, true) {
                    object::set(&mut shown, "columnDefinitions", Value::Null);
                }
                shown
            }
        };
        frame(change.name(), &document::bytes(&shown))
    }

    fn bookmark(&self, revision: u64, ends_initial: bool) -> Bytes {
        let (api_version, kind) = match self.view {
            View::Object => (self.kind.api_version(), self.kind.kind.to_string()),
            View::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata".to_owned()),
            View::Table(_) => ("meta.k8s.io/v1".to_owned(), "Table".to_owned()),
        };
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if let (View::Object | View::Metadata, Some(fields)) = (self.view, metadata.as_object_mut()) {
            fields.insert("creationTimestamp".to_owned(), Value::Null);
            if ends_initial {
                fields.insert("annotations".to_owned(), json!({"k8s.io/initial-events-end": "true"}));
            }
        }
        let mut object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        if matches!(self.view, View::Table(_)) {
            let mut marker = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null}});
            if ends_initial {
                object::set_annotation(&mut marker, "k8s.io/initial-events-end", "true");
            }
            object::set(&mut object, "columnDefinitions", Value::Null);
            object::set(&mut object, "rows", json!([{"cells": [], "object": marker}]));
        }
        frame("BOOKMARK", &document::bytes(&object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_follows_the_selection() {
        use EventKind::{Delete, Put};
        assert_eq!(shown(Put, false, true), Some(Shown::Stored(Change::Added)));
        assert_eq!(shown(Put, true, true), Some(Shown::Stored(Change::Modified)));
        assert_eq!(shown(Put, true, false), Some(Shown::Left));
        assert_eq!(shown(Put, false, false), None);
        assert_eq!(shown(Delete, true, true), Some(Shown::Stored(Change::Deleted)));
        assert_eq!(shown(Delete, false, false), None);
        assert_eq!(shown(Delete, false, true), None);
    }
}
