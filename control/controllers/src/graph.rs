//! Who owns whom, over all kinds: the metadata of every object by uid, with its dependents.
//!
//! Informers feed it; the garbage collector and namespace deletion read it. It may lag behind the server, so nothing
//! that cannot be undone may rest on it alone: plans that delete carry guards.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use parking_lot::RwLock;

use crate::{
    informer::Informer,
    key::Key,
    plan::Target,
    resource::Resource,
    store::{Change, Object},
};

/// Metadata of one object, as far as ownership and deletion need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The kind.
    pub resource: Arc<Resource>,
    /// Namespace and name.
    pub key: Key,
    /// The uid.
    pub uid: Arc<str>,
    /// The version that this was read from.
    pub resource_version: String,
    /// Who owns it.
    pub owners: Vec<OwnerReference>,
    /// Who must let it go before it is gone.
    pub finalizers: Vec<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl Node {
    /// The node of an object with this metadata.
    #[must_use]
    pub fn of(resource: &Arc<Resource>, meta: &ObjectMeta) -> Self {
        Self {
            resource: resource.clone(),
            key: Key::of(meta),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            resource: (*self.resource).clone(),
            key: self.key.clone(),
        }
    }

    /// Whether that finalizer holds it.
    #[must_use]
    pub fn held_by(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|held| held == finalizer)
    }
}

/// One object before and after; at least one side is there.
pub struct GraphChange {
    /// As it was known before, if it was.
    pub old: Option<Arc<Node>>,
    /// As it is now, unless it is gone.
    pub new: Option<Arc<Node>>,
}

/// What one namespace holds of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The kind.
    pub resource: Arc<Resource>,
    /// How many there are.
    pub total: usize,
    /// How many of them are not being deleted yet.
    pub untouched: usize,
    /// Finalizers, and how many objects each holds.
    pub finalizers: BTreeMap<String, usize>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<Arc<str>, Arc<Node>>,
    dependents: HashMap<Box<str>, HashSet<Arc<str>>>,
    by_namespace: HashMap<Arc<str>, HashSet<Arc<str>>>,
    resources: Vec<Resource>,
}

type Handler = Box<dyn Fn(&GraphChange) + Send + Sync>;

/// The graph.
#[derive(Default)]
pub struct Graph {
    state: RwLock<State>,
    handlers: RwLock<Vec<Handler>>,
}

impl Graph {
    /// The object with that uid.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<Arc<Node>> {
        self.state.read().nodes.get(uid).cloned()
    }

    /// The objects that name that uid as an owner.
    #[must_use]
    pub fn dependents(&self, uid: &str) -> Vec<Arc<Node>> {
        let state = self.state.read();
        let uids = state.dependents.get(uid).into_iter().flatten();
        let mut found: Vec<Arc<Node>> = uids.filter_map(|uid| state.nodes.get(uid).cloned()).collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }

    /// Whether any object names that uid as an owner.
    #[must_use]
    pub fn has_dependents(&self, uid: &str) -> bool {
        self.state.read().dependents.contains_key(uid)
    }

    /// What the namespace holds, by kind.
    #[must_use]
    pub fn content(&self, namespace: &str) -> Vec<Content> {
        let state = self.state.read();
        let mut rows: Vec<Content> = Vec::new();
        for node in state
            .by_namespace
            .get(namespace)
            .into_iter()
            .flatten()
            .filter_map(|uid| state.nodes.get(uid))
        {
            let at = rows
                .iter()
                .position(|row| row.resource == node.resource)
                .unwrap_or_else(|| {
                    let resource = node.resource.clone();
                    rows.push(Content {
                        resource,
                        total: 0,
                        untouched: 0,
                        finalizers: BTreeMap::new(),
                    });
                    rows.len() - 1
                });
            let Some(row) = rows.get_mut(at) else { continue };
            row.total += 1;
            row.untouched += usize::from(!node.deleting);
            for finalizer in &node.finalizers {
                *row.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
        }
        rows.sort_by(|a, b| a.resource.plural.cmp(&b.resource.plural));
        rows
    }

    /// The kinds that the graph covers.
    #[must_use]
    pub fn resources(&self) -> Vec<Resource> {
        self.state.read().resources.clone()
    }

    /// The kind that an owner reference means; `None` if the graph does not cover it.
    #[must_use]
    pub fn resource(&self, api_version: &str, kind: &str) -> Option<Resource> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        self.state
            .read()
            .resources
            .iter()
            .find(|r| r.group == group && r.kind == kind)
            .cloned()
    }

    /// Calls `handler` for each change from now on.
    pub fn subscribe(&self, handler: impl Fn(&GraphChange) + Send + Sync + 'static) {
        self.handlers.write().push(Box::new(handler));
    }

    /// Takes in what that informer sees.
    pub fn follow<K: Object>(self: &Arc<Self>, informer: &Informer<K>, resource: &Resource) {
        self.state.write().resources.push(resource.clone());
        let (graph, resource) = (self.clone(), Arc::new(resource.clone()));
        informer.subscribe(move |change: &Change<K>| match (&change.new, &change.old) {
            (Some(new), _) => graph.put(Node::of(&resource, new.meta())),
            (None, Some(old)) => graph.remove(old.meta().uid.as_deref().unwrap_or_default()),
            (None, None) => {}
        });
    }

    /// Forgets a kind that is served no more, and its objects with it.
    pub fn uncover(&self, resource: &Resource) {
        let uids: Vec<Arc<str>> = {
            let mut state = self.state.write();
            state.resources.retain(|known| known != resource);
            let nodes = state.nodes.values().filter(|node| *node.resource == *resource);
            nodes.map(|node| node.uid.clone()).collect()
        };
        for uid in uids {
            self.remove(&uid);
        }
    }

    /// Covers that kind without an informer, as a test needs it.
    pub fn cover(&self, resource: &Resource) {
        self.state.write().resources.push(resource.clone());
    }

    pub(crate) fn put(&self, node: Node) {
        let node = Arc::new(node);
        let old = self.state.write().put(&node);
        // Most changes (a status, a heartbeat) do not touch what the graph is about.
        if old.as_ref().is_some_and(|old| same(old, &node)) {
            return;
        }
        self.tell(&GraphChange { old, new: Some(node) });
    }

    pub(crate) fn remove(&self, uid: &str) {
        let old = self.state.write().remove(uid);
        if old.is_some() {
            self.tell(&GraphChange { old, new: None });
        }
    }

    fn tell(&self, change: &GraphChange) {
        self.handlers.read().iter().for_each(|handler| handler(change));
    }
}

fn same(a: &Node, b: &Node) -> bool {
    a.owners == b.owners && a.finalizers == b.finalizers && a.deleting == b.deleting
}

impl State {
    fn put(&mut self, node: &Arc<Node>) -> Option<Arc<Node>> {
        let old = self.nodes.insert(node.uid.clone(), node.clone());
        if let Some(old) = old.as_ref().filter(|old| old.owners != node.owners) {
            self.unlink(old);
        }
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.as_str().into())
                .or_default()
                .insert(node.uid.clone());
        }
        self.by_namespace
            .entry(node.key.namespace.clone())
            .or_default()
            .insert(node.uid.clone());
        old
    }

    fn remove(&mut self, uid: &str) -> Option<Arc<Node>> {
        let old = self.nodes.remove(uid)?;
        self.unlink(&old);
        if let Some(uids) = self.by_namespace.get_mut(&old.key.namespace) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_namespace.remove(&old.key.namespace);
            }
        }
        Some(old)
    }

    fn unlink(&mut self, node: &Node) {
        for owner in &node.owners {
            if let Some(uids) = self.dependents.get_mut(owner.uid.as_str()) {
                uids.remove(&node.uid);
                if uids.is_empty() {
                    self.dependents.remove(owner.uid.as_str());
                }
            }
        }
    }
}
