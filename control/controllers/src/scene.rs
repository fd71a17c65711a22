//! Worlds for tests, built from objects as they would be written in a manifest.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    graph::Node,
    informer::Informer,
    resource,
    store::Object,
    world::{Facts, Informers, World},
};

/// The time in tests that need none in particular.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// A world that is built up.
pub struct Scene {
    informers: Informers,
    world: World,
}

impl Default for Scene {
    fn default() -> Self {
        let informers = Informers::new();
        let world = informers.world(Facts::default());
        informers.feed(&world.graph);
        Self { informers, world }
    }
}

impl Scene {
    pub fn facts(mut self, facts: Facts) -> Self {
        self.world.facts = facts.into();
        self
    }

    /// Adds or replaces an object.
    pub fn with(self, object: Value) -> Self {
        self.put(object);
        self
    }

    pub fn put(&self, object: Value) {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let i = &self.informers;
        match kind.as_str() {
            "ConfigMap" => see(&i.config_maps, object),
            "Deployment" => see(&i.deployments, object),
            "EndpointSlice" => see(&i.endpoint_slices, object),
            "Endpoints" => see(&i.endpoints, object),
            "Lease" => see(&i.leases, object),
            "Namespace" => see(&i.namespaces, object),
            "Node" => see(&i.nodes, object),
            "Pod" => see(&i.pods, object),
            "ReplicaSet" => see(&i.replica_sets, object),
            "Service" => see(&i.services, object),
            "ServiceAccount" => see(&i.service_accounts, object),
            // Of other kinds only the metadata is of interest.
            other => {
                let resource = resource::Resource {
                    group: "".into(),
                    version: "v1".into(),
                    kind: other.to_owned().into(),
                    plural: format!("{}s", other.to_lowercase()).into(),
                    namespaced: object["metadata"]["namespace"].is_string(),
                };
                let meta = serde_json::from_value(object["metadata"].clone()).unwrap();
                self.world.graph.put(Node::of(&resource.into(), &meta));
            }
        }
    }

    pub fn remove<K: Object>(&self, informer: impl Fn(&Informers) -> &Informer<K>, object: &K) {
        informer(&self.informers).forget(object);
    }

    pub fn world(&self) -> &World {
        &self.world
    }
}

fn see<K: Object>(informer: &Informer<K>, object: Value) {
    informer.see(serde_json::from_value(object).unwrap());
}
