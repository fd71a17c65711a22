//! The roles of the cluster's own parts and of usual add-ons. The names are those of Kubernetes; the rules of Coracle's
//! own parts are what these parts need.

use serde_json::Value;

use super::roles::{READ, Rule, binding, role};

const EVENTS: Rule = Rule(&["", "events.k8s.io"], &["events"], &["create", "patch", "update"]);
const LEASES: Rule = Rule(
    &["coordination.k8s.io"],
    &["leases"],
    &["create", "get", "list", "patch", "update", "watch"],
);
// What serves a port of its own asks who comes, and what they may.
const REVIEWS: &[Rule] = &[
    Rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
    Rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
];

// Garbage collection and the emptying of namespaces reach every kind.
const CONTROLLERS: &[Rule] = &[
    Rule(
        &["*"],
        &["*"],
        &["get", "list", "watch", "delete", "deletecollection", "patch", "update"],
    ),
    Rule(
        &[""],
        &[
            "configmaps",
            "endpoints",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "pods/eviction",
            "secrets",
            "serviceaccounts",
        ],
        &["create"],
    ),
    Rule(&["apps"], &["replicasets", "controllerrevisions"], &["create"]),
    Rule(&["batch"], &["jobs"], &["create"]),
    Rule(&["discovery.k8s.io"], &["endpointslices"], &["create"]),
    Rule(&["networking.k8s.io"], &["ipaddresses", "servicecidrs"], &["create"]),
    Rule(&["resource.k8s.io"], &["resourceclaims"], &["create"]),
    Rule(&["storage.k8s.io"], &["volumeattachments"], &["create"]),
    Rule(
        &["*"],
        &["*/status", "*/finalizers", "*/scale", "*/finalize"],
        &["get", "patch", "update"],
    ),
    // Aggregated roles hold what others put together; a request for a certificate is approved for its asker.
    Rule(&["rbac.authorization.k8s.io"], &["clusterroles"], &["escalate"]),
    Rule(
        &["certificates.k8s.io"],
        &["certificatesigningrequests/approval"],
        &["get", "patch", "update"],
    ),
    Rule(&["certificates.k8s.io"], &["signers"], &["approve", "sign"]),
    EVENTS,
    LEASES,
];

const SCHEDULER: &[Rule] = &[
    Rule(
        &[""],
        &[
            "namespaces",
            "nodes",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "replicationcontrollers",
            "services",
        ],
        READ,
    ),
    Rule(&["apps"], &["replicasets", "statefulsets"], READ),
    Rule(&["policy"], &["poddisruptionbudgets"], READ),
    Rule(
        &["resource.k8s.io", "scheduling.k8s.io", "storage.k8s.io"],
        &["*"],
        READ,
    ),
    Rule(
        &["resource.k8s.io"],
        &["resourceclaims", "resourceclaims/status"],
        &["patch", "update"],
    ),
    Rule(&[""], &["pods"], &["delete"]),
    Rule(&[""], &["bindings", "pods/binding"], &["create"]),
    Rule(&[""], &["pods/status"], &["patch", "update"]),
    Rule(
        &[""],
        &["persistentvolumeclaims", "persistentvolumes"],
        &["patch", "update"],
    ),
    EVENTS,
    LEASES,
];

/// What every node may do, whatever runs on it. Nobody is bound to this role: nodes have it by being nodes, and what
/// depends on their pods besides.
const NODE: &[Rule] = &[
    Rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
    Rule(
        &["authorization.k8s.io"],
        &["localsubjectaccessreviews", "subjectaccessreviews"],
        &["create"],
    ),
    Rule(&[""], &["services"], READ),
    Rule(
        &[""],
        &["nodes"],
        &["create", "get", "list", "patch", "update", "watch"],
    ),
    Rule(&[""], &["nodes/status"], &["patch", "update"]),
    Rule(&[""], &["pods"], &["create", "delete", "get", "list", "watch"]),
    Rule(&[""], &["pods/status"], &["get", "patch", "update"]),
    Rule(&[""], &["pods/eviction", "serviceaccounts/token"], &["create"]),
    Rule(&[""], &["configmaps", "secrets"], READ),
    Rule(
        &[""],
        &["persistentvolumeclaims", "persistentvolumes", "serviceaccounts"],
        &["get"],
    ),
    Rule(&[""], &["persistentvolumeclaims/status"], &["get", "patch", "update"]),
    Rule(
        &["certificates.k8s.io"],
        &["certificatesigningrequests"],
        &["create", "get", "list", "watch"],
    ),
    Rule(
        &["coordination.k8s.io"],
        &["leases"],
        &["create", "delete", "get", "patch", "update"],
    ),
    Rule(&["node.k8s.io"], &["runtimeclasses"], READ),
    Rule(&["storage.k8s.io"], &["csidrivers"], READ),
    Rule(
        &["storage.k8s.io"],
        &["csinodes"],
        &["create", "delete", "get", "patch", "update"],
    ),
    Rule(&["storage.k8s.io"], &["volumeattachments"], &["get"]),
    EVENTS,
];

// What turns Services into a data path reads Services and their endpoints, on every node under this one name.
const PROXIER: &[Rule] = &[
    Rule(&[""], &["endpoints", "nodes", "services"], READ),
    Rule(&["discovery.k8s.io"], &["endpointslices"], READ),
    Rule(&["networking.k8s.io"], &["servicecidrs"], READ),
    EVENTS,
];

// The pod network enforces policies, on every node and under the name of what turns Services into a data path. Pods of other
// nodes are peers in policies.
const NETWORK: &[Rule] = &[
    Rule(&[""], &["namespaces", "pods"], READ),
    Rule(&["networking.k8s.io"], &["networkpolicies"], READ),
];

// What shows Services and Ingresses at the host's addresses, and says so in their status.
const EDGE: &[Rule] = &[
    Rule(&[""], &["secrets", "services"], READ),
    Rule(&[""], &["services/status"], &["patch", "update"]),
    Rule(&["networking.k8s.io"], &["ingresses"], READ),
    Rule(&["networking.k8s.io"], &["ingresses/status"], &["patch", "update"]),
    Rule(
        &["networking.k8s.io"],
        &["ingressclasses"],
        &["create", "get", "list", "watch"],
    ),
    // The kinds of the Gateway API are custom ones, which the edge makes where a cluster has none, and renews where it made them.
    Rule(
        &["apiextensions.k8s.io"],
        &["customresourcedefinitions"],
        &["create", "get", "list", "watch", "update"],
    ),
    Rule(&[""], &["namespaces"], READ),
    Rule(
        &["gateway.networking.k8s.io"],
        &["gateways", "httproutes", "referencegrants"],
        READ,
    ),
    Rule(
        &["gateway.networking.k8s.io"],
        &["gatewayclasses"],
        &["create", "get", "list", "watch"],
    ),
    Rule(
        &["gateway.networking.k8s.io"],
        &["gatewayclasses/status", "gateways/status", "httproutes/status"],
        &["patch", "update"],
    ),
    EVENTS,
];

const KUBELET_API: &[Rule] = &[
    Rule(&[""], &["nodes"], &["get", "list", "proxy", "watch"]),
    Rule(
        &[""],
        &[
            "nodes/configz",
            "nodes/healthz",
            "nodes/log",
            "nodes/metrics",
            "nodes/pods",
            "nodes/proxy",
            "nodes/stats",
        ],
        &["*"],
    ),
];

const CSR: &[&str] = &["certificates.k8s.io"];
const BOOTSTRAPPER: &[Rule] = &[Rule(
    CSR,
    &["certificatesigningrequests"],
    &["create", "get", "list", "watch"],
)];
const NODE_CLIENT: &[Rule] = &[Rule(CSR, &["certificatesigningrequests/nodeclient"], &["create"])];
const SELF_NODE_CLIENT: &[Rule] = &[Rule(CSR, &["certificatesigningrequests/selfnodeclient"], &["create"])];

const DNS: &[Rule] = &[
    Rule(&[""], &["endpoints", "services"], &["list", "watch"]),
    Rule(&["discovery.k8s.io"], &["endpointslices"], &["list", "watch"]),
];

const PROVISIONER: &[Rule] = &[
    Rule(
        &[""],
        &["persistentvolumes"],
        &["create", "delete", "get", "list", "watch"],
    ),
    Rule(&[""], &["persistentvolumeclaims"], &["get", "list", "update", "watch"]),
    Rule(&["storage.k8s.io"], &["storageclasses"], READ),
    EVENTS,
];

const VOLUME_SCHEDULER: &[Rule] = &[
    Rule(
        &[""],
        &["persistentvolumes"],
        &["get", "list", "patch", "update", "watch"],
    ),
    Rule(&["storage.k8s.io"], &["storageclasses"], READ),
    Rule(
        &[""],
        &["persistentvolumeclaims"],
        &["get", "list", "patch", "update", "watch"],
    ),
];

const PROBLEM_DETECTOR: &[Rule] = &[
    Rule(&[""], &["nodes"], &["get"]),
    Rule(&[""], &["nodes/status"], &["patch"]),
    EVENTS,
];

/// Every role with the bindings that come with it.
pub(super) fn roles() -> Vec<(Value, Vec<Value>)> {
    let of_user =
        |name: &str, user: &str, rules: &[&[Rule]]| (role(name, rules), vec![binding(name, name, &[("User", user)])]);
    let unbound = |name: &str, rules: &[Rule]| (role(name, &[rules]), Vec::new());
    vec![
        of_user(
            "system:kube-controller-manager",
            "system:kube-controller-manager",
            &[CONTROLLERS, REVIEWS],
        ),
        of_user("system:kube-scheduler", "system:kube-scheduler", &[SCHEDULER, REVIEWS]),
        of_user("system:volume-scheduler", "system:kube-scheduler", &[VOLUME_SCHEDULER]),
        of_user("system:node-proxier", "system:kube-proxy", &[PROXIER]),
        of_user("coracle:network", "system:kube-proxy", &[NETWORK]),
        of_user("coracle:edge", "coracle:edge", &[EDGE]),
        (node(), vec![binding("system:node", "system:node", &[])]),
        unbound("system:auth-delegator", REVIEWS),
        unbound("system:kube-aggregator", DNS),
        unbound("system:kube-dns", DNS),
        unbound("system:kubelet-api-admin", KUBELET_API),
        unbound("system:node-bootstrapper", BOOTSTRAPPER),
        unbound("system:node-problem-detector", PROBLEM_DETECTOR),
        unbound("system:persistent-volume-provisioner", PROVISIONER),
        unbound(
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            NODE_CLIENT,
        ),
        unbound(
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            SELF_NODE_CLIENT,
        ),
    ]
    .into_iter()
    .chain(approvers())
    .collect()
}

/// Who approves requests for certificates, one role for each built-in signer.
fn approvers() -> Vec<(Value, Vec<Value>)> {
    let signers = [
        "kube-apiserver-client",
        "kube-apiserver-client-kubelet",
        "kubelet-serving",
        "legacy-unknown",
    ];
    let approver = |signer: &str| {
        let name = format!("system:certificates.k8s.io:{signer}-approver");
        let mut approver = role(&name, &[]);
        let rule = serde_json::json!({
            "apiGroups": CSR, "resources": ["signers"], "resourceNames": [format!("kubernetes.io/{signer}")],
            "verbs": ["approve"],
        });
        coracle_api::object::set(&mut approver, "rules", serde_json::json!([rule]));
        (approver, Vec::new())
    };
    signers.into_iter().map(approver).collect()
}

/// The role of nodes.
pub(crate) fn node() -> Value {
    role("system:node", &[NODE])
}
