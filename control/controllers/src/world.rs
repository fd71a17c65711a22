//! What the controllers see: one store per kind, and the graph of who owns whom over all kinds.
//!
//! The table at the end of this file is the one place that names a kind that controllers follow; stores, informers and
//! the ways to watch are derived from it. A world is only ever read by reconcilers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::{CronJob, Job},
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{
        ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
        ResourceQuota, Secret, Service, ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    rbac::v1::ClusterRole,
    resource::v1::{DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice},
    storage::v1::{CSINode, StorageClass},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    graph::{Graph, GraphChange},
    informer::{Informer, Scope},
    key::Key,
    node_ipam::Network,
    resource::{self, Resource},
    store::{Change, Store},
};

/// Maps a change of some object to the keys of those whom it concerns.
pub type Concerns<K> = fn(&Change<K>, &World, &mut Vec<Key>);

/// Facts about the cluster that no object tells.
#[derive(Clone, Debug)]
pub struct Facts {
    /// PEM of the certificate authority to publish, if there is one.
    pub root_ca_pem: Option<String>,
    /// How often an autoscaler looks at its metrics.
    pub autoscaler_period: SignedDuration,
    /// From where nodes that bring no pod network along get one, if they are to get one here.
    pub node_networks: Option<Network>,
    /// How many seconds a node may be silent before it is taken for lost.
    pub node_grace_seconds: i64,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            root_ca_pem: None,
            autoscaler_period: AUTOSCALER_PERIOD,
            node_networks: None,
            node_grace_seconds: GRACE_SECONDS,
        }
    }
}

/// How long a node may be silent: five renewals of ten seconds, as in Kubernetes.
const GRACE_SECONDS: i64 = 50;
/// How often autoscalers look, as in Kubernetes.
const AUTOSCALER_PERIOD: SignedDuration = SignedDuration::from_secs(15);

/// The keys that a mapping finds. One that panics over a change must not end the informer, which serves all controllers; it
/// is as if the change concerned those alone that were found before.
fn mapped(concerns: impl FnOnce(&mut Vec<Key>)) -> Vec<Key> {
    let mut keys = Vec::new();
    if catch_unwind(AssertUnwindSafe(|| concerns(&mut keys))).is_err() {
        tracing::error!("a controller panicked over a change of an object");
    }
    keys
}

macro_rules! kinds {
    ($($field:ident: $kind:ident in $scope:expr;)*) => {
        /// All that a reconciler may look at.
        #[derive(Clone, Default)]
        pub struct World {
            $(
                #[doc = concat!("All known objects of kind ", stringify!($kind), ".")]
                pub $field: Arc<Store<$kind>>,
            )*
            /// Who owns whom.
            pub graph: Arc<Graph>,
            /// What no object tells.
            pub facts: Arc<Facts>,
        }

        /// The informers behind a [`World`].
        pub struct Informers {
            $(
                #[doc = concat!("Follows objects of kind ", stringify!($kind), ".")]
                pub $field: Arc<Informer<$kind>>,
            )*
        }

        /// A kind whose changes concern a controller, with the mapping to its keys.
        pub enum Watch {
            $(
                #[doc = concat!("Changes of objects of kind ", stringify!($kind), ".")]
                $kind(Concerns<$kind>),
            )*
            /// Changes in the graph of owners, over all kinds.
            Graph(fn(&GraphChange, &World, &mut Vec<Key>)),
        }

        impl Informers {
            /// Informers that have seen nothing yet.
            #[must_use]
            pub fn new() -> Self {
                Self { $($field: Arc::new(Informer::new($scope)),)* }
            }

            /// The world that they keep up to date.
            #[must_use]
            pub fn world(&self, facts: Facts) -> World {
                World {
                    $($field: self.$field.store().clone(),)*
                    graph: Arc::default(),
                    facts: Arc::new(facts),
                }
            }

            /// Starts those whose kind the server offers. The others count as seen: there is nothing of them.
            pub fn start(
                &self,
                offered: &[Resource],
                client: &kube::Client,
                tasks: &TaskTracker,
                shutdown: &CancellationToken,
            ) {
                $(if offered.contains(&($scope).resource) {
                    let (informer, client, shutdown) = (self.$field.clone(), client.clone(), shutdown.clone());
                    tasks.spawn(async move { informer.run(client, shutdown).await });
                } else {
                    self.$field.store().has_nothing();
                })*
            }

            /// Calls `enqueue` with the keys that a change of a watched kind concerns.
            pub fn subscribe(
                &self,
                watch: &Watch,
                world: &World,
                enqueue: impl Fn(Key) + Send + Sync + 'static,
            ) {
                let world = world.clone();
                match *watch {
                    $(Watch::$kind(concerns) => self.$field.subscribe(move |change| {
                        mapped(|keys| concerns(change, &world, keys)).into_iter().for_each(&enqueue);
                    }),)*
                    Watch::Graph(concerns) => {
                        let graph = world.graph.clone();
                        graph.subscribe(move |change| {
                            mapped(|keys| concerns(change, &world, keys)).into_iter().for_each(&enqueue);
                        });
                    }
                }
            }

            /// Feeds the graph from the informers that follow all objects of a kind that the server offers; returns those
            /// kinds.
            pub fn feed(&self, graph: &Arc<Graph>, offered: impl Fn(&Resource) -> bool) -> Vec<Resource> {
                let mut fed = Vec::new();
                $({
                    let scope: Scope = $scope;
                    if scope.namespace.is_empty() && scope.fields.is_empty() && offered(&scope.resource) {
                        graph.follow(&self.$field, &scope.resource);
                        fed.push(scope.resource);
                    }
                })*
                fed
            }
        }

        impl Default for Informers {
            fn default() -> Self {
                Self::new()
            }
        }

        impl World {
            /// Waits until each kind has been listed once.
            pub async fn synced(&self) {
                $(self.$field.wait_for(1, Duration::MAX).await;)*
            }

            /// Waits until everything of that kind up to `revision` has been seen; false if that takes longer than
            /// `limit`. Kinds that are not followed are never waited for.
            pub async fn wait_for(&self, kind: &Resource, revision: u64, limit: Duration) -> bool {
                $(if *kind == ($scope).resource {
                    return self.$field.wait_for(revision, limit).await;
                })*
                true
            }

            /// Has a kind listed anew whose watch does not tell of what is known to be there.
            pub fn doubt(&self, kind: &Resource) {
                $(if *kind == ($scope).resource {
                    self.$field.doubt();
                })*
            }

            /// Waits until the object with that uid is gone or on its way out, like [`World::wait_for`].
            pub async fn wait_for_end(&self, kind: &Resource, key: &Key, uid: &str, limit: Duration) -> bool {
                $(if *kind == ($scope).resource {
                    return self.$field.wait_for_end(key, uid, limit).await;
                })*
                true
            }
        }
    };
}

kinds! {
    certificate_signing_requests: CertificateSigningRequest in Scope::all(resource::CERTIFICATE_SIGNING_REQUESTS);
    cluster_roles: ClusterRole in Scope::all(resource::CLUSTER_ROLES);
    config_maps: ConfigMap in Scope { fields: "metadata.name=kube-root-ca.crt", ..Scope::all(resource::CONFIG_MAPS) };
    controller_revisions: ControllerRevision in Scope::all(resource::CONTROLLER_REVISIONS);
    cron_jobs: CronJob in Scope::all(resource::CRON_JOBS);
    csi_nodes: CSINode in Scope::all(resource::CSI_NODES);
    daemon_sets: DaemonSet in Scope::all(resource::DAEMON_SETS);
    deployments: Deployment in Scope::all(resource::DEPLOYMENTS);
    device_classes: DeviceClass in Scope::all(resource::DEVICE_CLASSES);
    endpoint_slices: EndpointSlice in Scope::all(resource::ENDPOINT_SLICES);
    endpoints: Endpoints in Scope::all(resource::ENDPOINTS);
    horizontal_pod_autoscalers: HorizontalPodAutoscaler in Scope::all(resource::HORIZONTAL_POD_AUTOSCALERS);
    jobs: Job in Scope::all(resource::JOBS);
    leases: Lease in Scope { namespace: "kube-node-lease", ..Scope::all(resource::LEASES) };
    namespaces: Namespace in Scope::all(resource::NAMESPACES);
    nodes: Node in Scope::all(resource::NODES);
    persistent_volume_claims: PersistentVolumeClaim in Scope::all(resource::PERSISTENT_VOLUME_CLAIMS);
    persistent_volumes: PersistentVolume in Scope::all(resource::PERSISTENT_VOLUMES);
    pod_disruption_budgets: PodDisruptionBudget in Scope::all(resource::POD_DISRUPTION_BUDGETS);
    pods: Pod in Scope::all(resource::PODS);
    replica_sets: ReplicaSet in Scope::all(resource::REPLICA_SETS);
    replication_controllers: ReplicationController in Scope::all(resource::REPLICATION_CONTROLLERS);
    resource_claim_templates: ResourceClaimTemplate in Scope::all(resource::RESOURCE_CLAIM_TEMPLATES);
    resource_claims: ResourceClaim in Scope::all(resource::RESOURCE_CLAIMS);
    resource_quotas: ResourceQuota in Scope::all(resource::RESOURCE_QUOTAS);
    resource_slices: ResourceSlice in Scope::all(resource::RESOURCE_SLICES);
    secrets: Secret in Scope {
        namespace: "kube-system", fields: "type=bootstrap.kubernetes.io/token", ..Scope::all(resource::SECRETS)
    };
    service_accounts: ServiceAccount in Scope::all(resource::SERVICE_ACCOUNTS);
    services: Service in Scope::all(resource::SERVICES);
    stateful_sets: StatefulSet in Scope::all(resource::STATEFUL_SETS);
    storage_classes: StorageClass in Scope::all(resource::STORAGE_CLASSES);
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn a_mapping_that_panics_leaves_its_informer_and_the_others_working() {
        let (informers, found) = (Informers::new(), Arc::new(Mutex::new(Vec::new())));
        let world = informers.world(Facts::default());
        let fragile = Watch::Pod(|change, _, keys| {
            let pod = change.latest().unwrap();
            assert!(
                pod.metadata.name.as_deref() != Some("bad"),
                "met the object it cannot handle"
            );
            keys.push(Key::of(&pod.metadata));
        });
        let sturdy = Watch::Pod(|change, _, keys| keys.extend(change.latest().map(|pod| Key::of(&pod.metadata))));
        for (who, watch) in [("fragile", fragile), ("sturdy", sturdy)] {
            let found = found.clone();
            informers.subscribe(&watch, &world, move |key| {
                found.lock().push((who, key.name.to_string()))
            });
        }
        for name in ["bad", "good"] {
            let mut pod = Pod::default();
            pod.metadata.name = Some(name.to_owned());
            informers.pods.see(pod);
        }
        let all = [("sturdy", "bad"), ("fragile", "good"), ("sturdy", "good")];
        assert_eq!(*found.lock(), all.map(|(who, name)| (who, name.to_owned())));
    }
}
