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

macro_rules! by_kind {
    ($tell:ident, $informers:expr, $object:ident, $other:block) => {
        match $object["kind"].as_str().unwrap() {
            "CertificateSigningRequest" => $tell(&($informers).certificate_signing_requests, $object),
            "ClusterRole" => $tell(&($informers).cluster_roles, $object),
            "ConfigMap" => $tell(&($informers).config_maps, $object),
            "ControllerRevision" => $tell(&($informers).controller_revisions, $object),
            "CronJob" => $tell(&($informers).cron_jobs, $object),
            "DaemonSet" => $tell(&($informers).daemon_sets, $object),
            "Deployment" => $tell(&($informers).deployments, $object),
            "EndpointSlice" => $tell(&($informers).endpoint_slices, $object),
            "Endpoints" => $tell(&($informers).endpoints, $object),
            "HorizontalPodAutoscaler" => $tell(&($informers).horizontal_pod_autoscalers, $object),
            "Job" => $tell(&($informers).jobs, $object),
            "Lease" => $tell(&($informers).leases, $object),
            "Namespace" => $tell(&($informers).namespaces, $object),
            "Node" => $tell(&($informers).nodes, $object),
            "PersistentVolume" => $tell(&($informers).persistent_volumes, $object),
            "PersistentVolumeClaim" => $tell(&($informers).persistent_volume_claims, $object),
            "Pod" => $tell(&($informers).pods, $object),
            "PodDisruptionBudget" => $tell(&($informers).pod_disruption_budgets, $object),
            "ReplicaSet" => $tell(&($informers).replica_sets, $object),
            "ReplicationController" => $tell(&($informers).replication_controllers, $object),
            "ResourceClaim" => $tell(&($informers).resource_claims, $object),
            "ResourceClaimTemplate" => $tell(&($informers).resource_claim_templates, $object),
            "ResourceQuota" => $tell(&($informers).resource_quotas, $object),
            "Secret" => $tell(&($informers).secrets, $object),
            "Service" => $tell(&($informers).services, $object),
            "ServiceAccount" => $tell(&($informers).service_accounts, $object),
            "StatefulSet" => $tell(&($informers).stateful_sets, $object),
            "StorageClass" => $tell(&($informers).storage_classes, $object),
            _ => $other,
        }
    };
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
        informers.feed(&world.graph, |_| true);
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
        by_kind!(see, &self.informers, object, {
            // Of other kinds only the metadata is of interest.
            let kind = object["kind"].as_str().unwrap().to_owned();
            let resource = resource::Resource {
                group: "".into(),
                version: "v1".into(),
                plural: format!("{}s", kind.to_lowercase()).into(),
                kind: kind.into(),
                namespaced: object["metadata"]["namespace"].is_string(),
            };
            let meta = serde_json::from_value(object["metadata"].clone()).unwrap();
            self.world.graph.put(Node::of(&resource.into(), &meta));
        });
    }

    /// Takes an object away.
    pub fn forget(&self, object: Value) {
        by_kind!(forget, &self.informers, object, {
            self.world.graph.remove(object["metadata"]["uid"].as_str().unwrap());
        });
    }

    pub fn remove<K: Object>(&self, informer: impl Fn(&Informers) -> &Informer<K>, object: &K) {
        informer(&self.informers).forget(object);
    }

    pub fn world(&self) -> &World {
        &self.world
    }
}

fn forget<K: Object>(informer: &Informer<K>, object: Value) {
    informer.forget(&serde_json::from_value(object).unwrap());
}

fn see<K: Object>(informer: &Informer<K>, object: Value) {
    informer.see(serde_json::from_value(object).unwrap());
}
