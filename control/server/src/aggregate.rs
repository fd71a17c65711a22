//! Groups of kinds that other servers serve: what an APIService registers, this server passes on and shows as its own.
//!
//! [`Aggregation`] holds the registrations, compiled from the store like webhooks and rules: whether a service is available
//! is read from its condition, so that several API servers agree. [`keep`] finds out whether it is, with one follower for
//! each, and collects what the other server says of its kinds, which becomes part of discovery and of OpenAPI. A group
//! that this server serves itself is never passed on.

mod available;
pub(crate) mod backend;
mod fetch;
mod follow;
mod keeper;
pub(crate) mod local;
pub(crate) mod pass;
pub(crate) mod remote;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use coracle_api::object;
use coracle_store::Snapshot;
use parking_lot::Mutex;

use crate::core::Core;
use crate::{Pki, document};
use backend::Backend;
pub(crate) use keeper::keep;
use remote::{Documents, Remote};

/// The group of the registrations.
pub(crate) const GROUP: &str = "apiregistration.k8s.io";
/// What their keys begin with.
const SERVICES: &str = "apiservices.apiregistration.k8s.io/";
/// Where they are written.
pub(crate) const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
/// Says who keeps a registration: this server, once at its start or always.
pub(crate) const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// The registrations, and what is known of the kinds behind them.
pub(crate) struct Aggregation {
    current: ArcSwap<Backends>,
    /// What the servers said of their kinds, by the registrations' names.
    documents: Mutex<BTreeMap<String, Arc<Documents>>>,
    /// Held while registrations are compiled, so that older ones never replace newer ones.
    compiling: Mutex<()>,
}

/// All backends at one revision, by `GROUP/VERSION`.
#[derive(Default)]
struct Backends {
    revision: u64,
    /// The revisions of all registrations, by which a change of any is noticed.
    made_of: Vec<u64>,
    by_version: HashMap<String, Arc<Backend>>,
}

impl Aggregation {
    pub(crate) fn new(snapshot: &Snapshot, pki: &Pki) -> Self {
        Self {
            current: ArcSwap::from_pointee(Backends::compile(snapshot, pki)),
            documents: Mutex::default(),
            compiling: Mutex::new(()),
        }
    }

    /// Who serves a path, if it is another server.
    fn find(&self, path: &str) -> Option<Arc<Backend>> {
        let backends = self.current.load();
        if backends.by_version.is_empty() {
            return None;
        }
        let rest = path.strip_prefix("/apis/")?;
        let (group, rest) = rest.split_once('/')?;
        let version = rest.split('/').next()?;
        let length = group.len() + 1 + version.len();
        let key = path.get("/apis/".len()..)?.get(..length)?;
        backends.by_version.get(key).cloned()
    }

    /// All of them.
    fn backends(&self) -> Vec<Arc<Backend>> {
        self.current.load().by_version.values().cloned().collect()
    }

    /// The one that an APIService of this name registers.
    fn named(&self, name: &str) -> Option<Arc<Backend>> {
        let backends = self.current.load();
        backends
            .by_version
            .values()
            .find(|backend| backend.name == name)
            .cloned()
    }

    fn documents_of(&self, name: &str) -> Arc<Documents> {
        self.documents.lock().get(name).cloned().unwrap_or_default()
    }
}

impl Backends {
    fn compile(snapshot: &Snapshot, pki: &Pki) -> Self {
        let backends = snapshot.range(SERVICES, None).filter_map(|record| {
            let service = document::tree(record).ok()?;
            let backend = Backend::of(&service, pki)?;
            let own = document::kinds()
                .iter()
                .any(|kind| kind.group == backend.group && kind.version == backend.version);
            (!own).then(|| (format!("{}/{}", backend.group, backend.version), Arc::new(backend)))
        });
        Self {
            revision: snapshot.revision(),
            made_of: snapshot.range(SERVICES, None).map(|record| record.revision).collect(),
            by_version: backends.collect(),
        }
    }

    fn is_of(&self, snapshot: &Snapshot) -> bool {
        let known = self.made_of.iter().copied();
        known.eq(snapshot.range(SERVICES, None).map(|record| record.revision))
    }
}

impl Core {
    /// Who serves a path, if it is another server.
    pub(crate) fn backend(&self, path: &str) -> Option<Arc<Backend>> {
        self.aggregation.find(path)?;
        // Somebody may have been told of a change that is not compiled in yet.
        if !self.aggregation.current.load().is_of(&self.store.snapshot()) {
            self.refresh_aggregation();
        }
        self.aggregation.find(path)
    }

    /// Makes the registrations at least as new as the store is now, and with them what is served.
    pub(crate) fn refresh_aggregation(&self) {
        let snapshot = self.store.snapshot();
        {
            let _compiling = self.aggregation.compiling.lock();
            let known = self.aggregation.current.load();
            if known.revision < snapshot.revision() && !known.is_of(&snapshot) {
                let backends = Backends::compile(&snapshot, &self.pki);
                self.aggregation.current.store(Arc::new(backends));
            }
        }
        self.publish_remotes();
    }

    /// Takes what a server says of its kinds.
    fn learn(&self, name: &str, documents: Documents) {
        let known = self.aggregation.documents_of(name);
        if *known == documents {
            return;
        }
        let mut all = self.aggregation.documents.lock();
        all.insert(name.to_owned(), Arc::new(documents));
        drop(all);
        self.publish_remotes();
    }

    fn publish_remotes(&self) {
        let backends = self.aggregation.backends();
        let registered = |name: &String| backends.iter().any(|backend| backend.name == *name);
        self.aggregation.documents.lock().retain(|name, _| registered(name));
        let mut remotes: Vec<Remote> = backends
            .into_iter()
            .map(|backend| Remote {
                documents: self.aggregation.documents_of(&backend.name),
                backend,
            })
            .collect();
        remotes.sort_by(|one, other| one.backend.name.cmp(&other.backend.name));
        self.serving.show(&self.store, remotes);
    }
}

/// Whether a registration's condition says that it answers.
fn is_available(service: &serde_json::Value) -> bool {
    object::list(service, "status.conditions")
        .iter()
        .any(|one| object::text(one, "type") == "Available" && object::text(one, "status") == "True")
}
