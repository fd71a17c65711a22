//! The objects that gateways follow, as watches bring them.

use std::collections::BTreeSet;
use std::sync::Arc;

use coracle_net::Fabric;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Object, ObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_stream::wrappers::WatchStream;

use super::CONTROLLER;
use super::objects::{Gateway, GatewayClass, HttpRoute, Namespaces, ReferenceGrant, resource};
use crate::follow::watch;

/// The objects.
pub struct World {
    classes: Store<GatewayClass>,
    gateways: Store<Gateway>,
    routes: Store<HttpRoute>,
    grants: Store<ReferenceGrant>,
    namespaces: Store<Namespace>,
    secrets: Store<Secret>,
    news: BoxStream<'static, Kind>,
    listed: BTreeSet<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Class,
    Gateway,
    Route,
    Grant,
    Namespace,
    Secret,
    /// What the network knows of services; it is always known.
    Services,
}

impl World {
    /// Begins to watch; the network says when services change.
    pub fn new(client: &Client, fabric: &Fabric) -> Self {
        let all = watcher::Config::default();
        let (classes, of_classes) = ours(client, "v1", "GatewayClass", "gatewayclasses", Kind::Class);
        let (gateways, of_gateways) = ours(client, "v1", "Gateway", "gateways", Kind::Gateway);
        let (routes, of_routes) = ours(client, "v1", "HTTPRoute", "httproutes", Kind::Route);
        let (grants, of_grants) = ours(client, "v1beta1", "ReferenceGrant", "referencegrants", Kind::Grant);
        let (namespaces, of_namespaces) = watch(Api::all(client.clone()), (), all.clone(), Kind::Namespace);
        let tls = all.fields("type=kubernetes.io/tls");
        let (secrets, of_secrets) = watch(Api::all(client.clone()), (), tls, Kind::Secret);
        let services = WatchStream::new(fabric.changes()).map(|_| Kind::Services).boxed();
        Self {
            classes,
            gateways,
            routes,
            grants,
            namespaces,
            secrets,
            news: futures::stream::select_all([
                of_classes,
                of_gateways,
                of_routes,
                of_grants,
                of_namespaces,
                of_secrets,
                services,
            ])
            .boxed(),
            listed: BTreeSet::new(),
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
            if self.listed.len() == 7 {
                return true;
            }
        }
    }

    /// The classes of this controller.
    pub fn classes(&self) -> Vec<Arc<GatewayClass>> {
        let mut classes = self.classes.state();
        classes.retain(|class| class.spec.controller_name == CONTROLLER);
        classes
    }

    /// The gateways of these classes, the oldest first.
    pub fn gateways(&self) -> Vec<Arc<Gateway>> {
        let classes: Vec<String> = self.classes().iter().map(|class| class.name_any()).collect();
        let mut gateways = self.gateways.state();
        gateways.retain(|gateway| classes.contains(&gateway.spec.gateway_class_name));
        gateways.sort_by_cached_key(|gateway| age(&gateway.metadata));
        gateways
    }

    /// All routes, the oldest first.
    pub fn routes(&self) -> Vec<Arc<HttpRoute>> {
        let mut routes = self.routes.state();
        routes.sort_by_cached_key(|route| age(&route.metadata));
        routes
    }

    /// All grants.
    pub fn grants(&self) -> Vec<Arc<ReferenceGrant>> {
        self.grants.state()
    }

    /// The labels of namespaces.
    pub fn namespaces(&self) -> Namespaces {
        let namespaces = self.namespaces.state();
        namespaces
            .iter()
            .map(|namespace| (namespace.name_any(), namespace.labels().clone()))
            .collect()
    }

    /// A Secret with a certificate.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        self.secrets.get(&ObjectRef::new(name).within(namespace))
    }
}

fn age(metadata: &ObjectMeta) -> impl Ord + use<> {
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, metadata.namespace.clone(), metadata.name.clone())
}

type Ours<S> = Object<S, Value>;

fn ours<S>(
    client: &Client,
    version: &str,
    kind: &str,
    plural: &str,
    told: Kind,
) -> (Store<Ours<S>>, BoxStream<'static, Kind>)
where
    S: Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let resource = resource(version, kind, plural);
    let api = Api::all_with(client.clone(), &resource);
    watch(api, resource, watcher::Config::default(), told)
}
