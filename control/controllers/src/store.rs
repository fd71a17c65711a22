//! What an informer knows of one kind, with the indexes that keep every question as small as its answer.
//!
//! A store holds what the API server last said, nothing else: only its informer writes to it. Readers take a short
//! lock and leave with shared objects; they must never hold a reference into the store.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use crate::key::Key;

/// A kind that a store can hold.
pub trait Object: Clone + DeserializeOwned + Send + Sync + 'static {
    /// The object's metadata.
    fn meta(&self) -> &ObjectMeta;
}

/// What the graph of owners needs of the metadata of an object of any kind; everything else is dropped when it is read.
/// There may be very many of them, and each change of any object anywhere is read into one.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(from = "Outline")]
pub struct Metadata {
    /// The metadata.
    pub metadata: ObjectMeta,
}

#[derive(serde::Deserialize)]
struct Outline {
    #[serde(default)]
    metadata: OutlineMeta,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OutlineMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    deletion_timestamp: Option<Time>,
}

impl From<Outline> for Metadata {
    fn from(Outline { metadata: outline }: Outline) -> Self {
        let metadata = ObjectMeta {
            name: outline.name,
            namespace: outline.namespace,
            uid: outline.uid,
            resource_version: outline.resource_version,
            owner_references: outline.owner_references,
            finalizers: outline.finalizers,
            deletion_timestamp: outline.deletion_timestamp,
            ..ObjectMeta::default()
        };
        Self { metadata }
    }
}

macro_rules! objects {
    ($($kind:ty),* $(,)?) => {$(
        impl Object for $kind {
            fn meta(&self) -> &ObjectMeta { &self.metadata }
        }
    )*};
}
objects!(
    Metadata,
    k8s_openapi::api::apps::v1::ControllerRevision,
    k8s_openapi::api::apps::v1::DaemonSet,
    k8s_openapi::api::apps::v1::Deployment,
    k8s_openapi::api::apps::v1::ReplicaSet,
    k8s_openapi::api::apps::v1::StatefulSet,
    k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler,
    k8s_openapi::api::batch::v1::CronJob,
    k8s_openapi::api::batch::v1::Job,
    k8s_openapi::api::certificates::v1::CertificateSigningRequest,
    k8s_openapi::api::coordination::v1::Lease,
    k8s_openapi::api::core::v1::ConfigMap,
    k8s_openapi::api::core::v1::Endpoints,
    k8s_openapi::api::core::v1::Namespace,
    k8s_openapi::api::core::v1::Node,
    k8s_openapi::api::core::v1::PersistentVolume,
    k8s_openapi::api::core::v1::PersistentVolumeClaim,
    k8s_openapi::api::core::v1::Pod,
    k8s_openapi::api::core::v1::ReplicationController,
    k8s_openapi::api::core::v1::ResourceQuota,
    k8s_openapi::api::core::v1::Secret,
    k8s_openapi::api::core::v1::Service,
    k8s_openapi::api::core::v1::ServiceAccount,
    k8s_openapi::api::discovery::v1::EndpointSlice,
    k8s_openapi::api::policy::v1::PodDisruptionBudget,
    k8s_openapi::api::rbac::v1::ClusterRole,
    k8s_openapi::api::resource::v1::DeviceClass,
    k8s_openapi::api::resource::v1::ResourceClaim,
    k8s_openapi::api::resource::v1::ResourceClaimTemplate,
    k8s_openapi::api::resource::v1::ResourceSlice,
    k8s_openapi::api::storage::v1::CSINode,
    k8s_openapi::api::storage::v1::StorageClass,
);

/// One object before and after; at least one side is there.
pub struct Change<K> {
    /// As it was known before, if it was.
    pub old: Option<Arc<K>>,
    /// As it is now, unless it is gone.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// What is known last of the object.
    pub fn latest(&self) -> Option<&Arc<K>> {
        self.new.as_ref().or(self.old.as_ref())
    }

    /// The object before and after, as far as there is one.
    pub fn both(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.iter().chain(self.new.iter())
    }
}

/// The resource version as a number; our servers and etcd's both count.
#[must_use]
pub fn revision(meta: &ObjectMeta) -> u64 {
    meta.resource_version
        .as_deref()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

/// The uid of the controller that owns the object; empty if none does.
#[must_use]
pub fn controller_uid(meta: &ObjectMeta) -> &str {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .find(|o| o.controller == Some(true))
        .map_or("", |o| o.uid.as_str())
}

type Keys = BTreeSet<Key>;

struct State<K> {
    objects: HashMap<Key, Arc<K>>,
    by_namespace: HashMap<Arc<str>, Keys>,
    /// By namespace and uid of the controller; the empty uid lists those that no controller owns.
    by_controller: HashMap<(Arc<str>, Box<str>), Keys>,
    /// By `namespace\0label\0value`.
    by_label: HashMap<Box<str>, Keys>,
}

impl<K: Object> State<K> {
    fn index(&mut self, key: &Key, meta: &ObjectMeta) {
        self.by_namespace
            .entry(key.namespace.clone())
            .or_default()
            .insert(key.clone());
        let controller = (key.namespace.clone(), controller_uid(meta).into());
        self.by_controller.entry(controller).or_default().insert(key.clone());
        for (name, value) in meta.labels.iter().flatten() {
            self.by_label
                .entry(label(&key.namespace, name, value))
                .or_default()
                .insert(key.clone());
        }
    }

    fn unindex(&mut self, key: &Key, meta: &ObjectMeta) {
        remove(&mut self.by_namespace, &key.namespace, key);
        remove(
            &mut self.by_controller,
            &(key.namespace.clone(), controller_uid(meta).into()),
            key,
        );
        for (name, value) in meta.labels.iter().flatten() {
            remove(&mut self.by_label, &label(&key.namespace, name, value), key);
        }
    }

    fn put(&mut self, object: K) -> Change<K> {
        let key = Key::of(object.meta());
        let new = Arc::new(object);
        let old = self.objects.insert(key.clone(), new.clone());
        match &old {
            Some(old) if same_indexes(old.meta(), new.meta()) => {}
            Some(old) => {
                self.unindex(&key, old.meta());
                self.index(&key, new.meta());
            }
            None => self.index(&key, new.meta()),
        }
        Change { old, new: Some(new) }
    }

    fn remove(&mut self, key: &Key) -> Option<Change<K>> {
        let old = self.objects.remove(key)?;
        self.unindex(key, old.meta());
        Some(Change {
            old: Some(old),
            new: None,
        })
    }

    fn fetch(&self, keys: Option<&Keys>) -> Vec<Arc<K>> {
        keys.into_iter()
            .flatten()
            .filter_map(|key| self.objects.get(key).cloned())
            .collect()
    }
}

fn same_indexes(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    a.labels == b.labels && controller_uid(a) == controller_uid(b)
}

fn label(namespace: &str, name: &str, value: &str) -> Box<str> {
    format!("{namespace}\0{name}\0{value}").into()
}

fn remove<I: std::hash::Hash + Eq>(index: &mut HashMap<I, Keys>, at: &I, key: &Key) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}

/// All objects of one kind, as last seen.
pub struct Store<K> {
    state: RwLock<State<K>>,
    /// Everything up to this revision has been seen; 0 until the first list is complete.
    revision: watch::Sender<u64>,
    /// Somebody does not trust the watch any more.
    doubted: Notify,
}

impl<K: Object> Default for Store<K> {
    fn default() -> Self {
        let state = State {
            objects: HashMap::new(),
            by_namespace: HashMap::new(),
            by_controller: HashMap::new(),
            by_label: HashMap::new(),
        };
        Self {
            state: RwLock::new(state),
            revision: watch::Sender::new(0),
            doubted: Notify::new(),
        }
    }
}

impl<K: Object> Store<K> {
    /// A store that holds these objects, as a test needs it.
    #[must_use]
    pub fn of(objects: impl IntoIterator<Item = K>) -> Self {
        let store = Self::default();
        let objects: Vec<K> = objects.into_iter().collect();
        let seen = objects.iter().map(|o| revision(o.meta())).max().unwrap_or(1);
        store.replace(objects, seen);
        store
    }

    /// The object with that key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.state.read().objects.get(key).cloned()
    }

    /// All objects, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.state.read().objects.values().cloned().collect()
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects of one namespace, by name.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        state.fetch(state.by_namespace.get(namespace))
    }

    /// The objects in `namespace` that the controller with that uid owns; those of nobody for an empty uid.
    #[must_use]
    pub fn controlled_by(&self, namespace: &str, uid: &str) -> Vec<Arc<K>> {
        let state = self.state.read();
        state.fetch(state.by_controller.get(&(namespace.into(), uid.into())))
    }

    /// The objects in `namespace` that carry all of these labels; none for no labels.
    #[must_use]
    pub fn labelled<'a>(
        &self,
        namespace: &str,
        labels: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Vec<Arc<K>> {
        let wanted: Vec<(&String, &String)> = labels.into_iter().collect();
        let state = self.state.read();
        let sets: Option<Vec<&Keys>> = wanted
            .iter()
            .map(|(n, v)| state.by_label.get(&label(namespace, n, v)))
            .collect();
        let smallest = sets.and_then(|sets| sets.into_iter().min_by_key(|keys| keys.len()));
        let mut found = state.fetch(smallest);
        found.retain(|object| {
            let has = object.meta().labels.as_ref();
            wanted
                .iter()
                .all(|(name, value)| has.and_then(|l| l.get(*name)) == Some(*value))
        });
        found
    }

    /// Everything up to this revision has been seen; 0 before the first list.
    #[must_use]
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Waits until everything up to `revision` has been seen. False when that takes longer than `limit`.
    pub async fn wait_for(&self, revision: u64, limit: Duration) -> bool {
        let mut seen = self.revision.subscribe();
        let wait = seen.wait_for(|seen| *seen >= revision.max(1));
        matches!(tokio::time::timeout(limit, wait).await, Ok(Ok(_)))
    }

    /// Has the kind listed anew: its watch has not told in time of what is known to be there.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Waits until the watch is doubted.
    pub(crate) async fn doubted(&self) {
        self.doubted.notified().await;
    }

    /// Waits until the object with that key and uid is gone or on its way out. False when that takes longer.
    pub async fn wait_for_end(&self, key: &Key, uid: &str, limit: Duration) -> bool {
        let mut seen = self.revision.subscribe();
        let ended = || {
            let state = self.state.read();
            let Some(object) = state.objects.get(key) else {
                return true;
            };
            let meta = object.meta();
            meta.uid.as_deref() != Some(uid) || meta.deletion_timestamp.is_some()
        };
        let wait = seen.wait_for(|_| ended());
        matches!(tokio::time::timeout(limit, wait).await, Ok(Ok(_)))
    }

    pub(crate) fn put(&self, object: K) -> Change<K> {
        let seen = revision(object.meta());
        let change = self.state.write().put(object);
        self.saw(seen);
        change
    }

    pub(crate) fn delete(&self, object: &K) -> Option<Change<K>> {
        let change = self.state.write().remove(&Key::of(object.meta()));
        self.saw(revision(object.meta()));
        change
    }

    /// Takes a complete list as of `revision`: what it lacks is gone.
    pub(crate) fn replace(&self, objects: Vec<K>, seen: u64) -> Vec<Change<K>> {
        let mut state = self.state.write();
        let listed: std::collections::HashSet<Key> = objects.iter().map(|o| Key::of(o.meta())).collect();
        let gone: Vec<Key> = state
            .objects
            .keys()
            .filter(|key| !listed.contains(*key))
            .cloned()
            .collect();
        let mut changes: Vec<Change<K>> = gone.iter().filter_map(|key| state.remove(key)).collect();
        changes.extend(objects.into_iter().map(|object| state.put(object)));
        drop(state);
        self.saw(seen.max(1));
        changes
    }

    /// The server offers no such kind: all that there is of it has been seen.
    pub fn has_nothing(&self) {
        self.saw(1);
    }

    /// Everything up to `revision` has been seen.
    pub(crate) fn saw(&self, revision: u64) {
        // Waiters on an object's end are told of every event, also when the number stays.
        self.revision.send_modify(|seen| *seen = revision.max(*seen));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, app: &str, owner: Option<&str>, version: u64) -> Pod {
        let owners: Vec<_> = owner
            .iter()
            .map(|uid| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": uid, "controller": true}))
            .collect();
        serde_json::from_value(json!({"metadata": {
            "name": name, "namespace": "n", "uid": name, "resourceVersion": version.to_string(),
            "labels": {"app": app, "tier": "x"}, "ownerReferences": owners,
        }}))
        .unwrap()
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|p| p.metadata.name.as_deref().unwrap()).collect()
    }

    #[test]
    fn indexes_follow_every_change() {
        let store = Store::of([pod("a", "web", None, 1), pod("b", "web", Some("u"), 2)]);
        let web = [("app".to_owned(), "web".to_owned())];
        let labelled = |s: &Store<Pod>| names(&s.labelled("n", web.iter().map(|(k, v)| (k, v)))).join(",");
        assert_eq!(labelled(&store), "a,b");
        assert_eq!(names(&store.controlled_by("n", "")), ["a"]);
        store.put(pod("a", "db", Some("u"), 3));
        assert_eq!(labelled(&store), "b");
        assert_eq!(names(&store.controlled_by("n", "u")), ["a", "b"]);
        assert!(store.controlled_by("n", "").is_empty());
        store.delete(&pod("b", "web", Some("u"), 4));
        assert_eq!(labelled(&store), "");
        assert_eq!(store.revision(), 4);
        assert_eq!(names(&store.in_namespace("n")), ["a"]);
        let changes = store.replace(vec![pod("c", "web", None, 9)], 12);
        assert_eq!(changes.len(), 2, "a is gone, c is new");
        assert_eq!(names(&store.in_namespace("n")), ["c"]);
        assert!(
            store.state.read().by_label.keys().all(|k| !k.contains("db")),
            "no empty index entry stays"
        );
    }

    #[tokio::test]
    async fn waiting_ends_when_the_write_is_seen() {
        let store = Arc::new(Store::of([pod("a", "web", None, 5)]));
        assert!(store.wait_for(5, Duration::ZERO).await);
        assert!(!store.wait_for(6, Duration::ZERO).await);
        let waiter = tokio::spawn({
            let store = store.clone();
            async move { store.wait_for(8, Duration::from_secs(30)).await }
        });
        let ender = tokio::spawn({
            let store = store.clone();
            async move {
                store
                    .wait_for_end(&Key::new("n", "a"), "a", Duration::from_secs(30))
                    .await
            }
        });
        tokio::task::yield_now().await;
        store.delete(&pod("a", "web", None, 8));
        assert!(waiter.await.unwrap());
        assert!(ender.await.unwrap());
    }
}
