//! A store with what a law needs around it: an engine that opens again and again, a clock that stands still, and short ways to
//! write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::*;

/// Opens an engine over what the last one kept.
pub(super) type OpenEngine = Box<dyn Fn() -> Arc<dyn Engine>>;

pub(super) struct World {
    pub(super) engine: OpenEngine,
    pub(super) config: Config,
    now_seconds: Arc<AtomicU64>,
}

/// What keeps a world's directory alive is moved into the closure.
pub(super) fn sled_world() -> World {
    let directory = tempfile::tempdir().unwrap();
    World::new(Box::new(move || Arc::new(SledEngine::open(directory.path()).unwrap())))
}

pub(super) fn memory_world() -> World {
    let engine = Arc::new(MemoryEngine::new());
    World::new(Box::new(move || engine.clone()))
}

impl World {
    pub(super) fn new(engine: OpenEngine) -> Self {
        let now_seconds = Arc::new(AtomicU64::new(1_000_000));
        let now = now_seconds.clone();
        let clock: Clock = Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst)));
        Self {
            engine,
            config: Config {
                clock,
                ..Config::default()
            },
            now_seconds,
        }
    }

    pub(super) fn open(&self) -> Store {
        Store::open((self.engine)(), extract, self.config.clone()).unwrap()
    }

    pub(super) async fn reopen(&self, store: Store) -> Store {
        store.close().await;
        self.open()
    }

    pub(super) fn pass_seconds(&self, seconds: u64) {
        self.now_seconds.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// The header of the bodies that [`body`] makes: their text is the uid.
pub(super) fn extract(key: &str, json: &[u8]) -> Header {
    let text = String::from_utf8(json.to_vec()).unwrap();
    let uid = text.split('"').nth(7).unwrap().to_owned();
    Header {
        uid,
        labels: vec![("key".into(), key.into())],
        ..Header::default()
    }
}

pub(super) fn body(text: &str) -> Body {
    let head = r#"{"resourceVersion":""#;
    Body {
        json: format!(r#"{head}","text":"{text}"}}"#).into_bytes(),
        revision_at: head.len(),
    }
}

pub(super) fn json(revision: Revision, text: &str) -> String {
    format!(r#"{{"resourceVersion":"{revision}","text":"{text}"}}"#)
}

pub(super) fn put(key: &str, text: &str) -> Change {
    let header = Header {
        uid: text.into(),
        labels: vec![("key".into(), key.into())],
        ..Header::default()
    };
    Change::Put {
        key: key.into(),
        body: body(text),
        header,
    }
}

pub(super) fn delete(key: &str, text: &str) -> Change {
    Change::Delete {
        key: key.into(),
        body: body(text),
    }
}

pub(super) fn changes<const N: usize>(changes: [Change; N]) -> Transaction {
    Transaction {
        expect: Vec::new(),
        changes: changes.into(),
    }
}

pub(super) fn expecting(key: &str, expect: Expect, change: Change) -> Transaction {
    Transaction {
        expect: vec![(key.into(), expect)],
        changes: vec![change],
    }
}

pub(super) async fn write(store: &Store, key: &str, text: &str) -> Revision {
    store.commit(changes([put(key, text)])).await.unwrap().revision
}

pub(super) fn keys<'a>(records: impl Iterator<Item = &'a Arc<Record>>) -> Vec<&'a str> {
    records.map(|record| record.key.as_str()).collect()
}

/// The records as plain values, to compare.
pub(super) fn listing(snapshot: &Snapshot) -> BTreeMap<String, Record> {
    let records = snapshot.range("", None);
    records
        .map(|record| (record.key.to_string(), Record::clone(record)))
        .collect()
}

pub(super) fn drain(watch: &mut Watch) -> Vec<Arc<Event>> {
    std::iter::from_fn(|| watch.try_next()).map(Result::unwrap).collect()
}

/// A future that is polled by hand and counts its wake-ups.
pub(super) struct Polled<F> {
    future: std::pin::Pin<Box<F>>,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
pub(super) struct Wakes(AtomicU64);

impl std::task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(super) fn by_hand<F: Future>(future: F) -> Polled<F> {
    Polled {
        future: Box::pin(future),
        wakes: Arc::default(),
    }
}

impl<F: Future> Polled<F> {
    pub(super) fn poll(&mut self) -> std::task::Poll<F::Output> {
        let waker = self.wakes.clone().into();
        self.future.as_mut().poll(&mut std::task::Context::from_waker(&waker))
    }

    pub(super) fn wakes(&self) -> u64 {
        self.wakes.0.load(Ordering::SeqCst)
    }
}
