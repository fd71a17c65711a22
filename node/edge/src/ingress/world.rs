//! The objects that the ingress follows: ingresses, their classes, and the Secrets with certificates.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Api, Client};

use crate::follow::watch;

/// The annotation that named the class before there was a field.
const OLD_CLASS: &str = "kubernetes.io/ingress.class";

/// The objects, as watches bring them. A list under way is not seen before it is complete.
pub struct World {
    ingresses: Store<Ingress>,
    classes: Store<IngressClass>,
    secrets: Store<Secret>,
    /// Which of the three has news.
    news: BoxStream<'static, Kind>,
    listed: BTreeSet<Kind>,
    held: Vec<Arc<Secret>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Ingress,
    Class,
    Secret,
}

impl World {
    /// Begins to watch.
    pub fn new(client: &Client) -> Self {
        let all = watcher::Config::default();
        let (ingresses, of_ingresses) = watch::<Ingress, _>(Api::all(client.clone()), (), all.clone(), Kind::Ingress);
        let (classes, of_classes) = watch::<IngressClass, _>(Api::all(client.clone()), (), all.clone(), Kind::Class);
        let tls = all.fields("type=kubernetes.io/tls");
        let (secrets, of_secrets) = watch::<Secret, _>(Api::all(client.clone()), (), tls, Kind::Secret);
        Self {
            ingresses,
            classes,
            secrets,
            news: futures::stream::select_all([of_ingresses, of_classes, of_secrets]).boxed(),
            listed: BTreeSet::new(),
            held: Vec::new(),
        }
    }

    /// Waits until something has changed and all lists are known; false when nothing will any more.
    pub async fn changed(&mut self) -> bool {
        loop {
            let Some(kind) = self.news.next().await else {
                return false;
            };
            self.listed.insert(kind);
            // What has already arrived belongs to the same change.
            while let Some(Some(kind)) = self.news.next().now_or_never() {
                self.listed.insert(kind);
            }
            if self.listed.len() == 3 {
                self.held = self.secrets.state();
                return true;
            }
        }
    }

    /// The ingresses whose class is of this controller, the oldest first.
    pub fn ingresses(&self, controller: &str) -> Vec<Arc<Ingress>> {
        let classes: Vec<Arc<IngressClass>> = self.classes.state();
        let of_controller = |class: &&Arc<IngressClass>| {
            class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) == Some(controller)
        };
        let ours: Vec<&str> = classes
            .iter()
            .filter(of_controller)
            .filter_map(|class| class.metadata.name.as_deref())
            .collect();
        let mut ingresses = self.ingresses.state();
        ingresses.retain(|ingress| class(ingress).is_some_and(|class| ours.contains(&class)));
        ingresses.sort_by_cached_key(|ingress| ingress.metadata.creation_timestamp.as_ref().map(|time| time.0));
        ingresses
    }

    /// A Secret with a certificate, as it was at the last change.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        let mut held = self.held.iter();
        let found = held.find(|secret| {
            secret.metadata.name.as_deref() == Some(name) && secret.metadata.namespace.as_deref() == Some(namespace)
        })?;
        Some(found)
    }
}

fn class(ingress: &Ingress) -> Option<&str> {
    let named = ingress
        .spec
        .as_ref()
        .and_then(|spec| spec.ingress_class_name.as_deref());
    let annotated = || {
        ingress
            .metadata
            .annotations
            .as_ref()?
            .get(OLD_CLASS)
            .map(String::as_str)
    };
    named.or_else(annotated)
}
