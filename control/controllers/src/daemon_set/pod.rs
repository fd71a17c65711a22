//! The pods of a DaemonSet: each is for one node, and is there also where others are not let in.

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod, PodSpec, Toleration},
};
use serde_json::{Value, json};

use crate::{history, merge, placement, plan::controller_of, pods, resource::DAEMON_SETS, template};

/// Conditions of a node that its daemons must outlast.
const NO_EXECUTE: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const NO_SCHEDULE: [&str; 4] = [
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
];
const NO_NETWORK: &str = "node.kubernetes.io/network-unavailable";

/// The tolerations of a daemon with that specification.
#[must_use]
pub fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let host = spec.host_network == Some(true);
    let schedule = NO_SCHEDULE.into_iter().chain(host.then_some(NO_NETWORK));
    let wanted = NO_EXECUTE.map(|key| (key, "NoExecute")).into_iter();
    for (key, effect) in wanted.chain(schedule.map(|key| (key, "NoSchedule"))) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
    all
}

/// Whether a daemon belongs on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It should run there.
    Run,
    /// It may go on, but none is started.
    Stay,
    /// It must not be there.
    Leave,
}

/// Whether a daemon of that set belongs on the node.
#[must_use]
pub fn place(ds: &DaemonSet, node: &Node) -> Place {
    let Some(spec) = ds.spec.as_ref().and_then(|s| s.template.spec.as_ref()) else {
        return Place::Leave;
    };
    if !placement::wants(spec, node) {
        return Place::Leave;
    }
    let tolerations = tolerations(spec);
    let covers = |effect| {
        placement::taints(node, effect).all(|taint| tolerations.iter().any(|t| placement::tolerates(t, taint)))
    };
    match (covers("NoExecute"), covers("NoSchedule")) {
        (true, true) => Place::Run,
        (true, false) => Place::Stay,
        (false, _) => Place::Leave,
    }
}

/// The node that a daemon runs on or is meant for.
#[must_use]
pub fn node_of(pod: &Pod) -> Option<String> {
    if let Some(node) = pods::node(pod) {
        return Some(node.to_owned());
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let mut named = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    named.next()?.values.as_ref()?.first().cloned()
}

/// The daemon for that node, of the revision with that hash.
#[must_use]
pub fn of(ds: &DaemonSet, hash: &str, node: &str) -> Value {
    let from = ds.spec.as_ref().map(|spec| &spec.template);
    let mut pod = template::pod(from, &controller_of(&DAEMON_SETS, &ds.metadata));
    let name = ds.metadata.name.as_deref().unwrap_or_default();
    template::set(&mut pod, &["metadata", "generateName"], format!("{name}-").into());
    template::set(&mut pod, &["metadata", "labels", history::LABEL], hash.into());
    if let Some(spec) = from.and_then(|t| t.spec.as_ref()) {
        template::set(&mut pod, &["spec", "tolerations"], merge::value(&tolerations(spec)));
    }
    // The scheduler binds it: the node is asked for, not given.
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let path = [
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    ];
    template::set(
        &mut pod,
        &path,
        json!({"nodeSelectorTerms": [{"matchFields": [field]}]}),
    );
    pod
}
