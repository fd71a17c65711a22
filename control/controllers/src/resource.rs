//! Where a kind lives in the API: what a typed client knows at compile time, as a value.

use std::borrow::Cow;

/// One kind as the API serves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// The version within the group.
    pub version: Cow<'static, str>,
    /// The kind, `Pod`.
    pub kind: Cow<'static, str>,
    /// The name in URLs, `pods`.
    pub plural: Cow<'static, str>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// A built-in kind.
    #[must_use]
    pub const fn builtin(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
        namespaced: bool,
    ) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            plural: Cow::Borrowed(plural),
            namespaced,
        }
    }

    /// `v1` or `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of the collection, in one namespace or (empty namespace) over all of them.
    #[must_use]
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced && !namespace.is_empty() {
            format!("{root}/namespaces/{namespace}/{}", self.plural)
        } else {
            format!("{root}/{}", self.plural)
        }
    }
}

/// Requests for certificates.
pub const CERTIFICATE_SIGNING_REQUESTS: Resource = Resource::builtin(
    "certificates.k8s.io",
    "v1",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    false,
);
/// ClusterRoles.
pub const CLUSTER_ROLES: Resource =
    Resource::builtin("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", false);
/// ConfigMaps.
pub const CONFIG_MAPS: Resource = Resource::builtin("", "v1", "ConfigMap", "configmaps", true);
/// ControllerRevisions.
pub const CONTROLLER_REVISIONS: Resource =
    Resource::builtin("apps", "v1", "ControllerRevision", "controllerrevisions", true);
/// CSINodes.
pub const CSI_NODES: Resource = Resource::builtin("storage.k8s.io", "v1", "CSINode", "csinodes", false);
/// CronJobs.
pub const CRON_JOBS: Resource = Resource::builtin("batch", "v1", "CronJob", "cronjobs", true);
/// DaemonSets.
pub const DAEMON_SETS: Resource = Resource::builtin("apps", "v1", "DaemonSet", "daemonsets", true);
/// Definitions of custom kinds.
pub const DEFINITIONS: Resource = Resource::builtin(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    false,
);
/// Deployments.
pub const DEPLOYMENTS: Resource = Resource::builtin("apps", "v1", "Deployment", "deployments", true);
/// EndpointSlices.
pub const ENDPOINT_SLICES: Resource =
    Resource::builtin("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true);
/// Classes of devices.
pub const DEVICE_CLASSES: Resource = Resource::builtin("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", false);
/// Endpoints, the older form of EndpointSlices.
pub const ENDPOINTS: Resource = Resource::builtin("", "v1", "Endpoints", "endpoints", true);
/// Events.
pub const EVENTS: Resource = Resource::builtin("", "v1", "Event", "events", true);
/// HorizontalPodAutoscalers.
pub const HORIZONTAL_POD_AUTOSCALERS: Resource = Resource::builtin(
    "autoscaling",
    "v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    true,
);
/// Jobs.
pub const JOBS: Resource = Resource::builtin("batch", "v1", "Job", "jobs", true);
/// Leases.
pub const LEASES: Resource = Resource::builtin("coordination.k8s.io", "v1", "Lease", "leases", true);
/// Namespaces.
pub const NAMESPACES: Resource = Resource::builtin("", "v1", "Namespace", "namespaces", false);
/// Nodes.
pub const NODES: Resource = Resource::builtin("", "v1", "Node", "nodes", false);
/// PersistentVolumeClaims.
pub const PERSISTENT_VOLUME_CLAIMS: Resource =
    Resource::builtin("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true);
/// PersistentVolumes.
pub const PERSISTENT_VOLUMES: Resource = Resource::builtin("", "v1", "PersistentVolume", "persistentvolumes", false);
/// PodDisruptionBudgets.
pub const POD_DISRUPTION_BUDGETS: Resource =
    Resource::builtin("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true);
/// Pods.
pub const PODS: Resource = Resource::builtin("", "v1", "Pod", "pods", true);
/// ReplicaSets.
pub const REPLICA_SETS: Resource = Resource::builtin("apps", "v1", "ReplicaSet", "replicasets", true);
/// ReplicationControllers.
pub const REPLICATION_CONTROLLERS: Resource =
    Resource::builtin("", "v1", "ReplicationController", "replicationcontrollers", true);
/// Claims to devices.
pub const RESOURCE_CLAIMS: Resource =
    Resource::builtin("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", true);
/// Templates of claims to devices.
pub const RESOURCE_CLAIM_TEMPLATES: Resource = Resource::builtin(
    "resource.k8s.io",
    "v1",
    "ResourceClaimTemplate",
    "resourceclaimtemplates",
    true,
);
/// ResourceQuotas.
pub const RESOURCE_QUOTAS: Resource = Resource::builtin("", "v1", "ResourceQuota", "resourcequotas", true);
/// What drivers tell of their devices.
pub const RESOURCE_SLICES: Resource =
    Resource::builtin("resource.k8s.io", "v1", "ResourceSlice", "resourceslices", false);
/// Secrets.
pub const SECRETS: Resource = Resource::builtin("", "v1", "Secret", "secrets", true);
/// ServiceAccounts.
pub const SERVICE_ACCOUNTS: Resource = Resource::builtin("", "v1", "ServiceAccount", "serviceaccounts", true);
/// Services.
pub const SERVICES: Resource = Resource::builtin("", "v1", "Service", "services", true);
/// StatefulSets.
pub const STATEFUL_SETS: Resource = Resource::builtin("apps", "v1", "StatefulSet", "statefulsets", true);

/// StorageClasses.
pub const STORAGE_CLASSES: Resource =
    Resource::builtin("storage.k8s.io", "v1", "StorageClass", "storageclasses", false);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_group_and_scope() {
        assert_eq!(PODS.path("a"), "/api/v1/namespaces/a/pods");
        assert_eq!(PODS.path(""), "/api/v1/pods");
        assert_eq!(DEPLOYMENTS.path("a"), "/apis/apps/v1/namespaces/a/deployments");
        assert_eq!(NODES.path(""), "/api/v1/nodes");
        assert_eq!(DEPLOYMENTS.api_version(), "apps/v1");
    }
}
