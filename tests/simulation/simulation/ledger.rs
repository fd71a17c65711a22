//! Sees every write: the store's engine in memory, which keeps the objects that matter and has the laws look at each change
//! before it is acknowledged. What happened last is remembered for the one who has to find out why a law was broken.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    time::Duration,
};

use coracle_store::{Engine, EngineError, FoldedRecord, Loaded, LogEntry, MemoryEngine};
use http::{Method, Uri};
use parking_lot::Mutex;
use serde_json::Value;

use crate::{laws::Laws, time::Time};

/// Writes and requests that are told of when a law was broken, unless `CORACLE_LINES` says how many.
const REMEMBERED: usize = 600;

/// Kinds whose objects the laws look at.
const KINDS: [&str; 13] = [
    "pods",
    "nodes",
    "namespaces",
    "replicasets.apps",
    "deployments.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "jobs.batch",
    "cronjobs.batch",
    "persistentvolumeclaims",
    "persistentvolumes",
    "poddisruptionbudgets.policy",
    "horizontalpodautoscalers.autoscaling",
];

/// Objects by their keys: `pods/default/a`.
pub type Objects = BTreeMap<String, Value>;

/// One change of an object that matters.
pub struct Change<'a> {
    pub key: &'a str,
    pub before: Option<Value>,
    pub after: Option<&'a Value>,
    /// The cluster's time.
    pub at: Duration,
}

/// Who asked last that something be done about a pod.
#[derive(Default)]
pub struct Asked {
    /// Deletions, by the pod's key.
    pub deletions: BTreeMap<String, String>,
    /// Pods that a user has asked to be evicted.
    pub evictions: BTreeSet<String>,
}

pub struct Ledger {
    engine: MemoryEngine,
    time: Time,
    seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    objects: Objects,
    asked: Asked,
    laws: Laws,
    lines: VecDeque<String>,
    remembered: usize,
    step: String,
    broken: Option<String>,
    writes: u64,
    last_write: Duration,
}

impl Ledger {
    pub fn new(time: Time, seed: u64) -> Self {
        Self {
            engine: MemoryEngine::new(),
            time,
            seed,
            inner: Mutex::new(Inner {
                remembered: std::env::var("CORACLE_LINES").map_or(REMEMBERED, |most| most.parse().unwrap()),
                ..Inner::default()
            }),
        }
    }

    /// A part asks the server for something and is not yet answered.
    pub fn asks(&self, part: &str, method: &Method, uri: &Uri) {
        let Some((key, subresource)) = pod_of(uri.path()) else {
            return;
        };
        let mut inner = self.inner.lock();
        if *method == Method::DELETE {
            inner.asked.deletions.insert(key, part.to_owned());
        } else if subresource == "eviction" {
            inner.asked.deletions.insert(key.clone(), "eviction".to_owned());
            inner.asked.evictions.insert(key);
        }
    }

    /// Tells of a request that may have changed something. An eviction that was refused is nobody's wish any more: what takes the
    /// pod away later, as the end of its namespace does, is not held to its budgets.
    pub fn request(&self, part: &str, method: &Method, uri: &Uri, end: &str) {
        if let Some((key, "eviction")) = pod_of(uri.path()).filter(|_| end.starts_with('4')) {
            let mut inner = self.inner.lock();
            if inner.asked.deletions.get(&key).is_some_and(|by| by == "eviction") {
                inner.asked.deletions.remove(&key);
            }
        }
        if !uri.path().contains("/leases/") {
            self.tell(format!("    {part}: {method} {} {end}", uri.path()));
        }
    }

    /// Tells of something that happened.
    pub fn tell(&self, line: String) {
        let at = self.time.passed();
        self.inner.lock().tell(at, line);
    }

    /// A step of the simulation begins.
    pub fn step(&self, step: String) {
        self.tell(format!("== {step}"));
        self.inner.lock().step = step;
    }

    /// Something is not as it must be.
    pub fn breaks(&self, law: String) {
        let at = self.time.passed();
        self.inner.lock().breaks(at, law);
    }

    /// How a law was broken, if one was: the seed, the step, the law, and the last that happened.
    pub fn broken(&self) -> Option<String> {
        let inner = self.inner.lock();
        let broken = inner.broken.as_ref()?;
        let mut text = String::new();
        for line in &inner.lines {
            writeln!(text, "{line}").unwrap();
        }
        write!(text, "seed {}: {broken}", self.seed).unwrap();
        Some(text)
    }

    /// How many writes there were so far, without leases, and when the last one was.
    pub fn writes(&self) -> (u64, Duration) {
        let inner = self.inner.lock();
        (inner.writes, inner.last_write)
    }

    /// Looks at the objects that matter.
    pub fn look<T>(&self, look: impl FnOnce(&Objects) -> T) -> T {
        look(&self.inner.lock().objects)
    }
}

impl Inner {
    fn tell(&mut self, at: Duration, line: String) {
        if self.lines.len() >= self.remembered {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>10.3} {line}", at.as_secs_f64()));
    }

    fn breaks(&mut self, at: Duration, law: String) {
        self.tell(at, format!("!! {law}"));
        if self.broken.is_none() {
            self.broken = Some(format!(
                "{law} (at {:.3} s, in the step: {})",
                at.as_secs_f64(),
                self.step
            ));
        }
    }

    fn take(&mut self, entry: &LogEntry, at: Duration) {
        for change in &entry.changes {
            let key = change.key.as_str();
            let resource = key.split('/').next().unwrap_or_default();
            // Leases are renewed for ever, and events go on telling of pods that wait.
            if matches!(resource, "leases.coordination.k8s.io" | "events") {
                continue;
            }
            self.writes += 1;
            self.last_write = at;
            let gone = change.kind == coracle_store::EventKind::Delete;
            if !KINDS.contains(&resource) {
                self.tell(
                    at,
                    format!("{} {} {key}", entry.revision, if gone { "del" } else { "put" }),
                );
                continue;
            }
            let after: Value = serde_json::from_slice(&change.json).unwrap();
            self.tell(at, format!("{} {}", entry.revision, outline(key, &after, gone)));
            let before = match gone {
                true => self.objects.remove(key),
                false => self.objects.insert(key.to_owned(), after.clone()),
            };
            let change = Change {
                key,
                before,
                after: (!gone).then_some(&after),
                at,
            };
            let mut broken = Vec::new();
            self.laws.judge(&change, &self.objects, &self.asked, &mut broken);
            broken.into_iter().for_each(|law| self.breaks(at, law));
            if gone {
                self.asked.deletions.remove(key);
                self.asked.evictions.remove(key);
            }
        }
    }
}

impl Engine for Ledger {
    fn place(&self) -> String {
        "the ledger".to_owned()
    }

    fn load(&self) -> Result<Loaded, EngineError> {
        self.engine.load()
    }

    fn commit(&self, group: &[LogEntry]) -> Result<(), EngineError> {
        self.engine.commit(group)?;
        let at = self.time.passed();
        let mut inner = self.inner.lock();
        group.iter().for_each(|entry| inner.take(entry, at));
        Ok(())
    }

    fn compact(&self, floor: u64, records: &[FoldedRecord]) -> Result<(), EngineError> {
        self.engine.compact(floor, records)
    }

    fn close(&self) {}
}

/// The key of the pod that a path names, and its subresource.
fn pod_of(path: &str) -> Option<(String, &str)> {
    let mut parts = path.strip_prefix("/api/v1/namespaces/")?.split('/');
    let namespace = parts.next()?;
    let name = (parts.next()? == "pods").then(|| parts.next())??;
    Some((format!("pods/{namespace}/{name}"), parts.next().unwrap_or_default()))
}

/// What matters of an object, in a line.
fn outline(key: &str, object: &Value, gone: bool) -> String {
    let mut line = format!("{} {key}", if gone { "del" } else { "put" });
    let mut field = |name: &str, pointer: &str| {
        if let Some(value) = object.pointer(pointer).filter(|value| !value.is_null()) {
            write!(line, " {name}={}", value.to_string().trim_matches('"')).unwrap();
        }
    };
    for (name, pointer) in [
        ("deleting", "/metadata/deletionTimestamp"),
        ("finalizers", "/metadata/finalizers"),
        ("node", "/spec/nodeName"),
        ("phase", "/status/phase"),
        ("replicas", "/spec/replicas"),
        ("has", "/status/replicas"),
        ("ready", "/status/readyReplicas"),
        ("available", "/status/availableReplicas"),
        ("updated", "/status/updatedReplicas"),
        ("active", "/status/active"),
        ("volume", "/spec/volumeName"),
        ("served", "/status/lastScheduleTime"),
        ("succeeded", "/status/succeeded"),
        ("taints", "/spec/taints"),
        ("unschedulable", "/spec/unschedulable"),
        ("allowed", "/status/disruptionsAllowed"),
        ("wants", "/status/desiredReplicas"),
        ("generation", "/metadata/generation"),
        ("observed", "/status/observedGeneration"),
    ] {
        field(name, pointer);
    }
    if key.starts_with("pods/") && crate::laws::is_ready(object) {
        line.push_str(" Ready");
    }
    line
}
