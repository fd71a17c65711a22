//! What a watch has brought: objects by namespace and name. A list under way replaces them when it is complete, so that
//! nobody acts on half of it when a watch begins anew.

use kube::runtime::watcher;
use std::collections::BTreeMap;

/// Namespace and name.
pub type Key = (String, String);

/// The objects as they are known, each as what was made of it.
#[derive(Debug)]
pub struct Listing<V> {
    now: BTreeMap<Key, V>,
    coming: BTreeMap<Key, V>,
    complete: bool,
}

impl<V> Default for Listing<V> {
    fn default() -> Self {
        Self {
            now: BTreeMap::new(),
            coming: BTreeMap::new(),
            complete: false,
        }
    }
}

impl<V> Listing<V> {
    /// Takes an event in; objects of which nothing is `made` are as good as absent.
    pub fn take<K: kube::Resource>(&mut self, event: watcher::Event<K>, made: impl Fn(&K) -> Option<V>) {
        match event {
            watcher::Event::Init => self.coming.clear(),
            watcher::Event::InitApply(object) => {
                if let Some(value) = made(&object) {
                    self.coming.insert(key(object.meta()), value);
                }
            }
            watcher::Event::InitDone => {
                self.now = std::mem::take(&mut self.coming);
                self.complete = true;
            }
            watcher::Event::Apply(object) => match made(&object) {
                Some(value) => {
                    self.now.insert(key(object.meta()), value);
                }
                None => {
                    self.now.remove(&key(object.meta()));
                }
            },
            watcher::Event::Delete(object) => {
                self.now.remove(&key(object.meta()));
            }
        }
    }

    /// Whether a list has ever been complete.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The objects.
    pub fn all(&self) -> &BTreeMap<Key, V> {
        &self.now
    }
}

fn key(metadata: &kube::core::ObjectMeta) -> Key {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Namespace;
    use kube::runtime::watcher::Event;

    fn names(listing: &Listing<()>) -> Vec<&str> {
        listing.all().keys().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn a_list_under_way_is_not_seen() {
        let object = |name: &str| {
            let mut namespace = Namespace::default();
            namespace.metadata.name = Some(name.to_owned());
            namespace
        };
        let mut listing = Listing::default();
        let take = |listing: &mut Listing<()>, event| listing.take(event, |_| Some(()));
        take(&mut listing, Event::Init);
        take(&mut listing, Event::InitApply(object("a")));
        assert!(!listing.is_complete() && names(&listing).is_empty());
        take(&mut listing, Event::InitDone);
        take(&mut listing, Event::Apply(object("b")));
        assert!(listing.is_complete());
        take(&mut listing, Event::Init);
        take(&mut listing, Event::InitApply(object("c")));
        assert_eq!(names(&listing), ["a", "b"]);
        take(&mut listing, Event::InitDone);
        assert_eq!(names(&listing), ["c"]);
        take(&mut listing, Event::Delete(object("c")));
        assert!(names(&listing).is_empty());
    }
}
