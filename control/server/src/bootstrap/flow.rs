//! The priority levels and flow schemas that every cluster has: those that cannot be done without, and the suggested ones.
//!
//! What an administrator changes stays, once the annotation says that it is the administrator's.

use serde_json::{Value, json};

/// Says whether the server keeps an object's spec.
pub(super) const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// A level that shares the server: its name, shares, how many percent of them it lends, and its queues with hand size.
struct Level(&'static str, i64, i64, Option<(i64, i64)>);

const LEVELS: &[Level] = &[
    Level("catch-all", 5, 0, None),
    Level("global-default", 20, 50, Some((128, 6))),
    Level("leader-election", 10, 0, Some((16, 4))),
    Level("node-high", 40, 25, Some((64, 6))),
    Level("system", 30, 33, Some((64, 6))),
    Level("workload-high", 40, 50, Some((128, 6))),
    Level("workload-low", 100, 90, Some((128, 6))),
];

/// The levels.
pub(super) fn levels() -> Vec<Value> {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let limited = LEVELS.iter().map(|Level(name, shares, lendable, queues)| {
        let response = match queues {
            None => json!({"type": "Reject"}),
            Some((queues, hand)) => {
                json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}})
            }
        };
        let limited =
            json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
        kept(name, json!({"type": "Limited", "limited": limited}))
    });
    std::iter::once(kept("exempt", exempt)).chain(limited).collect()
}

/// The schemas: who falls into which level, in the order of precedence.
pub(super) fn schemas() -> Vec<Value> {
    let everybody = || vec![group("system:unauthenticated"), group("system:authenticated")];
    let leases = || {
        json!([about(
            &["get", "create", "update"],
            "coordination.k8s.io",
            &["leases"],
            false
        )])
    };
    let managers = || vec![user("system:kube-controller-manager"), user("system:kube-scheduler")];
    let with = |mut subjects: Vec<Value>, more: Value| {
        subjects.push(more);
        subjects
    };
    vec![
        schema("exempt", 1, "exempt", None, vec![group("system:masters")], anything()),
        schema(
            "probes",
            2,
            "exempt",
            None,
            everybody(),
            json!({"nonResourceRules": [
                {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]},
            ]}),
        ),
        schema(
            "system-leader-election",
            100,
            "leader-election",
            Some("ByUser"),
            with(managers(), account("*")),
            json!({"resourceRules": leases()}),
        ),
        schema(
            "endpoint-controller",
            150,
            "workload-high",
            Some("ByUser"),
            vec![
                user("system:kube-controller-manager"),
                account("endpoint-controller"),
                account("endpointslicemirroring-controller"),
            ],
            json!({"resourceRules": [about(&["get", "create", "update"], "", &["endpoints"], false)]}),
        ),
        schema(
            "workload-leader-election",
            200,
            "leader-election",
            Some("ByUser"),
            vec![account("*")],
            json!({"resourceRules": leases()}),
        ),
        schema(
            "system-node-high",
            400,
            "node-high",
            Some("ByUser"),
            vec![group("system:nodes")],
            json!({"resourceRules": [
                about(&["*"], "", &["nodes", "nodes/status"], true),
                about(&["*"], "coordination.k8s.io", &["leases"], false),
            ]}),
        ),
        schema(
            "system-nodes",
            500,
            "system",
            Some("ByUser"),
            vec![group("system:nodes")],
            anything(),
        ),
        schema(
            "kube-controller-manager",
            800,
            "workload-high",
            Some("ByNamespace"),
            vec![user("system:kube-controller-manager")],
            anything(),
        ),
        schema(
            "kube-scheduler",
            800,
            "workload-high",
            Some("ByNamespace"),
            vec![user("system:kube-scheduler")],
            anything(),
        ),
        schema(
            "kube-system-service-accounts",
            900,
            "workload-high",
            Some("ByNamespace"),
            vec![account("*")],
            anything(),
        ),
        schema(
            "service-accounts",
            9000,
            "workload-low",
            Some("ByUser"),
            vec![group("system:serviceaccounts")],
            anything(),
        ),
        schema(
            "global-default",
            9900,
            "global-default",
            Some("ByUser"),
            everybody(),
            anything(),
        ),
        schema(
            "catch-all",
            10_000,
            "catch-all",
            Some("ByUser"),
            everybody(),
            anything(),
        ),
    ]
}

fn schema(
    name: &str,
    precedence: i64,
    level: &str,
    distinguisher: Option<&str>,
    subjects: Vec<Value>,
    rules: Value,
) -> Value {
    let mut rule = rules;
    coracle_api::object::set(&mut rule, "subjects", Value::Array(subjects));
    let mut spec = json!({
        "matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level}, "rules": [rule],
    });
    if let Some(method) = distinguisher {
        coracle_api::object::set(&mut spec, "distinguisherMethod", json!({"type": method}));
    }
    kept(name, spec)
}

fn kept(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}}, "spec": spec})
}

fn anything() -> Value {
    json!({
        "resourceRules": [about(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn about(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        coracle_api::object::set(&mut rule, "clusterScope", Value::Bool(true));
    }
    rule
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}})
}
