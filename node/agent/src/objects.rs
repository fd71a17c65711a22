//! The ConfigMaps and Secrets that the node's pods refer to, each watched once for all of them.
//!
//! A node may read only what its pods need, so every object has a watch of its own (by name) that lives while a pod holds it.
//! Pods that refer to nothing cost nothing here.

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The kinds that pods read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Plain settings.
    ConfigMap,
    /// Settings to be kept quiet.
    Secret,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        })
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: String,
}

/// The content of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// Values by key.
    pub data: BTreeMap<String, Vec<u8>>,
    /// The revision of the object, to see whether files are up to date.
    pub revision: String,
}

/// What is known of an object.
#[derive(Debug, Clone, Default)]
pub enum Known {
    /// The API has not answered yet.
    #[default]
    Nothing,
    /// There is no such object.
    Absent,
    /// This.
    Present(Arc<Payload>),
}

/// An object under watch. The watch ends when the last holder lets go.
pub struct Watched {
    /// Which object.
    pub reference: Reference,
    known: Mutex<Known>,
    holders: Mutex<Vec<Weak<Notify>>>,
    task: Mutex<Option<AbortHandle>>,
}

impl Watched {
    /// What is known now.
    pub fn known(&self) -> Known {
        self.known.lock().clone()
    }

    fn learn(&self, known: Known) {
        *self.known.lock() = known;
        self.holders.lock().retain(|holder| match holder.upgrade() {
            Some(holder) => {
                holder.notify_one();
                true
            }
            None => false,
        });
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

/// All objects under watch.
pub struct Objects {
    client: Client,
    watched: Mutex<HashMap<Reference, Weak<Watched>>>,
}

impl Objects {
    /// None yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            watched: Mutex::default(),
        }
    }

    /// Holds an object under watch; `holder` is notified whenever more is known.
    pub fn hold(&self, reference: &Reference, holder: &Arc<Notify>) -> Arc<Watched> {
        let mut all = self.watched.lock();
        let held = match all.get(reference).and_then(Weak::upgrade) {
            Some(held) => held,
            None => {
                all.retain(|_, watched| watched.strong_count() > 0);
                let held = self.start(reference);
                all.insert(reference.clone(), Arc::downgrade(&held));
                held
            }
        };
        held.holders.lock().push(Arc::downgrade(holder));
        held
    }

    fn start(&self, reference: &Reference) -> Arc<Watched> {
        let watched = Arc::new(Watched {
            reference: reference.clone(),
            known: Mutex::default(),
            holders: Mutex::default(),
            task: Mutex::default(),
        });
        let weak = Arc::downgrade(&watched);
        let client = self.client.clone();
        let task = match reference.kind {
            Kind::ConfigMap => tokio::spawn(follow::<ConfigMap>(client, reference.clone(), weak, of_config_map)),
            Kind::Secret => tokio::spawn(follow::<Secret>(client, reference.clone(), weak, of_secret)),
        };
        *watched.task.lock() = Some(task.abort_handle());
        watched
    }
}

async fn follow<K>(client: Client, reference: Reference, watched: Weak<Watched>, read: fn(K) -> Payload)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client, &reference.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", reference.name));
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut listed = None;
    while let Some(event) = events.next().await {
        let Some(watched) = watched.upgrade() else { return };
        match event {
            Ok(watcher::Event::Init) => listed = None,
            Ok(watcher::Event::InitApply(object)) => listed = Some(Arc::new(read(object))),
            Ok(watcher::Event::InitDone) => watched.learn(listed.take().map_or(Known::Absent, Known::Present)),
            Ok(watcher::Event::Apply(object)) => watched.learn(Known::Present(Arc::new(read(object)))),
            Ok(watcher::Event::Delete(_)) => watched.learn(Known::Absent),
            Err(error) => {
                tracing::debug!(kind = %reference.kind, namespace = %reference.namespace, name = %reference.name, %error, "watch of a referenced object")
            }
        }
    }
}

fn of_config_map(object: ConfigMap) -> Payload {
    let text = object
        .data
        .into_iter()
        .flatten()
        .map(|(key, value)| (key, value.into_bytes()));
    let bytes = object
        .binary_data
        .into_iter()
        .flatten()
        .map(|(key, value)| (key, value.0));
    Payload {
        data: text.chain(bytes).collect(),
        revision: object.metadata.resource_version.unwrap_or_default(),
    }
}

fn of_secret(object: Secret) -> Payload {
    let data = object
        .data
        .into_iter()
        .flatten()
        .map(|(key, value)| (key, value.0))
        .collect();
    Payload {
        data,
        revision: object.metadata.resource_version.unwrap_or_default(),
    }
}
