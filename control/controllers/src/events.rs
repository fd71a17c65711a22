//! Tells users what happened, as Event objects.
//!
//! Recording never delays work: drafts go through a bounded channel to one task that writes them, some at a time. The same
//! event about the same object is counted up instead of written anew. Events are a courtesy: when the channel is full they are
//! dropped, and that is logged.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use futures::{StreamExt, stream::FuturesUnordered};
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
    writer::{WriteError, Writer, Written},
};

/// Drafts that may wait: a burst of ten thousand pods tells one event each, and they are told when the burst is over. A draft
/// takes some hundred bytes.
const WAITING_LIMIT: usize = 16_384;
/// Writes under way at a time. One after the other, each with its own wait for the disk, they would fall behind a scheduler
/// that binds some thousand pods a second; more at a time would take their turns from those whom the events are about.
const WRITES_LIMIT: usize = 8;
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
        let (drafts, waiting) = mpsc::channel(WAITING_LIMIT);
        tasks.spawn(async move {
            let writer = Writer::new(client);
            shutdown.run_until_cancelled(write_all(&writer, &clock, waiting)).await;
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

/// A draft that is being written.
struct Telling {
    component: &'static str,
    draft: EventDraft,
    /// As a new event, and not as one that is counted up.
    fresh: bool,
}

/// Writes what is drafted, several drafts at a time; one that is the same as one under way waits for that.
async fn write_all(writer: &Writer, clock: &Clock, mut waiting: mpsc::Receiver<(&'static str, EventDraft)>) {
    let mut counts = Counts::default();
    let mut under_way: HashSet<u64> = HashSet::new();
    let mut writes = FuturesUnordered::new();
    let mut next: Option<(&'static str, EventDraft)> = None;
    loop {
        if let Some((component, draft)) =
            next.take_if(|(component, draft)| under_way.insert(identity(component, draft)))
        {
            let (action, fresh) = counts.tell(component, &draft, clock.now());
            let telling = Telling {
                component,
                draft,
                fresh,
            };
            writes.push(write(writer, action, telling));
        }
        tokio::select! {
            Some((telling, result)) = writes.next() => {
                let Telling { component, draft, fresh } = telling;
                under_way.remove(&identity(component, &draft));
                let Err(error) = result else { continue };
                counts.forget(component, &draft);
                match error {
                    // A counted event that has expired on the server is told anew.
                    WriteError::Api { code: 404, .. } if !fresh => {
                        under_way.insert(identity(component, &draft));
                        let (action, fresh) = counts.tell(component, &draft, clock.now());
                        writes.push(write(writer, action, Telling { component, draft, fresh }));
                    }
                    error => tracing::debug!(%error, reason = draft.reason, "an event was not written"),
                }
            }
            drafted = waiting.recv(), if next.is_none() && writes.len() < WRITES_LIMIT => match drafted {
                Some(drafted) => next = Some(drafted),
                None => break,
            },
        }
    }
    while writes.next().await.is_some() {}
}

async fn write(writer: &Writer, action: Action, telling: Telling) -> (Telling, Result<Written, WriteError>) {
    (telling, writer.write(&action).await)
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
    use std::{convert::Infallible, sync::Arc, time::Duration};

    use http::{Request, Response};
    use kube::client::Body;
    use tokio::sync::Semaphore;

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

    #[tokio::test(start_paused = true)]
    async fn events_are_written_together_but_the_same_one_in_turn() {
        let (told, mut requests) = mpsc::unbounded_channel();
        let answers = Arc::new(Semaphore::new(0));
        let permits = answers.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (told, permits) = (told.clone(), permits.clone());
            async move {
                let method = request.method().to_string();
                let body = request.into_body().collect_bytes().await.unwrap();
                told.send((method, serde_json::from_slice::<Value>(&body).unwrap()))
                    .unwrap();
                permits.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(Response::new(Body::from(b"{}".to_vec())))
            }
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let client = kube::Client::new(service, "default");
        let recorder = Recorder::start(client, Clock::system(), &tasks, stop.clone());
        for message in ["a", "b", "a", "c"] {
            recorder.record("c", draft(message));
        }
        let mut written = Vec::new();
        for _ in 0..2 {
            let (method, body) = requests.recv().await.unwrap();
            written.push((method, body["message"].as_str().unwrap().to_owned()));
        }
        written.sort();
        assert_eq!(
            written,
            ["a", "b"].map(|message| ("POST".to_owned(), message.to_owned()))
        );
        let early = tokio::time::timeout(Duration::from_secs(1), requests.recv()).await;
        assert!(early.is_err(), "the same event is under way: {early:?}");
        answers.add_permits(4);
        let (method, body) = requests.recv().await.unwrap();
        assert_eq!((method.as_str(), &body["count"]), ("PATCH", &json!(2)));
        let (method, body) = requests.recv().await.unwrap();
        assert_eq!((method.as_str(), &body["message"]), ("POST", &json!("c")));
        stop.cancel();
        tasks.close();
        tasks.wait().await;
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
