//! The roles that every cluster has. The names are those of Kubernetes; the rules are what Coracle's own parts need under
//! these names, and for people what they may expect of them.

use serde_json::{Value, json};

/// A rule: groups, resources, verbs.
struct Rule(
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &["*"];
const RBAC: &str = "rbac.authorization.k8s.io";

/// Every role with the bindings that come with it.
pub(super) fn cluster_roles() -> Vec<(Value, Vec<Value>)> {
    let mut roles = people();
    roles.extend(everybody());
    roles.extend(components());
    roles
}

fn people() -> Vec<(Value, Vec<Value>)> {
    let view: &[Rule] = &[
        Rule(
            &[""],
            &[
                "bindings",
                "configmaps",
                "endpoints",
                "events",
                "limitranges",
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
                "namespaces",
                "namespaces/status",
            ],
            READ,
        ),
        Rule(&["apps"], &["*"], READ),
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
    let edit: &[Rule] = &[
        Rule(&[""], &["secrets"], READ),
        Rule(
            &[""],
            &[
                "configmaps",
                "endpoints",
                "events",
                "persistentvolumeclaims",
                "pods",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "secrets",
                "serviceaccounts",
                "services",
            ],
            WRITE,
        ),
        Rule(
            &[""],
            &["pods/attach", "pods/eviction", "pods/exec", "pods/portforward"],
            &["create", "get"],
        ),
        Rule(
            &[""],
            &["pods/proxy", "services/proxy"],
            &["create", "delete", "get", "patch", "update"],
        ),
        Rule(
            &["apps"],
            &[
                "daemonsets",
                "deployments",
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
        Rule(&["networking.k8s.io"], &["ingresses", "networkpolicies"], WRITE),
        Rule(&["policy"], &["poddisruptionbudgets"], WRITE),
        Rule(
            &["resource.k8s.io"],
            &["resourceclaims", "resourceclaimtemplates"],
            WRITE,
        ),
        Rule(&["coordination.k8s.io"], &["leases"], ALL),
    ];
    let admin: &[Rule] = &[Rule(&[RBAC], &["roles", "rolebindings"], ALL)];
    vec![
        (
            json!({"metadata": {"name": "cluster-admin"}, "rules": [
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ]}),
            vec![binding(
                "cluster-admin",
                "cluster-admin",
                &[("Group", "system:masters")],
            )],
        ),
        (role("view", &[view]), vec![]),
        (role("edit", &[view, edit]), vec![]),
        (role("admin", &[view, edit, admin]), vec![]),
    ]
}

fn everybody() -> Vec<(Value, Vec<Value>)> {
    let public = [
        "/healthz",
        "/livez",
        "/readyz",
        "/healthz/*",
        "/livez/*",
        "/readyz/*",
        "/version",
        "/version/",
    ];
    let discovery = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"];
    let discovery: Vec<&str> = public.iter().chain(&discovery).copied().collect();
    let authenticated = ("Group", "system:authenticated");
    let reviews: &[Rule] = &[
        Rule(
            &["authorization.k8s.io"],
            &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            &["create"],
        ),
        Rule(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
    ];
    vec![
        (
            json!({"metadata": {"name": "system:public-info-viewer"}, "rules": [{"nonResourceURLs": public, "verbs": ["get"]}]}),
            vec![binding(
                "system:public-info-viewer",
                "system:public-info-viewer",
                &[authenticated, ("Group", "system:unauthenticated")],
            )],
        ),
        (
            json!({"metadata": {"name": "system:discovery"}, "rules": [{"nonResourceURLs": discovery, "verbs": ["get"]}]}),
            vec![binding("system:discovery", "system:discovery", &[authenticated])],
        ),
        (
            role("system:basic-user", &[reviews]),
            vec![binding("system:basic-user", "system:basic-user", &[authenticated])],
        ),
    ]
}

fn components() -> Vec<(Value, Vec<Value>)> {
    let events = || Rule(&["", "events.k8s.io"], &["events"], &["create", "patch", "update"]);
    let leases = || {
        Rule(
            &["coordination.k8s.io"],
            &["leases"],
            &["create", "get", "list", "patch", "update", "watch"],
        )
    };
    // Garbage collection and the emptying of namespaces reach every kind.
    let controllers: &[Rule] = &[
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
                "secrets",
                "serviceaccounts",
            ],
            &["create"],
        ),
        Rule(&["batch"], &["jobs"], &["create"]),
        Rule(&["networking.k8s.io"], &["ipaddresses", "servicecidrs"], &["create"]),
        Rule(&["resource.k8s.io"], &["resourceclaims"], &["create"]),
        Rule(&["storage.k8s.io"], &["volumeattachments"], &["create"]),
        Rule(
            &["certificates.k8s.io"],
            &["certificatesigningrequests/approval"],
            &["get", "patch", "update"],
        ),
        Rule(&["certificates.k8s.io"], &["signers"], &["approve", "sign"]),
        Rule(&["apps"], &["replicasets", "controllerrevisions"], &["create"]),
        Rule(&["discovery.k8s.io"], &["endpointslices"], &["create"]),
        Rule(
            &["*"],
            &["*/status", "*/finalizers", "*/scale", "*/finalize"],
            &["get", "patch", "update"],
        ),
        events(),
        leases(),
    ];
    let scheduler: &[Rule] = &[
        Rule(
            &[""],
            &[
                "namespaces",
                "nodes",
                "pods",
                "services",
                "replicationcontrollers",
                "persistentvolumeclaims",
                "persistentvolumes",
            ],
            READ,
        ),
        Rule(&["apps"], &["replicasets", "statefulsets"], READ),
        Rule(&["policy"], &["poddisruptionbudgets"], READ),
        Rule(&["scheduling.k8s.io", "storage.k8s.io"], &["*"], READ),
        Rule(
            &["resource.k8s.io"],
            &["deviceclasses", "resourceclaims", "resourceslices"],
            READ,
        ),
        Rule(
            &["resource.k8s.io"],
            &["resourceclaims", "resourceclaims/status"],
            &["patch", "update"],
        ),
        Rule(
            &[""],
            &["persistentvolumeclaims", "persistentvolumes"],
            &["patch", "update"],
        ),
        Rule(&[""], &["pods"], &["delete"]),
        Rule(&[""], &["pods/binding", "bindings"], &["create"]),
        Rule(&[""], &["pods/status"], &["patch", "update"]),
        events(),
        leases(),
    ];
    let node: &[Rule] = &[
        Rule(
            &[""],
            &["nodes"],
            &["create", "get", "list", "patch", "update", "watch"],
        ),
        Rule(&[""], &["nodes/status"], &["patch", "update"]),
        Rule(&[""], &["pods"], &["create", "delete", "get", "list", "watch"]),
        Rule(&[""], &["pods/status"], &["get", "patch", "update"]),
        Rule(&[""], &["pods/eviction"], &["create"]),
        Rule(
            &[""],
            &[
                "configmaps",
                "secrets",
                "services",
                "endpoints",
                "serviceaccounts",
                "namespaces",
            ],
            READ,
        ),
        Rule(&["node.k8s.io", "storage.k8s.io"], &["*"], READ),
        Rule(
            &["coordination.k8s.io"],
            &["leases"],
            &["create", "delete", "get", "list", "patch", "update", "watch"],
        ),
        events(),
    ];
    // What turns Services into a data path reads Services and their endpoints, on every node under this one name.
    let proxier: &[Rule] = &[
        Rule(&[""], &["nodes", "services", "endpoints"], READ),
        Rule(&["discovery.k8s.io"], &["endpointslices"], READ),
        events(),
    ];
    let user = |name| [("User", name)];
    vec![
        (
            role("system:kube-controller-manager", &[controllers]),
            vec![binding(
                "system:kube-controller-manager",
                "system:kube-controller-manager",
                &user("system:kube-controller-manager"),
            )],
        ),
        (
            role("system:kube-scheduler", &[scheduler]),
            vec![binding(
                "system:kube-scheduler",
                "system:kube-scheduler",
                &user("system:kube-scheduler"),
            )],
        ),
        (
            role("system:node-proxier", &[proxier]),
            vec![binding(
                "system:node-proxier",
                "system:node-proxier",
                &user("system:kube-proxy"),
            )],
        ),
        (
            role("system:node", &[node]),
            vec![binding("system:node", "system:node", &[("Group", "system:nodes")])],
        ),
    ]
}

fn role(name: &str, rules: &[&[Rule]]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .flat_map(|rules| rules.iter())
        .map(|Rule(groups, resources, verbs)| json!({"apiGroups": groups, "resources": resources, "verbs": verbs}))
        .collect();
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}, "rules": rules})
}

fn binding(name: &str, role: &str, subjects: &[(&str, &str)]) -> Value {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(kind, name)| json!({"kind": kind, "name": name, "apiGroup": RBAC}))
        .collect();
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}
