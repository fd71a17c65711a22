//! Tells users what happened, as Event objects.
//!
//! Recording never delays work: drafts go through a bounded channel to one task that writes them. The same event about
//! the same object is counted up instead of written anew. Events are a courtesy: when the channel is full they are
//! dropped, and that is logged.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::Clock,
    key::Key,
    plan::{Action, EventDraft, Target},
    resource::EVENTS,
    writer::{WriteError, Writer},
};

/// Drafts that may wait: a burst of a thousand pods tells one event each, twice over.
const WAITING_LIMIT: usize = 4096;
/// Events whose count is remembered, as in Kubernetes' own recorder; beyond it the oldest are told anew.
const REMEMBERED_LIMIT: usize = 4096;
/// Events older than this are told anew and not counted up, so that `kubectl describe` shows when it started again.
const REMEMBERED_SECONDS: i64 = 600;

/// Records events; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    drafts: mpsc::Sender<(&'static str, EventDraft)>,
}

impl Recorder {
    /// Starts the task that writes events, until `shutdown`.
    #[must_use]
    pub fn start(client: kube::Client, clock: Clock, tasks: &TaskTracker, shutdown: CancellationToken) -> Self {
        let (drafts, mut waiting) = mpsc::channel(WAITING_LIMIT);
        tasks.spawn(async move {
            let writer = Writer::new(client);
            let mut counts = Counts::default();
            loop {
                let next = tokio::select! {
                    () = shutdown.cancelled() => return,
                    next = waiting.recv() => next,
                };
                let Some((component, draft)) = next else { return };
                write(&writer, &mut counts, component, draft, clock.now()).await;
            }
        });
        Self { drafts }
    }

    /// Has the event written, as told by `component`.
    pub fn record(&self, component: &'static str, draft: EventDraft) {
        if self.drafts.try_send((component, draft)).is_err() {
            tracing::warn!(component, "an event was dropped: too many wait to be written");
        }
    }
}

async fn write(writer: &Writer, counts: &mut Counts, component: &'static str, draft: EventDraft, now: Timestamp) {
    let (action, fresh) = counts.tell(component, &draft, now);
    match writer.write(&action).await {
        Ok(_) => {}
        // A counted event that has expired on the server is told anew.
        Err(WriteError::Api { code: 404, .. }) if !fresh => {
            counts.forget(component, &draft);
            let (action, _) = counts.tell(component, &draft, now);
            if let Err(error) = writer.write(&action).await {
                tracing::debug!(%error, "an event was not written");
            }
        }
        Err(error) => {
            counts.forget(component, &draft);
            tracing::debug!(%error, reason = draft.reason, "an event was not written");
        }
    }
}

#[derive(Clone)]
struct Told {
    name: String,
    count: u32,
    first: Timestamp,
}

/// Which events were told how often: pure, but for the size of its memory.
#[derive(Default)]
struct Counts {
    told: HashMap<u64, Told>,
    order: VecDeque<u64>,
}

impl Counts {
    /// The write that tells of the draft, and whether it makes a new event.
    fn tell(&mut self, component: &'static str, draft: &EventDraft, now: Timestamp) -> (Action, bool) {
        let id = identity(component, draft);
        let namespace = draft
            .about
            .namespace
            .as_deref()
            .filter(|n| !n.is_empty())
            .unwrap_or("default");
        if let Some(told) = self.told.get_mut(&id)
            && now.duration_since(told.first).as_secs() < REMEMBERED_SECONDS
        {
            told.count = told.count.saturating_add(1);
            let target = Target {
                resource: EVENTS,
                key: Key::new(namespace, &told.name),
            };
            let patch = json!({"count": told.count, "lastTimestamp": seconds(now)});
            return (Action::merge(target, patch), false);
        }
        let about = draft.about.name.as_deref().unwrap_or("object");
        let name = format!(
            "{about}.{:x}",
            now.as_nanosecond().unsigned_abs() ^ u128::from(id & 0xffff)
        );
        let body = event(component, draft, namespace, &name, now);
        self.remember(
            id,
            Told {
                name,
                count: 1,
                first: now,
            },
        );
        (Action::create(&EVENTS, namespace, body), true)
    }

    fn remember(&mut self, id: u64, told: Told) {
        if self.told.insert(id, told).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED_LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
        }
    }

    fn forget(&mut self, component: &'static str, draft: &EventDraft) {
        let id = identity(component, draft);
        if self.told.remove(&id).is_some() {
            self.order.retain(|known| *known != id);
        }
    }
}

fn identity(component: &'static str, draft: &EventDraft) -> u64 {
    let mut hasher = DefaultHasher::new();
    let about: &ObjectReference = &draft.about;
    (component, &about.kind, &about.namespace, &about.name, &about.uid).hash(&mut hasher);
    (draft.warning, draft.reason, &draft.message).hash(&mut hasher);
    hasher.finish()
}

fn event(component: &'static str, draft: &EventDraft, namespace: &str, name: &str, now: Timestamp) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": draft.about,
        "type": if draft.warning { "Warning" } else { "Normal" },
        "reason": draft.reason,
        "message": draft.message,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
        "count": 1,
        "firstTimestamp": seconds(now),
        "lastTimestamp": seconds(now),
    })
}

/// The form of `metav1.Time`: whole seconds.
fn seconds(at: Timestamp) -> Value {
    crate::merge::value(&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Verb;

    fn draft(message: &str) -> EventDraft {
        let about = ObjectReference {
            name: Some("web".into()),
            namespace: Some("n".into()),
            ..Default::default()
        };
        EventDraft::normal(about, "ScalingReplicaSet", message.into())
    }

    #[test]
    fn the_same_event_is_counted_and_another_is_told() {
        let (mut counts, now) = (Counts::default(), Timestamp::from_second(1_000).unwrap());
        let (first, fresh) = counts.tell("c", &draft("a"), now);
        assert!(fresh && matches!(&first.verb, Verb::Create(body) if body["message"] == "a" && body["count"] == 1));
        let (second, fresh) = counts.tell("c", &draft("a"), now);
        assert!(!fresh && matches!(&second.verb, Verb::Merge { patch, .. } if patch["count"] == 2));
        assert_eq!(first.target.key, second.target.key);
        assert!(counts.tell("c", &draft("b"), now).1);
        let late = Timestamp::from_second(1_000 + REMEMBERED_SECONDS).unwrap();
        assert!(counts.tell("c", &draft("a"), late).1, "told anew after a while");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut counts, now) = (Counts::default(), Timestamp::from_second(1_000).unwrap());
        for i in 0..=REMEMBERED_LIMIT + 10 {
            counts.tell("c", &draft(&i.to_string()), now);
        }
        assert_eq!(counts.told.len(), REMEMBERED_LIMIT);
        assert_eq!(counts.order.len(), REMEMBERED_LIMIT);
    }
}
