//! What the server serves: the kinds with their discovery and OpenAPI documents, as one set that never changes.
//!
//! A changed definition makes a new set, which is published at once and as a whole: routing, discovery and documents can
//! never disagree. What did not change is shared between the sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use coracle_api::custom::{GROUP, definition};
use coracle_api::kinds::{Kind, Kinds};
use coracle_store::{Record, Snapshot, Store};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::aggregate::remote::Remote;
use crate::discovery::Discovery;
use crate::document;
use crate::openapi::OpenApi;

/// What the keys of definitions begin with.
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io/";

/// One set of kinds.
pub(crate) struct Served {
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
    /// The rows that definitions made, by the definitions' names.
    custom: BTreeMap<String, Defined>,
    /// What other servers serve, and this one shows.
    remotes: Arc<Vec<Remote>>,
    /// The store's revision that the set was made from.
    revision: u64,
}

/// What one definition made.
#[derive(Clone)]
struct Defined {
    revision: u64,
    rows: Vec<Arc<Kind>>,
    /// Cancelled when the rows are served no more, so that watches end.
    gone: CancellationToken,
}

impl Served {
    /// Whether the set is made of exactly the definitions that there are.
    fn is_of(&self, snapshot: &Snapshot) -> bool {
        let mut known = self.custom.values().map(|defined| defined.revision);
        let same = snapshot
            .range(DEFINITIONS, None)
            .all(|record| known.next() == Some(record.revision));
        same && known.next().is_none()
    }

    /// The token that tells when a kind is served no more; `None` for built-in kinds, which stay.
    pub(crate) fn gone(&self, kind: &Kind) -> Option<CancellationToken> {
        let custom = kind.custom.as_ref()?;
        Some(self.custom.get(&custom.definition)?.gone.clone())
    }
}

/// The newest set.
pub(crate) struct Serving {
    current: ArcSwap<Served>,
    remotes: ArcSwap<Vec<Remote>>,
    version: String,
    /// Held while a set is made, so that an older one never replaces a newer.
    making: Mutex<()>,
}

impl Serving {
    pub(crate) fn new(snapshot: &Snapshot, version: &crate::Version) -> Self {
        let version = version.git_version.clone();
        Self {
            current: ArcSwap::from_pointee(make(Definitions::of(snapshot, None), &version, Arc::default(), None)),
            remotes: ArcSwap::default(),
            version,
            making: Mutex::new(()),
        }
    }

    /// The set to serve by.
    pub(crate) fn current(&self) -> Arc<Served> {
        self.current.load_full()
    }

    /// The set, at least as new as the store is now: who has been told of a definition finds its kind.
    pub(crate) fn newest(&self, store: &Store) -> Arc<Served> {
        self.refresh(&store.snapshot());
        self.current()
    }

    /// The kind behind a path.
    pub(crate) fn find(&self, store: &Store, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let known = self.current.load().kinds.find(group, version, plural).cloned();
        known.or_else(|| self.newest(store).kinds.find(group, version, plural).cloned())
    }

    /// Shows what other servers serve besides.
    pub(crate) fn show(&self, store: &Store, remotes: Vec<Remote>) {
        let known = self.remotes.load();
        let same = known.len() == remotes.len() && known.iter().zip(&remotes).all(|(one, other)| one.shows(other));
        if !same {
            self.remotes.store(Arc::new(remotes));
            self.refresh(&store.snapshot());
        }
    }

    /// Makes the set at least as new as `snapshot`.
    pub(crate) fn refresh(&self, snapshot: &Snapshot) {
        let _making = self.making.lock();
        let old = self.current.load_full();
        let remotes = self.remotes.load_full();
        let definitions = if old.revision >= snapshot.revision() || old.is_of(snapshot) {
            if Arc::ptr_eq(&old.remotes, &remotes) {
                return;
            }
            Definitions {
                rows: old.custom.clone(),
                revision: old.revision,
            }
        } else {
            Definitions::of(snapshot, Some(&old))
        };
        let next = make(definitions, &self.version, remotes, Some(&old));
        let ended: Vec<CancellationToken> = old
            .custom
            .iter()
            .filter(|(name, old)| {
                next.custom
                    .get(*name)
                    .is_none_or(|next| !serves_all_of(&next.rows, &old.rows))
            })
            .map(|(_, old)| old.gone.clone())
            .collect();
        self.current.store(Arc::new(next));
        ended.iter().for_each(CancellationToken::cancel);
    }
}

/// What the definitions make, at one revision.
struct Definitions {
    rows: BTreeMap<String, Defined>,
    revision: u64,
}

impl Definitions {
    fn of(snapshot: &Snapshot, old: Option<&Served>) -> Self {
        let defined = snapshot.range(DEFINITIONS, None).map(|record| {
            let name = document::place(record.key.as_str()).1.to_owned();
            let known = old.and_then(|old| old.custom.get(&name));
            let defined = define(record, known);
            (name, defined)
        });
        Self {
            rows: defined.collect(),
            revision: snapshot.revision(),
        }
    }
}

fn make(definitions: Definitions, version: &str, remotes: Arc<Vec<Remote>>, old: Option<&Served>) -> Served {
    let Definitions { rows: custom, revision } = definitions;
    let rows = document::kinds()
        .iter()
        .chain(custom.values().flat_map(|defined| &defined.rows));
    let kinds: Arc<Kinds> = Arc::new(rows.cloned().collect());
    Served {
        discovery: Discovery::new(&kinds, &remotes),
        openapi: OpenApi::new(kinds.clone(), &remotes, version, old.map(|old| &old.openapi)),
        kinds,
        custom,
        remotes,
        revision,
    }
}

fn define(record: &Record, known: Option<&Defined>) -> Defined {
    if let Some(known) = known.filter(|known| known.revision == record.revision) {
        return known.clone();
    }
    let rows = match document::tree(record) {
        Ok(tree) => definition::rows(&tree, record.revision),
        Err(error) => {
            tracing::warn!(key = %record.key, %error, "a definition cannot be read");
            Vec::new()
        }
    };
    let kept = known.filter(|known| serves_all_of(&rows, &known.rows));
    Defined {
        revision: record.revision,
        gone: kept.map_or_else(CancellationToken::new, |known| known.gone.clone()),
        rows,
    }
}

/// Whether every kind of the old rows is still served in the same scope.
fn serves_all_of(rows: &[Arc<Kind>], old: &[Arc<Kind>]) -> bool {
    let uid = |kind: &Arc<Kind>| kind.custom.as_ref().map(|custom| custom.definition_uid.clone());
    let address = |kind: &Arc<Kind>| {
        (
            uid(kind),
            kind.version.clone(),
            kind.plural.clone(),
            kind.kind.clone(),
            kind.namespaced,
        )
    };
    old.iter()
        .all(|old| rows.iter().any(|row| address(row) == address(old)))
}

/// Whether a kind is that of definitions.
pub(crate) fn defines(kind: &Kind) -> bool {
    kind.group == GROUP && kind.plural == "customresourcedefinitions"
}
