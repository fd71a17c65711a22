//! Following a kind of objects: a store of them, and news whenever it has changed.

use std::fmt::Debug;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// A store, and the news of its kind: `kind` once when the first list is complete, and for each event after that. A list
/// under way is not seen before it is complete.
pub fn watch<K, N>(
    api: Api<K>,
    dynamic: K::DynamicType,
    config: watcher::Config,
    kind: N,
) -> (Store<K>, BoxStream<'static, N>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Eq + std::hash::Hash + Send + Sync + Unpin,
    N: Copy + Debug + Send + 'static,
{
    let writer = reflector::store::Writer::new(dynamic);
    let store = writer.as_reader();
    let events = watcher(api, config).default_backoff().reflect(writer);
    let mut complete = false;
    let news = events.filter_map(move |event| {
        let told = match event {
            Ok(watcher::Event::InitDone) => {
                complete = true;
                true
            }
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) => complete,
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, ?kind, "the edge cannot watch");
                false
            }
        };
        std::future::ready(told.then_some(kind))
    });
    (store, news.boxed())
}
