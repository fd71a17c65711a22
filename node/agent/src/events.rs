//! Events: what happened to a pod, for people who ask `kubectl describe`.
//!
//! Recording never waits and never fails its caller: entries go through a bounded queue to one writer, which counts repetitions
//! on one object instead of making new ones and lets no pod flood the API. Losing an event is allowed; delaying a pod is not.

use crate::clock::{Clock, whole_seconds};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Entries that wait for the writer: a burst of a thousand pods with three events each, and a quarter more.
const QUEUE_ENTRIES: usize = 4096;

/// How many different events and pods are remembered for counting; beyond it the memory starts anew and counts begin at one again.
const MAX_REMEMBERED: usize = 4096;

/// How many events a pod may have at once, and how many seconds bring one more: the limits of the Kubernetes client library.
const BURST: f64 = 25.0;
const SECONDS_PER_EVENT: f64 = 300.0;

/// The pod that an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Subject {
    /// Of a pod.
    pub fn of(pod: &Pod) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            namespace: text(&pod.metadata.namespace),
            name: text(&pod.metadata.name),
            uid: text(&pod.metadata.uid),
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// To whom.
    pub subject: Arc<Subject>,
    /// To which of its containers: `spec.containers{name}`.
    pub field_path: Option<String>,
    /// Whether somebody should look.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// Takes entries.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Entry>,
}

/// Writes entries.
pub struct Writer {
    queue: mpsc::Receiver<Entry>,
    client: Client,
    clock: Arc<dyn Clock>,
    host: String,
    seen: Aggregate,
}

/// A recorder and its writer.
pub fn channel(client: Client, clock: Arc<dyn Clock>, host: String) -> (Recorder, Writer) {
    let (sender, queue) = mpsc::channel(QUEUE_ENTRIES);
    (
        Recorder { queue: sender },
        Writer {
            queue,
            client,
            clock,
            host,
            seen: Aggregate::default(),
        },
    )
}

impl Recorder {
    /// Records; drops the entry when the queue is full.
    pub fn record(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            tracing::debug!("an event was dropped");
        }
    }
}

impl Writer {
    /// Writes until the shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let entry = tokio::select! {
                () = shutdown.cancelled() => return,
                entry = self.queue.recv() => match entry {
                    Some(entry) => entry,
                    None => return,
                },
            };
            let now = self.clock.now();
            let decision = self.seen.decide(&entry, now);
            if let Err(error) = self.write(&entry, &decision, now).await {
                tracing::debug!(pod = %entry.subject.name, reason = entry.reason, %error, "an event was not written");
            }
        }
    }

    async fn write(&self, entry: &Entry, decision: &Decision, now: Timestamp) -> Result<(), kube::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &entry.subject.namespace);
        match decision {
            Decision::Drop => Ok(()),
            Decision::Create { name } => {
                let event = event(entry, name, &self.host, now);
                api.create(&PostParams::default(), &event).await.map(drop)
            }
            Decision::Repeat { name, count } => {
                let patch = json!({ "count": count, "lastTimestamp": Time(whole_seconds(now)) });
                api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .map(drop)
            }
        }
    }
}

fn event(entry: &Entry, name: &str, host: &str, now: Timestamp) -> Event {
    let time = Some(Time(whole_seconds(now)));
    let subject = &entry.subject;
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(subject.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(subject.namespace.clone()),
            name: Some(subject.name.clone()),
            uid: Some(subject.uid.clone()),
            field_path: entry.field_path.clone(),
            resource_version: None,
        },
        type_: Some(if entry.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(entry.reason.to_owned()),
        message: Some(entry.message.clone()),
        source: Some(EventSource {
            component: Some("kubelet".to_owned()),
            host: Some(host.to_owned()),
        }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(host.to_owned()),
        count: Some(1),
        first_timestamp: time.clone(),
        last_timestamp: time,
        ..Event::default()
    }
}

/// What becomes of an entry.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Create { name: String },
    Repeat { name: String, count: u32 },
    Drop,
}

/// What was written before.
#[derive(Default)]
struct Aggregate {
    written: HashMap<Same, Written>,
    buckets: HashMap<String, Bucket>,
    number: u16,
}

/// Entries with the same of these are one event.
#[derive(PartialEq, Eq, Hash)]
struct Same {
    uid: String,
    field_path: Option<String>,
    reason: &'static str,
    message: String,
}

struct Written {
    name: String,
    count: u32,
}

struct Bucket {
    tokens: f64,
    filled: Timestamp,
}

impl Aggregate {
    fn decide(&mut self, entry: &Entry, now: Timestamp) -> Decision {
        if self.written.len() >= MAX_REMEMBERED || self.buckets.len() >= MAX_REMEMBERED {
            self.written.clear();
            self.buckets.clear();
        }
        let full = || Bucket {
            tokens: BURST,
            filled: now,
        };
        if !self
            .buckets
            .entry(entry.subject.uid.clone())
            .or_insert_with(full)
            .take(now)
        {
            return Decision::Drop;
        }
        let same = Same {
            uid: entry.subject.uid.clone(),
            field_path: entry.field_path.clone(),
            reason: entry.reason,
            message: entry.message.clone(),
        };
        if let Some(written) = self.written.get_mut(&same) {
            written.count += 1;
            return Decision::Repeat {
                name: written.name.clone(),
                count: written.count,
            };
        }
        // Two events of one pod in the same nanosecond differ by the number.
        self.number = self.number.wrapping_add(1);
        let name = format!("{}.{:x}{:04x}", entry.subject.name, now.as_microsecond(), self.number);
        self.written.insert(
            same,
            Written {
                name: name.clone(),
                count: 1,
            },
        );
        Decision::Create { name }
    }
}

impl Bucket {
    fn take(&mut self, now: Timestamp) -> bool {
        let elapsed: SignedDuration = now.duration_since(self.filled);
        self.tokens = (self.tokens + elapsed.as_secs_f64().max(0.0) / SECONDS_PER_EVENT).min(BURST);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: &str, message: &str) -> Entry {
        let subject = Subject {
            namespace: "ns".into(),
            name: "p".into(),
            uid: uid.into(),
        };
        Entry {
            subject: Arc::new(subject),
            field_path: None,
            warning: true,
            reason: "BackOff",
            message: message.into(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn repetitions_count_on_one_event() {
        let mut seen = Aggregate::default();
        let Decision::Create { name } = seen.decide(&entry("a", "x"), at(1)) else {
            panic!("no event")
        };
        assert_eq!(
            seen.decide(&entry("a", "x"), at(2)),
            Decision::Repeat {
                name: name.clone(),
                count: 2
            }
        );
        let Decision::Create { name: other } = seen.decide(&entry("a", "y"), at(1)) else {
            panic!("no event")
        };
        assert_ne!(name, other);
        assert!(matches!(seen.decide(&entry("b", "x"), at(2)), Decision::Create { .. }));
    }

    #[test]
    fn a_noisy_pod_is_cut_off_and_forgiven_slowly() {
        let mut seen = Aggregate::default();
        let written = (0..100)
            .filter(|_| seen.decide(&entry("a", "x"), at(0)) != Decision::Drop)
            .count();
        assert_eq!(written, 25);
        assert!(matches!(seen.decide(&entry("b", "x"), at(0)), Decision::Create { .. }));
        assert_ne!(seen.decide(&entry("a", "x"), at(301)), Decision::Drop);
        assert_eq!(seen.decide(&entry("a", "x"), at(302)), Decision::Drop);
    }

    #[test]
    fn memory_is_bounded() {
        let mut seen = Aggregate::default();
        for number in 0..3 * MAX_REMEMBERED {
            seen.decide(&entry(&number.to_string(), "x"), at(0));
        }
        assert!(seen.written.len() <= MAX_REMEMBERED && seen.buckets.len() <= MAX_REMEMBERED);
    }
}
