//! Keeps a [`Store`] equal to what the API server holds of one kind: list, then watch for ever.
//!
//! One informer serves all who care about its kind in the process; subscribers are called in order, one change at a
//! time, after the store has it. They must be quick: usually they add a key to a queue.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Client,
    api::{ListParams, WatchParams},
    core::{ObjectList, Request, WatchEvent},
};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer};
use tokio_util::sync::CancellationToken;

use crate::{
    key::Key,
    resource::Resource,
    store::{Change, Object, Store},
    without::Without,
};

/// Objects a page of the first list. Large, for lists are rare and each page costs a round trip; bounded, because the
/// decoded page and its text are both in memory.
const PAGE_LIMIT: u32 = 500;

/// The first pause after a failed list or watch, doubled up to [`RETRY_MOST`]: a server that restarts is back within
/// tens of milliseconds, and a server that stays away must not be hammered.
const RETRY_LEAST: Duration = Duration::from_millis(20);
/// The longest pause between attempts.
const RETRY_MOST: Duration = Duration::from_secs(5);

/// The media types asked for where metadata alone is wanted; a server that cannot slim may send whole objects.
pub(crate) const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// Which objects of a kind an informer follows.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The kind.
    pub resource: Resource,
    /// Only objects of this namespace, unless empty.
    pub namespace: &'static str,
    /// Only objects that this field selector picks, unless empty.
    pub fields: &'static str,
    /// Ask the server for metadata alone.
    pub metadata_only: bool,
}

impl Scope {
    /// All objects of that kind.
    #[must_use]
    pub fn all(resource: Resource) -> Self {
        Self {
            resource,
            namespace: "",
            fields: "",
            metadata_only: false,
        }
    }
}

/// One kind, followed.
pub struct Informer<K> {
    scope: Scope,
    store: Arc<Store<K>>,
    /// Held while a change is applied and told, so that a late subscriber misses nothing and sees nothing twice.
    handlers: Mutex<Vec<Handler<K>>>,
}

enum Ended {
    /// The server closed the watch; go on from the last revision.
    Closed,
    /// The revision is too old, or the stream is broken beyond use; list again.
    Expired,
}

impl<K: Object> Informer<K> {
    /// An informer that has seen nothing yet.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            store: Arc::default(),
            handlers: Mutex::new(Vec::new()),
        }
    }

    /// What it knows.
    #[must_use]
    pub fn store(&self) -> &Arc<Store<K>> {
        &self.store
    }

    /// Calls `handler` for all that is known and then for each change.
    pub fn subscribe(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut handlers = self.handlers.lock();
        for object in self.store.all() {
            handler(&Change {
                old: None,
                new: Some(object),
            });
        }
        handlers.push(Box::new(handler));
    }

    /// Follows the kind until `shutdown`.
    pub async fn run(&self, client: Client, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.follow(&client) => {}
        }
    }

    async fn follow(&self, client: &Client) {
        let mut pause = RETRY_LEAST;
        let mut revision: Option<String> = None;
        loop {
            let outcome = match revision.take() {
                None => self.list(client).await.map(|listed| revision = Some(listed)),
                Some(from) => {
                    let mut at = from;
                    let ended = tokio::select! {
                        ended = self.watch(client, &mut at) => ended,
                        () = self.store.doubted() => Ok(Ended::Expired),
                    };
                    ended.map(|ended| revision = matches!(ended, Ended::Closed).then_some(at))
                }
            };
            match outcome {
                Ok(()) => pause = RETRY_LEAST,
                Err(error) => {
                    tracing::warn!(resource = %self.scope.resource.plural, %error, "informer lost its server");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MOST);
                }
            }
        }
    }

    /// Reads the whole collection, page by page, and makes the store equal to it.
    async fn list(&self, client: &Client) -> kube::Result<String> {
        let request = Request::new(self.scope.resource.path(self.scope.namespace));
        let mut params = ListParams::default().limit(PAGE_LIMIT);
        params.field_selector = (!self.scope.fields.is_empty()).then(|| self.scope.fields.to_owned());
        let mut objects = Vec::new();
        loop {
            let mut page = request.list(&params).map_err(kube::Error::BuildRequest)?;
            if self.scope.metadata_only {
                accept(page.headers_mut(), METADATA_LIST);
            }
            let list: ObjectList<Slim<K>> = client.request(page).await?;
            objects.extend(list.items.into_iter().map(|Slim(object)| object));
            params.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let revision = list.metadata.resource_version.unwrap_or_default();
                self.replace(objects, revision.parse().unwrap_or(0));
                return Ok(revision);
            }
        }
    }

    fn replace(&self, objects: Vec<K>, revision: u64) {
        let handlers = self.handlers.lock();
        for change in self.store.replace(objects, revision) {
            handlers.iter().for_each(|handler| handler(&change));
        }
    }

    /// Applies events from revision `at` on; leaves in `at` how far it came.
    async fn watch(&self, client: &Client, at: &mut String) -> kube::Result<Ended> {
        let params = WatchParams {
            field_selector: (!self.scope.fields.is_empty()).then(|| self.scope.fields.to_owned()),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new(self.scope.resource.path(self.scope.namespace));
        let mut request = request.watch(&params, at).map_err(kube::Error::BuildRequest)?;
        if self.scope.metadata_only {
            accept(request.headers_mut(), METADATA);
        }
        let mut events = match client.request_events::<Slim<K>>(request).await {
            Ok(events) => pin!(events),
            Err(kube::Error::Api(status)) if status.code == 410 => return Ok(Ended::Expired),
            Err(error) => return Err(error),
        };
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Error(status)) if status.code == 410 => return Ok(Ended::Expired),
                Ok(WatchEvent::Error(status)) => return Err(kube::Error::Api(status)),
                Ok(event) => {
                    if let Some(revision) = self.apply(event) {
                        *at = revision;
                    }
                }
                Err(error) => {
                    tracing::debug!(resource = %self.scope.resource.plural, %error, "watch broke");
                    return Ok(Ended::Expired);
                }
            }
        }
        Ok(Ended::Closed)
    }

    /// Takes one event in and tells the subscribers; returns the event's revision.
    fn apply(&self, event: WatchEvent<Slim<K>>) -> Option<String> {
        let handlers = self.handlers.lock();
        let (revision, change) = match event {
            WatchEvent::Added(Slim(object)) | WatchEvent::Modified(Slim(object)) => {
                (object.meta().resource_version.clone(), Some(self.store.put(object)))
            }
            WatchEvent::Deleted(Slim(object)) => (object.meta().resource_version.clone(), self.store.delete(&object)),
            WatchEvent::Bookmark(bookmark) => {
                self.store.saw(bookmark.metadata.resource_version.parse().unwrap_or(0));
                (Some(bookmark.metadata.resource_version), None)
            }
            WatchEvent::Error(_) => (None, None),
        };
        if let Some(change) = change {
            handlers.iter().for_each(|handler| handler(&change));
        }
        revision
    }

    /// Takes in an object as if the server had told of it.
    #[cfg(test)]
    pub(crate) fn see(&self, object: K) {
        self.apply(WatchEvent::Modified(Slim(object)));
    }

    /// Takes in that an object is gone.
    #[cfg(test)]
    pub(crate) fn forget(&self, object: &K) {
        self.apply(WatchEvent::Deleted(Slim(object.clone())));
    }

    /// The object with that key, if it is known.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.store.get(key)
    }
}

/// An object that is read without the owners of its fields: they are large and nobody here looks at them.
#[derive(Clone)]
struct Slim<K>(K);

impl<'de, K: Deserialize<'de>> Deserialize<'de> for Slim<K> {
    fn deserialize<D: Deserializer<'de>>(all: D) -> Result<Self, D::Error> {
        let path = &["metadata", "managedFields"];
        K::deserialize(Without { all, path }).map(Self)
    }
}

/// Asks for that form of the answer.
pub(crate) fn accept(headers: &mut http::HeaderMap, media_type: &'static str) {
    headers.insert(http::header::ACCEPT, http::HeaderValue::from_static(media_type));
}
