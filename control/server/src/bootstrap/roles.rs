//! The roles that every cluster has, under the names of Kubernetes: those for people and for everybody here, those for
//! the cluster's own parts in [`components`](super::components).
//!
//! What people may do is put together from parts by labels, so that whoever adds kinds to a cluster adds them to `view`,
//! `edit` and `admin` by labelling a role.

use serde_json::{Value, json};

/// A rule: groups, resources, verbs.
pub(super) struct Rule(
    pub(super) &'static [&'static str],
    pub(super) &'static [&'static str],
    pub(super) &'static [&'static str],
);

pub(super) const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const READ_WRITE: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
pub(super) const RBAC: &str = "rbac.authorization.k8s.io";

const VIEW: &[Rule] = &[
    Rule(
        &[""],
        &[
            "bindings",
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "namespaces",
            "namespaces/status",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
            "pods",
            "pods/log",
            "pods/status",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "replicationcontrollers/status",
            "resourcequotas",
            "resourcequotas/status",
            "serviceaccounts",
            "services",
            "services/status",
        ],
        READ,
    ),
    Rule(
        &["apps"],
        &[
            "controllerrevisions",
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "statefulsets",
            "statefulsets/scale",
            "statefulsets/status",
        ],
        READ,
    ),
    Rule(
        &["autoscaling"],
        &["horizontalpodautoscalers", "horizontalpodautoscalers/status"],
        READ,
    ),
    Rule(
        &["batch"],
        &["cronjobs", "cronjobs/status", "jobs", "jobs/status"],
        READ,
    ),
    Rule(&["discovery.k8s.io"], &["endpointslices"], READ),
    Rule(&["events.k8s.io"], &["events"], READ),
    Rule(&["metrics.k8s.io"], &["nodes", "pods"], READ),
    Rule(
        &["gateway.networking.k8s.io"],
        &[
            "gateways",
            "gateways/status",
            "httproutes",
            "httproutes/status",
            "referencegrants",
        ],
        READ,
    ),
    Rule(
        &["networking.k8s.io"],
        &["ingresses", "ingresses/status", "networkpolicies"],
        READ,
    ),
    Rule(
        &["policy"],
        &["poddisruptionbudgets", "poddisruptionbudgets/status"],
        READ,
    ),
    Rule(
        &["resource.k8s.io"],
        &["resourceclaims", "resourceclaims/status", "resourceclaimtemplates"],
        READ,
    ),
];

const EDIT: &[Rule] = &[
    Rule(
        &[""],
        &[
            "pods/attach",
            "pods/exec",
            "pods/portforward",
            "pods/proxy",
            "secrets",
            "services/proxy",
        ],
        READ,
    ),
    Rule(&[""], &["serviceaccounts"], &["impersonate"]),
    Rule(&[""], &["pods/eviction", "serviceaccounts/token"], &["create"]),
    Rule(
        &[""],
        &[
            "configmaps",
            "events",
            "persistentvolumeclaims",
            "pods",
            "pods/attach",
            "pods/exec",
            "pods/portforward",
            "pods/proxy",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "secrets",
            "serviceaccounts",
            "services",
            "services/proxy",
        ],
        WRITE,
    ),
    Rule(
        &[""],
        &["pods/resize", "pods/ephemeralcontainers"],
        &["patch", "update"],
    ),
    Rule(
        &["apps"],
        &[
            "daemonsets",
            "deployments",
            "deployments/rollback",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
        WRITE,
    ),
    Rule(&["autoscaling"], &["horizontalpodautoscalers"], WRITE),
    Rule(&["batch"], &["cronjobs", "jobs"], WRITE),
    Rule(&["coordination.k8s.io"], &["leases"], READ_WRITE),
    Rule(
        &["gateway.networking.k8s.io"],
        &["gateways", "httproutes", "referencegrants"],
        WRITE,
    ),
    Rule(&["networking.k8s.io"], &["ingresses", "networkpolicies"], WRITE),
    Rule(&["policy"], &["poddisruptionbudgets"], WRITE),
    Rule(
        &["resource.k8s.io"],
        &["resourceclaims", "resourceclaimtemplates"],
        WRITE,
    ),
];

const ADMIN: &[Rule] = &[
    Rule(&["authorization.k8s.io"], &["localsubjectaccessreviews"], &["create"]),
    Rule(&[RBAC], &["rolebindings", "roles"], READ_WRITE),
];

/// Every role with the bindings that come with it.
pub(super) fn cluster_roles() -> Vec<(Value, Vec<Value>)> {
    let mut roles = people();
    roles.extend(everybody());
    roles.extend(super::components::roles());
    roles
}

fn people() -> Vec<(Value, Vec<Value>)> {
    vec![
        (
            labelled(json!({"metadata": {"name": "cluster-admin"}, "rules": [
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ]})),
            vec![binding(
                "cluster-admin",
                "cluster-admin",
                &[("Group", "system:masters")],
            )],
        ),
        (part_of("view", role("system:aggregate-to-view", &[VIEW])), vec![]),
        (part_of("edit", role("system:aggregate-to-edit", &[EDIT])), vec![]),
        (part_of("admin", role("system:aggregate-to-admin", &[ADMIN])), vec![]),
        (part_of("edit", joined("view", role("view", &[VIEW]))), vec![]),
        (part_of("admin", joined("edit", role("edit", &[EDIT, VIEW]))), vec![]),
        (joined("admin", role("admin", &[ADMIN, EDIT, VIEW])), vec![]),
    ]
}

fn everybody() -> Vec<(Value, Vec<Value>)> {
    let public = [
        "/healthz",
        "/healthz/*",
        "/livez",
        "/livez/*",
        "/readyz",
        "/readyz/*",
        "/version",
        "/version/",
    ];
    let discovery = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    let monitoring = [
        "/healthz",
        "/healthz/*",
        "/livez",
        "/livez/*",
        "/metrics",
        "/metrics/slis",
        "/readyz",
        "/readyz/*",
    ];
    let issuer = [
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
    ];
    let paths = |name: &str, paths: &[&str]| {
        labelled(json!({"metadata": {"name": name}, "rules": [{"nonResourceURLs": paths, "verbs": ["get"]}]}))
    };
    let authenticated = ("Group", "system:authenticated");
    let itself = |name: &'static str, subjects: &[(&str, &str)]| vec![binding(name, name, subjects)];
    const REVIEWS: &[Rule] = &[
        Rule(
            &["authorization.k8s.io"],
            &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            &["create"],
        ),
        Rule(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
    ];
    vec![
        (
            paths("system:public-info-viewer", &public),
            itself(
                "system:public-info-viewer",
                &[authenticated, ("Group", "system:unauthenticated")],
            ),
        ),
        (
            paths("system:discovery", &discovery),
            itself("system:discovery", &[authenticated]),
        ),
        (
            paths("system:monitoring", &monitoring),
            itself("system:monitoring", &[("Group", "system:monitoring")]),
        ),
        (
            paths("system:service-account-issuer-discovery", &issuer),
            itself(
                "system:service-account-issuer-discovery",
                &[("Group", "system:serviceaccounts")],
            ),
        ),
        (
            role("system:basic-user", &[REVIEWS]),
            itself("system:basic-user", &[authenticated]),
        ),
    ]
}

pub(super) fn role(name: &str, rules: &[&[Rule]]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .flat_map(|rules| rules.iter())
        .map(|Rule(groups, resources, verbs)| json!({"apiGroups": groups, "resources": resources, "verbs": verbs}))
        .collect();
    labelled(json!({"metadata": {"name": name}, "rules": rules}))
}

/// With what marks an object as one of these, which are kept up to date at every start.
pub(super) fn labelled(mut object: Value) -> Value {
    coracle_api::object::set_label(&mut object, "kubernetes.io/bootstrapping", "rbac-defaults");
    coracle_api::object::set_annotation(&mut object, super::AUTO_UPDATE, "true");
    object
}

fn aggregate(role: &str) -> String {
    format!("{RBAC}/aggregate-to-{role}")
}

/// A role that is part of another one.
fn part_of(whole: &str, mut role: Value) -> Value {
    coracle_api::object::set_label(&mut role, &aggregate(whole), "true");
    role
}

/// A role that is put together from parts. It has its rules from the start; a controller keeps them up to date.
fn joined(name: &str, mut role: Value) -> Value {
    let mut labels = serde_json::Map::new();
    labels.insert(aggregate(name), json!("true"));
    let rule = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
    coracle_api::object::set(&mut role, "aggregationRule", rule);
    role
}

pub(super) fn binding(name: &str, role: &str, subjects: &[(&str, &str)]) -> Value {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(kind, name)| json!({"kind": kind, "name": name, "apiGroup": RBAC}))
        .collect();
    labelled(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    }))
}
