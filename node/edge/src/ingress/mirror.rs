//! Copies of requests for the mirrors of a route.
//!
//! A copy is a request of its own, sent as any other, whose answer is read and dropped. The client's request neither waits
//! for it nor fails through it: a copy that cannot keep up is cut off, one too many is not made. It ends when its client
//! gives up; once the client has the head of its answer, what was copied whole goes on by itself. A request that wants
//! another protocol is copied with its head alone, as that is all of it that is HTTP, and the copy ends with the answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::patience::{Moved, Noted};
use super::pool::Answer;
use super::proxy::{LATE, Proxy, RESPONSE};
use super::routes::Target;
use super::tee::{Broken, Cut, Queue, Tee};
use crate::gateway::Copied;

/// Copies under way to one service: each takes a connection, of which a pod has 1,024 for everybody.
const COPIES: usize = 256;

/// What all queues of copies to one service may hold: eight that are full, or some hundred that wait for a service that
/// does not answer.
const QUEUED_BYTES: usize = 32 * 1024 * 1024;

/// What is read of an answer once the request is over. Answers below it leave a connection for the next copy.
const ANSWER_BYTES: usize = 1024 * 1024;

/// What copies there are.
#[derive(Debug, Default)]
pub struct Mirrors {
    /// Services with copies under way.
    rooms: Mutex<HashMap<Arc<Target>, Arc<Room>>>,
    /// Copies that did not arrive whole.
    lost: AtomicU64,
}

/// What copies to one service may take.
#[derive(Debug)]
struct Room {
    copies: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A place for a copy, while it is under way.
struct Place {
    room: Arc<Room>,
    _permit: OwnedSemaphorePermit,
}

impl Mirrors {
    /// A place for a copy to a service; none where there are too many.
    fn place(&self, target: &Arc<Target>) -> Option<Place> {
        let mut rooms = self.rooms.lock();
        rooms.retain(|_, room| Arc::strong_count(room) > 1);
        let room = rooms.entry(target.clone()).or_insert_with(|| {
            Arc::new(Room {
                copies: Arc::new(Semaphore::new(COPIES)),
                bytes: Arc::new(Semaphore::new(QUEUED_BYTES)),
            })
        });
        let room = room.clone();
        drop(rooms);
        let _permit = room.copies.clone().try_acquire_owned().ok()?;
        Some(Place { room, _permit })
    }

    /// Counts a copy that did not arrive, and tells of it ever more seldom.
    fn lose(&self, target: &Target, why: &'static str) {
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        let (namespace, service) = (&target.namespace, &target.service);
        match lost.is_power_of_two() {
            true => tracing::warn!(
                namespace,
                service,
                lost,
                why,
                "copies of requests do not reach their mirrors"
            ),
            false => tracing::debug!(
                namespace,
                service,
                lost,
                why,
                "a copy of a request did not reach its mirror"
            ),
        }
    }
}

impl Proxy {
    /// The body of a request as its service gets it, and the copies that are under way, which end with the set.
    pub(super) fn mirrored(
        &self,
        body: Incoming,
        copies: Vec<Copied>,
    ) -> (UnsyncBoxBody<Bytes, Broken>, Option<JoinSet<()>>) {
        if copies.is_empty() {
            return (body.map_err(Broken::from).boxed_unsync(), None);
        }
        let mut under_way = JoinSet::new();
        let mut queues = Vec::new();
        for Copied { target, head } in copies {
            let Some(place) = self.mirrors.place(&target) else {
                self.mirrors.lose(&target, "too many are under way");
                continue;
            };
            let queue = (!body.is_end_stream()).then(|| Queue::new(place.room.bytes.clone()));
            queues.extend(queue.clone());
            let proxy = self.clone();
            under_way.spawn(async move {
                proxy.copy(&target, head, queue).await;
                drop(place);
            });
        }
        (
            Tee::new(body, queues).map_err(Broken::from).boxed_unsync(),
            Some(under_way),
        )
    }

    /// Sends one copy.
    async fn copy(&self, target: &Target, head: Parts, queue: Option<Arc<Queue>>) {
        let moved = Moved::now();
        let body = match &queue {
            Some(queue) => queue.body().boxed_unsync(),
            None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
        };
        let noted = Noted {
            body,
            moved: moved.clone(),
        };
        let request = Request::from_parts(head, noted);
        let sent = async {
            let answer = self.deliver(target, request, &moved).await.map_err(|(_, why)| why)?;
            read(answer.into_body(), queue.as_deref()).await;
            Ok(())
        };
        let cut = async {
            match &queue {
                Some(queue) => queue.cut().await,
                None => std::future::pending().await,
            }
        };
        let (_, late) = LATE;
        let sent = tokio::select! {
            biased;
            cut = cut => match cut {
                Cut::Full => Err("it takes requests too slowly"),
                // There was no more of the request itself.
                Cut::Broken => Ok(()),
            },
            sent = moved.within(RESPONSE, sent) => sent.unwrap_or(Err(late)),
        };
        if let Err(why) = sent {
            self.mirrors.lose(target, why);
        }
    }
}

/// Reads an answer that nobody wants.
async fn read(mut answer: Answer, queue: Option<&Queue>) {
    let mut left = ANSWER_BYTES;
    while let Some(Ok(frame)) = answer.frame().await {
        if queue.is_some_and(Queue::is_open) {
            continue;
        }
        let size = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(size) else { return };
        left = rest;
    }
}

#[cfg(test)]
mod tests;
